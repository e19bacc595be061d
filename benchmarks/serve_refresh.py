"""What changing a server's weights costs its requests: in place, back again, and by another engine loaded beside.

    python -m benchmarks.serve_refresh
    python -m benchmarks.serve_refresh --device cuda --checkpoint MODEL

Starts `octorec serve`, finds its capacity and asks for a share of it (Poisson), while an operator changes the weights
to those of a checkpoint that differs from the first by a little noise. A row a change, and one of the load alone. Ends
with 1 where a request was lost, or answered by a version that was not there.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import torch
from safetensors.torch import load_file, save_file

from benchmarks import program, records
from benchmarks.overload_load import capacity, requests
from benchmarks.overload_model import save_demo_size
from benchmarks.rows.refresh import RefreshRow
from benchmarks.serve_soak import serving
from benchmarks.wire import Answer, Wire
from octorec.catalog.catalog import Catalog
from octorec.kernels.device import open_device

NOISE = 0.01  # of each weight: its standard deviation
FIRST, OTHER = "first", "other"
AFTER_S, CALM_S = 1.0, 10.0
CHANGES = (  # what it is, its path, its body, the version that answers then
    ("in place", "/v1/model", {"version": OTHER, "in_place": True}, OTHER),
    ("rollback", "/v1/model/rollback", None, FIRST),
    ("beside", "/v1/model", {"version": OTHER}, OTHER),
)


@dataclass(frozen=True)
class Change:
    """A Change of weights, and when it began and ended, by time.perf_counter(). before, after: what answers."""

    name: str
    before: str
    after: str
    begun: float
    ended: float
    refresh: dict[str, Any]


def save_near(folder: Path, out: Path, seed: int = 0) -> None:
    """Copy a checkpoint, with a little noise on all weights but FP8 values and scales; its catalog stays."""
    shutil.copytree(folder, out)
    generator = torch.Generator().manual_seed(seed)
    for path in out.glob("*.safetensors"):
        tensors = load_file(path)
        for name, tensor in tensors.items():
            if tensor.itemsize > 1 and not name.endswith(("_scale", "_scale_inv")):
                noise = torch.randn(tensor.shape, generator=generator)
                tensors[name] = (tensor.float() * (1 + NOISE * noise)).to(tensor.dtype)
        save_file(tensors, path, metadata={"format": "pt"})


async def ask(wire: Wire, sent: Sequence[bytes], rate: float, end: asyncio.Event, seed: int = 0) -> list[Answer]:
    """Send requests when they are due (Poisson) until `end`; return their answers."""
    chance, tasks = random.Random(seed), list[asyncio.Task[Answer]]()
    due = time.perf_counter()
    while not end.is_set():
        due += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(wire.ask(sent[len(tasks) % len(sent)], due)))
    return await asyncio.gather(*tasks)


async def operate(admin: httpx.AsyncClient) -> list[Change]:
    """Make every change, with a calm time before each; the first Change is none."""
    begun = time.perf_counter()
    await asyncio.sleep(2 * CALM_S)
    found = [Change("none", FIRST, FIRST, begun, time.perf_counter() - AFTER_S, {})]
    for name, path, body, after in CHANGES:
        begun = time.perf_counter()
        answer = await admin.post(path, json=body)
        answer.raise_for_status()
        refresh = answer.json()["refresh"] or {}
        found.append(Change(name, found[-1].after, after, begun, time.perf_counter(), refresh))
        await asyncio.sleep(CALM_S)
    return found


def mixed(answers: Sequence[Answer], changes: Sequence[Change]) -> list[Answer]:
    """Answers of a version that was not there between the request and its answer."""
    return [
        one for one in answers if one.status == "200" and orjson.loads(one.body)["model"] not in _could(one, changes)
    ]


def _could(answer: Answer, changes: Sequence[Change]) -> set[str]:
    due, could = answer.at - answer.seconds, {FIRST}
    for change in changes:
        if answer.at >= change.begun:
            could = {change.after} if due > change.ended else could | {change.after}
    return could


async def run(
    port: int, admin_port: int, sent: Sequence[bytes], share: float
) -> tuple[float, list[Answer], list[Change]]:
    """Return the server's capacity, all answers at `share` of it, and the changes that were made meanwhile."""
    most = await capacity(port, sent, 8, at_once=16)
    wire, end = Wire(port), asyncio.Event()
    asking = asyncio.create_task(ask(wire, sent, share * most, end))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin_port}", timeout=600) as admin:
        try:
            changes = await operate(admin)
        finally:
            end.set()
            answers = await asking
    wire.close()
    return most, answers, changes


def rows(
    most: float, share: float, answers: Sequence[Answer], changes: Sequence[Change], **about: Any
) -> list[RefreshRow]:
    """A row of each change."""
    wrong = {*map(id, mixed(answers, changes))}
    found = []
    for change in changes:
        here = [one for one in answers if change.begun <= one.at - one.seconds <= change.ended + AFTER_S]
        times = np.array([one.seconds * 1e3 for one in here])
        p50, p99 = (round(float(value), 1) for value in np.percentile(times, (50, 99)))
        row = RefreshRow(
            change=change.name,
            capacity_per_s=round(most, 1),
            rate=round(share * most, 1),
            seconds=round(change.ended - change.begun, 2) if change.name != "none" else 0.0,
            paused_s=change.refresh.get("paused_s"),
            compared=change.refresh.get("requests", 0),
            overlap=change.refresh.get("overlap"),
            mean_drift=change.refresh.get("mean_drift"),
            asked=len(here),
            lost=sum(one.status != "200" for one in here),
            mixed=sum(id(one) in wrong for one in here),
            p50_ms=p50,
            p99_ms=p99,
            max_ms=round(float(times.max()), 1),
            cores=os.cpu_count() or 1,
            load=round(os.getloadavg()[0], 1),
            **about,
        )
        found.append(row)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpoint", type=Path, help="a folder with its catalog; the demo's size if not given")
    parser.add_argument("--beam-width", type=int, default=32)
    parser.add_argument("--share", type=float, default=0.6, help="of the capacity, to ask for")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "serve_refresh.jsonl")
    options = parser.parse_args()
    open_device(options.device)
    with tempfile.TemporaryDirectory() as scratch:
        first, port, admin_port = Path(scratch) / FIRST, free_port(), free_port()
        if options.checkpoint is None:
            save_demo_size(first)
        else:
            shutil.copytree(options.checkpoint, first)
        save_near(first, Path(scratch) / OTHER)
        items = Catalog.load(first / "catalog").item_ids
        width = str(options.beam_width)
        command = [sys.executable, "-m", "octorec", "serve", str(first), "--device", options.device, "--port"]
        command += [str(port), "--admin-port", str(admin_port), "--model-root", scratch, "--no-log-requests"]
        command += ["--beam-widths", width, "--default-beam-width", width]
        with serving(command):
            found = asyncio.run(run(port, admin_port, requests(items), options.share))
        name = "demo size" if options.checkpoint is None else options.checkpoint.name
        size = round(sum(path.stat().st_size for path in first.glob("*.safetensors")) / 1e6, 1)
        about = {"checkpoint": name, "device": options.device, "weights_mb": size, "beam_width": options.beam_width}
        made = rows(found[0], options.share, *found[1:], **about)
    for row in made:
        records.append(options.out, row)
        print(json.dumps(records.as_json(row)), flush=True)
    sys.exit(any(row.lost or row.mixed for row in made))


if __name__ == "__main__":
    program.run(main)
