"""What HTTP in processes of its own costs and gives on one machine: memory of all processes, and requests a second.

    python -m benchmarks.serve_processes memory
    python -m benchmarks.serve_processes rate --checkpoint runs/demo/fp8

Memory is the proportional set size of every process of a server, of a page that several share its share, with a
catalog of a million items and after some answers. The rate is what a server answers while requests are always on their
way, with 0, 1 and 2 workers by turns.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks import records
from benchmarks.flood import workers_of
from benchmarks.grpc_calls import save_checkpoint
from benchmarks.overload_load import capacity, requests
from benchmarks.program import run
from benchmarks.rows import ProcessesRow, WorkersRateRow
from benchmarks.serve_soak import serving
from benchmarks.wire import Wire
from octorec.catalog.catalog import Catalog

ASKED = 400  # requests before memory is looked at
MB = 1e6
PRIVATE = ("Private_Clean", "Private_Dirty")


def command(checkpoint: Path, http_workers: int, *flags: str) -> list[str]:
    line = [sys.executable, "-m", "octorec", "serve", str(checkpoint), "--port", "0", "--no-log-requests"]
    return [*line, "--http-workers", str(http_workers), *flags]


def sizes(process: psutil.Process) -> tuple[float, float]:
    """The proportional set size of a process, and what of it no other process has: 10^6 bytes."""
    found = dict(line.split()[:2] for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:])
    pss, own = (sum(int(found[f"{name}:"]) for name in names) for names in (("Pss",), PRIVATE))
    return pss * 1024 / MB, own * 1024 / MB


def memory(n_items: int, http_workers: int) -> ProcessesRow:
    """Start a server with a catalog of `n_items`, ask it, and look at the memory of all of its processes."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        save_checkpoint(checkpoint, n_items)
        flags = ("--batch-sizes", "1,8", "--beam-widths", "32", "--default-beam-width", "32")
        with serving(command(checkpoint, http_workers, *flags)) as (url, pid):
            items = Catalog.load(checkpoint / "catalog").item_ids[:10_000]
            answered = asyncio.run(asked(int(url.rpartition(":")[2]), items))
            first = psutil.Process(pid)
            workers = [sizes(one) for one in workers_of(pid)]
            total = sum(sizes(one)[0] for one in [first, *first.children(recursive=True)])
            mapped = {
                one.path for worker in workers_of(pid) for one in worker.memory_maps() if "/catalogs/" in one.path
            }
            return ProcessesRow(
                http_workers=http_workers,
                n_items=n_items,
                total_mb=round(total, 1),
                engine_mb=round(sizes(first)[0], 1),
                worker_mb=round(statistics.mean(one[0] for one in workers), 1) if workers else None,
                worker_own_mb=round(statistics.mean(one[1] for one in workers), 1) if workers else None,
                catalog_mb=round(sum(map(os.path.getsize, mapped)) / MB, 1) if workers else None,
                requests=answered,
            )


async def asked(port: int, items: list[str]) -> int:
    """Ask over many connections, so that every worker has some; return the number of answers."""
    wire = Wire(port)
    answers = await wire.flood(requests(items, n=ASKED), 32, 10)
    wire.close()
    return sum(answer.status == "200" for answer in answers)


def rates(checkpoint: Path, rounds: int, seconds: float, at_once: int, beam_width: int) -> list[WorkersRateRow]:
    """What servers with 0, 1 and 2 workers answer at most, by turns; one of them runs at a time."""
    items, found = Catalog.load(checkpoint / "catalog").item_ids, dict[int, list[float]]()
    flags = ("--beam-widths", str(beam_width), "--default-beam-width", str(beam_width))
    for number in range(rounds):
        for workers in (0, 1, 2):
            with serving(command(checkpoint, workers, *flags)) as (url, _):
                per_s = asyncio.run(capacity(int(url.rpartition(":")[2]), requests(items), seconds, at_once))
            found.setdefault(workers, []).append(round(per_s, 2))
            print(f"round {number}: {workers} workers: {per_s:.1f}/s, load {os.getloadavg()[0]:.1f}", flush=True)
    return [
        WorkersRateRow(
            checkpoint=checkpoint.name,
            http_workers=workers,
            per_s=round(statistics.median(per_s), 1),
            rounds=tuple(per_s),
            over_none=round(statistics.median(a / b for a, b in zip(per_s, found[0], strict=True)), 3),
            at_once=at_once,
            seconds=seconds,
            beam_width=beam_width,
            cores=os.cpu_count() or 1,
            load=round(os.getloadavg()[0], 1),
        )
        for workers, per_s in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "rate"))
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/demo/fp8"), help="of rate")
    parser.add_argument("--items", type=int, default=1_000_000, help="of memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--at-once", type=int, default=48)
    parser.add_argument("--beam-width", type=int, default=32)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "serve_processes.jsonl")
    options = parser.parse_args()
    if options.what == "memory":
        for workers in (0, 1, 3):
            row = memory(options.items, workers)
            records.append(options.out, row)
            print(f"{workers} workers: {row.total_mb:.0f} MB in all, a worker {row.worker_mb}, own {row.worker_own_mb}")
        return
    for one in rates(options.checkpoint, options.rounds, options.seconds, options.at_once, options.beam_width):
        records.append(options.out, one)
        print(f"{one.http_workers} workers: {one.per_s}/s, {one.over_none} of none")


if __name__ == "__main__":
    run(main)
