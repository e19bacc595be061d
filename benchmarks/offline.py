"""Every user of a table answered offline: the share of the device's rate, the memory, and what a kill costs.

    python -m benchmarks.offline                     # the demo's size on this machine's CPU: some 10 minutes
    python -m benchmarks.offline --device cuda --users 1000000 --beam-width 64 --batch-size 128

On the CPU `octorec recommend-all` runs in a process of its own over 5,000 and over `--users` users (20,000), then again
while it is killed (-9) and gone on with; its anonymous memory is looked at ten times a second. On a GPU the large model
of random weights in FP8 answers in this process, with a million items.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch

from benchmarks import records
from benchmarks.overload_model import save_demo_size
from benchmarks.program import run
from benchmarks.random_model import random_catalog, random_model
from benchmarks.rows import OfflineRow
from benchmarks.timer import time_gpu
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.kernels.device import open_device, ops_for
from octorec.models.presets import preset
from octorec.offline.answers import read_answers
from octorec.offline.config import OfflineConfig
from octorec.offline.run import Job, recommend_all

FEWER = 5000  # users of the first run on the CPU: memory must not depend on how many they are
LARGE, N_ITEMS = "moe-4b-a0.5b", 1_000_000
EVERY_S = 0.1  # seconds between two looks at a process's memory
ROW_GROUP = 2**16  # users of a row group of the table


def write_users(path: Path, items: Sequence[str], users: int, longest: int, shortest: int = 1, seed: int = 0) -> float:
    """Write a table of users, some at a time; returns the mean length of a history. A few items are most."""
    draw, known = np.random.default_rng(seed), pa.array(items, pa.string())
    schema, met = pa.schema({"user_id": pa.string(), "history": pa.list_(pa.string())}), 0
    with pyarrow.parquet.ParquetWriter(path, schema) as file:
        for start in range(0, users, ROW_GROUP):
            count = min(ROW_GROUP, users - start)
            ends = np.concatenate([[0], draw.integers(shortest, longest + 1, count).cumsum()]).astype(np.int32)
            places = (len(known) * draw.random(ends[-1], np.float32) ** 4).astype(np.int32).clip(max=len(known) - 1)
            histories = pa.ListArray.from_arrays(pa.array(ends), known.take(pa.array(places)))
            ids = [f"u{number}" for number in range(start, start + count)]
            file.write_table(pa.table([ids, histories], schema=schema))
            met += int(ends[-1])
    return met / users


def device_rate(engine: Engine, histories: Sequence[Sequence[str]], config: OfflineConfig) -> float:
    """Requests a second of full batches on a GPU, by a graph's replays alone."""
    asked = [Request(history, k=config.k, beam_width=config.beam_width) for history in histories[: config.batch_size]]
    parsed = [*engine.parse_all(asked)]
    engine.search(parsed)
    return config.batch_size / time_gpu(engine.captured(engine.bucket_of(parsed)).graph.replay, 60).median * 1e3


def share_on_cpu(job: Job, engine: Engine) -> float:
    """Answer a table in this process: the share of the time in which the CPU searched."""
    launch, waits = engine.launch, []

    def timed(parsed: Sequence[Any]) -> Any:
        wait = launch(parsed)

        def found() -> Any:
            start = time.perf_counter()
            result = wait()
            waits.append(time.perf_counter() - start)
            return result

        return found

    engine.launch = timed  # type: ignore[method-assign]
    done = recommend_all(job, engine=engine)
    return sum(waits) / done["seconds"]


def anonymous_mb(pid: int) -> float:
    """Anonymous memory of a process, 10^6 bytes; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(found[0].split()[1]) * 1024 / 1e6 if found else 0.0


def watched(job: Job, kill_at: int | None = None) -> tuple[dict[str, Any], float]:
    """Run `octorec recommend-all` once: what it says, and its most memory. kill_at: files at which it is killed."""
    config = job.config
    flags = {
        "data": job.data, "out": job.out, "k": config.k, "beam-width": config.beam_width,
        "batch-size": config.batch_size, "block-users": config.block_users,
    }  # fmt: skip
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    line = [sys.executable, "-m", "octorec", "recommend-all", str(job.checkpoint), *words, "--resume", "--json"]
    most = 0.0
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        while running.poll() is None:
            most = max(most, anonymous_mb(running.pid))
            if kill_at is not None and len([*job.out.glob("part-*")]) >= kill_at:
                os.kill(running.pid, signal.SIGKILL)
            time.sleep(EVERY_S)
        said = running.stdout.read() if running.stdout else ""
    return (json.loads(said) if said else {}), most


def on_cpu(folder: Path, config: OfflineConfig, users: int, out: Path) -> None:
    items = save_demo_size(folder / "model")
    for count in (FEWER, users):
        job = Job(folder / "model", folder / f"{count}.parquet", folder / f"recs-{count}", config)
        history = write_users(job.data, items, count, 100)
        if count == FEWER:
            share = share_on_cpu(replace(job, out=folder / "here"), job.engine())
        done, most = watched(job)
        add(out, config, "demo", "cpu", history, len(items), share, done, memory=most)
    killed = Job(job.checkpoint, job.data, folder / "killed", config)
    blocks = -(-users // config.block_users)
    for part in (0.3, 0.6):
        watched(killed, kill_at=max(1, round(part * blocks)))
    done, most = watched(killed)
    same = read_answers(killed.out).equals(read_answers(job.out))
    add(out, config, "demo", "cpu", history, len(items), share, done, memory=most, kills=2, same=same)


@torch.inference_mode()
def on_gpu(folder: Path, config: OfflineConfig, users: int, context: int, device: str, out: Path) -> None:
    dimensions = preset(LARGE)
    catalog = random_catalog(dimensions, N_ITEMS)
    limits = EngineConfig(**{**config.engine(), "max_context": context})
    engine = Engine(
        random_model(dimensions, "fp8", device=device), catalog, limits, device, ops_for(open_device(device))
    )
    engine.warm_up()
    job = Job(folder, folder / "users.parquet", folder / "recs", config, device=device)
    history = write_users(job.data, catalog.item_ids, users, context, context)
    first = next(pyarrow.parquet.ParquetFile(job.data).iter_batches(config.batch_size, columns=["history"]))
    rate = device_rate(engine, first.column("history").to_pylist(), config)
    done = recommend_all(job, engine=engine)
    share = done["answered"] / done["seconds"] / rate
    add(out, config, f"{LARGE} FP8", "cuda", history, N_ITEMS, share, done)


def add(
    out: Path,
    config: OfflineConfig,
    model: str,
    device: str,
    history: float,
    n_items: int,
    share: float,
    done: dict[str, Any],
    memory: float | None = None,
    kills: int = 0,
    same: bool | None = None,
) -> None:
    """Append a row and print it."""
    per_s = done["answered"] / done["seconds"]
    row = OfflineRow(
        device=device,
        model=model,
        users=done["users"],
        history=round(history, 1),
        n_items=n_items,
        k=config.k,
        beam_width=config.beam_width,
        batch_size=config.batch_size,
        block_users=config.block_users,
        kills=kills,
        same_rows=same,
        seconds=done["seconds"],
        users_per_s=round(per_s, 1),
        device_per_s=round(per_s / share, 1),
        share=round(share, 3),
        anonymous_mb=None if memory is None else round(memory, 1),
        load=round(os.getloadavg()[0], 2),
    )
    records.append(out, row)
    print(
        f"{row.users:,} users: {row.users_per_s}/s, {row.share:.0%} of {row.device_per_s}; {memory} MB; {same}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--k", type=int, default=OfflineConfig.k)
    parser.add_argument("--beam-width", default="32")
    parser.add_argument("--batch-size", type=int, default=OfflineConfig.batch_size)
    parser.add_argument("--block-users", type=int, default=1024)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "offline.jsonl")
    options = parser.parse_args()
    open_device(options.device)
    asked = {name: getattr(options, name) for name in ("k", "beam_width", "batch_size", "block_users")}
    config = OfflineConfig(**asked)
    with tempfile.TemporaryDirectory() as folder:
        if options.device == "cpu":
            on_cpu(Path(folder), config, options.users, options.out)
        else:
            on_gpu(Path(folder), config, options.users, options.context, options.device, options.out)


if __name__ == "__main__":
    run(main)
