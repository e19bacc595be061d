"""Experiments on real people's past, replayed through the real server, and judged by `octorec ab report`.

    python -m benchmarks.online_replay runs/demo                       # MovieLens-100K, as `make demo` leaves it
    python -m benchmarks.online_replay runs/shop --held-out 1 --users 3000

The folder holds bf16, fp8 and interactions.csv. Each user's newest interactions are asked for in the order of their
times, each with all that came before it as history; what a person takes next is an outcome (`hit`) of that request if
it was among the ten items shown. So it is a replay: what was shown changes nobody's next step, and only a variant that
finds it less often loses. EXPECTED stood in this file before the first run.
"""

import argparse
import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.program import run
from benchmarks.records import RESULTS, append, as_json
from benchmarks.rows import ReplayRow
from octorec.catalog.build import withdraw
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions, read_interactions
from octorec.data.splits import leave_last_out, targets_of
from octorec.data.users import read_users
from octorec.kernels.device import open_device

OUT = RESULTS / "online_replay.jsonl"
K = 10
BEAM = "32"  # as the demo judges its model
AT_ONCE = 32  # requests that wait for their answers
READY_S = 300.0
WINDOW = "1h"  # of the server's clock: a replay takes minutes
AFTER_S = 7200  # the report's clock: every window has passed
POPULAR = 200  # items that the catalog without the hits lacks
EXPECTED = {  # a few hundred users an arm cannot show a loss of 5 %: only what truly harms can be seen
    "bf16 twice": "inconclusive",
    "fp8": "inconclusive",
    "fp8, scales of other rows": "inferior",
    "fp8, scales not read": "inferior",
    "catalog without the popular": "inferior",
}


@dataclass(frozen=True)
class Step:
    """A user's next interaction, and all items before it."""

    user: str
    history: tuple[str, ...]
    target: str


def steps_of(interactions: Interactions, held_out: int) -> list[Step]:
    """Every held-out interaction, in the order of time."""
    _, examples = leave_last_out(interactions, held_out)
    times = interactions.table["timestamp"].to_numpy()[targets_of(interactions, held_out)]
    order = times.argsort(kind="stable")
    return [Step(examples[at].user_id, examples[at].history, examples[at].target) for at in order]


def of_users(steps: list[Step], users: int | None) -> list[Step]:
    """The steps of `users` of the people, evenly chosen over the order of their names."""
    names = sorted({step.user for step in steps})
    chosen = set(names[:: max(1, len(names) // users)][:users]) if users else set(names)
    return [step for step in steps if step.user in chosen]


def variants(folder: Path, scratch: Path) -> dict[str, dict[str, str]]:
    """What answers the treatment's half, by the names of EXPECTED."""
    catalog = Catalog.load(folder / "bf16" / "catalog")
    poor = withdraw(catalog, popular(folder, POPULAR, catalog))
    poor.save(scratch / "poor")
    opposite = with_scales(folder / "fp8", scratch / "opposite", lambda scale: torch.flip(scale, [0]).contiguous())
    ones = with_scales(folder / "fp8", scratch / "ones", torch.ones_like)
    made: list[dict[str, str]] = [
        {},
        {"checkpoint": str((folder / "fp8").resolve())},
        {"checkpoint": str(opposite)},
        {"checkpoint": str(ones)},
        {"catalog": str(scratch / "poor")},
    ]
    return dict(zip(EXPECTED, made, strict=True))


def popular(folder: Path, items: int, catalog: Catalog) -> list[str]:
    """The items with the most interactions."""
    counts = read_interactions(folder / "interactions.csv").table["item_id"].value_counts()
    ranked = sorted(counts.to_pylist(), key=lambda one: -one["counts"])
    return [one["values"] for one in ranked if one["values"] in catalog.index][:items]


def with_scales(checkpoint: Path, out: Path, read: Callable[[Tensor], Tensor]) -> Path:
    """The FP8 checkpoint as a reader would have it that gets `read(scale)` where it should have read a scale."""
    shutil.copytree(checkpoint, out)
    for path in out.glob("*.safetensors"):
        tensors = load_file(path)
        for name, scale in tensors.items():
            if name.endswith("weight_scale"):
                tensors[name] = read(scale)
        save_file(tensors, path, {"format": "pt"})
    return out


def experiment(name: str, treatment: Mapping[str, str], users: int) -> dict[str, Any]:
    """The experiment's file: one guardrail, which is the hits of a user in ten items, with a margin of 5 %."""
    return {
        "name": "".join(letter if letter.isalnum() else "-" for letter in name),
        "salt": f"replay of {name}",
        "unit": "user_id",
        "variants": {"control": {"share": "1/2"}, "treatment": {"share": "1/2", **treatment}},
        "metrics": {"hits": {"kind": "mean", "event": "hit", "window": WINDOW, "role": "guardrail", "margin": 0.05}},
        "plan": {"units": users},
    }


@asynccontextmanager
async def served(checkpoint: Path, file: Path, root: Path, log: Path, device: str) -> AsyncIterator[str]:
    """The address of `octorec serve` with the experiment; it is drained at the end."""
    command = [sys.executable, "-m", "octorec", "serve", str(checkpoint), "--port", "0", "--experiment", str(file)]
    command += ["--experiment-root", str(root), "--no-log-requests", "--batch-sizes", f"1,{AT_ONCE}"]
    command += ["--beam-widths", BEAM, "--default-beam-width", BEAM, "--device", device]
    with log.open("w") as to:
        process = subprocess.Popen(command, stderr=to)
    try:
        yield await _ready(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)


async def _ready(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        found = [line for line in lines if line.get("message") == "listening"]
        if found and any(line.get("message") == "ready" for line in lines):
            return f"http://{found[0]['host']}:{found[0]['port']}"
        if process.poll() is not None:
            break
        await asyncio.sleep(0.2)
    raise RuntimeError(f"the server is not ready:\n{log.read_text()[-2000:]}")


class Replay:
    """Sends steps in their order; a user's next one waits for the answer to the one before."""

    def __init__(self, address: str, users: Mapping[str, Mapping[str, Any]]):
        self.address, self.users = address, users
        self.hits = self.failed = 0
        self._locks: dict[str, asyncio.Lock] = {}

    async def run(self, steps: list[Step]) -> None:
        waiting: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession() as self.http:
            for number, step in enumerate(steps):
                if len(waiting) >= AT_ONCE:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                waiting.add(asyncio.create_task(self._step(number, step)))
            await asyncio.gather(*waiting)

    async def _step(self, number: int, step: Step) -> None:
        async with self._locks.setdefault(step.user, asyncio.Lock()):
            user = {**self.users.get(step.user, {}), "user_id": step.user}
            asked = {"history": step.history, "k": K, "exclude_seen": True, "user": user, "request_id": f"r{number}"}
            async with self.http.post(f"{self.address}/v1/recommend", json=asked) as answer:
                body = await answer.json()
            if answer.status != 200:
                self.failed += 1
            elif step.target in body["items"]:
                self.hits += 1
                outcome = {"request_id": f"r{number}", "event": "hit", "item": step.target}
                async with self.http.post(f"{self.address}/v1/outcomes", json=outcome) as taken:
                    assert taken.status == 202, await taken.text()


def report(folder: Path) -> dict[str, Any]:
    """What `octorec ab report` says once every window has passed; its exit code too."""
    now = str(int(time.time()) + AFTER_S)
    command = [sys.executable, "-m", "octorec", "ab", "report", str(folder), "--now", now]
    command += ["--empty"]  # nothing happens in the hour after the last outcome
    print(subprocess.run(command, capture_output=True, text=True).stdout, flush=True)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    if done.returncode not in (0, 3, 4, 5):
        raise RuntimeError(f"octorec ab report ended with {done.returncode}: {done.stderr[-2000:]}")
    return {"exit_code": done.returncode, **json.loads(done.stdout)}


async def measure(name: str, treatment: Mapping[str, str], options: argparse.Namespace, scratch: Path) -> ReplayRow:
    """A row: one experiment, from its file to its verdict."""
    folder = options.folder
    steps = of_users(steps_of(read_interactions(folder / "interactions.csv"), options.held_out), options.users)
    users = read_users(folder / "users.csv") if (folder / "users.csv").exists() else {}
    made = experiment(name, treatment, len({step.user for step in steps}))
    root = scratch / f"deployment of {made['name']}"  # one each: none of them is ended
    file = scratch / f"{made['name']}.yaml"
    file.write_text(yaml.safe_dump(made, sort_keys=False))
    root.mkdir(exist_ok=True)
    log = scratch / f"{made['name']}.log"
    async with served(folder / "bf16", file, root, log, options.device) as address:
        start = time.perf_counter()
        replay = Replay(address, users)
        await replay.run(steps)
        seconds = time.perf_counter() - start
    found = report(root / made["name"])
    return ReplayRow(
        set=folder.name,
        device=options.device,
        experiment=name,
        expected=EXPECTED[name],
        outcome=found["outcome"],
        users=len({step.user for step in steps}),
        requests=len(steps),
        hits=replay.hits,
        failed=replay.failed,
        seconds=round(seconds, 1),
        report=found,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-out", type=int, default=10, help="newest interactions of a user that are replayed")
    parser.add_argument("--users", type=int, help="only so many of the people")
    parser.add_argument("--device", default="cpu", help="of the server")
    parser.add_argument("--only", help="one experiment")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    open_device(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        for name, treatment in variants(options.folder, scratch).items():
            if options.only not in (None, name):
                continue
            row = asyncio.run(measure(name, treatment, options, scratch))
            append(options.out, row)
            print({key: value for key, value in as_json(row).items() if key != "report"}, flush=True)


if __name__ == "__main__":
    run(main)
