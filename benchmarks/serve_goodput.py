"""What `octorec serve` answers in time, with HTTP in processes of its own and over gRPC, beside its engine alone.

    python -m benchmarks.serve_goodput --device cuda
    python -m benchmarks.serve_goodput --checkpoint runs/demo/fp8 --history 50 --bounds 2000,4000

Starts the server itself, on a checkpoint or on one of random weights that it makes. Parts (`--rows`), each with its own
time: `k10`, narrow beams over HTTP, and `k512`, wide ones, with workers; `schedule` over gRPC, several histories a
call, which needs one process; `overhead`, what a request takes more than the engine while nobody else asks; `flood`, a
small model on the CPU asked for 50 times what it can do. The engine's own rate, of full batches, is measured first, in
this process and on the same device. A row each.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import orjson
import psutil
import torch

from benchmarks import records
from benchmarks.flood import flood, used
from benchmarks.goodput_search import Best, Look, search
from benchmarks.grpc_calls import free_port
from benchmarks.made_checkpoint import save_random
from benchmarks.program import run
from benchmarks.rows import FloodRow, GoodputRow, OverheadRow
from benchmarks.rows.serving import Quantiles
from benchmarks.serve_overhead import WARM_UP, pairs, row_of
from benchmarks.serve_soak import serving
from benchmarks.timer import time_on
from octorec.bench.config import BenchConfig
from octorec.bench.processes import askers
from octorec.bench.requests import bodies
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.engine.widths import Width, shown
from octorec.errors import InputError
from octorec.kernels.device import open_device
from octorec.progress import silent
from octorec.serve.service import keep_for_good, share_the_host

PARTS = ("k10", "k512", "schedule", "overhead", "flood")
PRESET, N_ITEMS = "moe-4b-a0.5b", 1_000_000


@dataclass(frozen=True)
class Shape:
    """A Shape is what is asked for. bounds_ms: within which p99 is to be, one after the other."""

    part: str
    k: int
    width: Width
    bounds_ms: tuple[float, ...]
    over_grpc: bool = False

    @property
    def last(self) -> int:
        return self.width if isinstance(self.width, int) else self.width[-1]


class Run:
    """A Run is one call of the program. left_s: until the whole of it is to be over."""

    def __init__(self, options: argparse.Namespace, checkpoint: Path, shapes: dict[str, Shape]):
        self.options, self.checkpoint, self.shapes = options, checkpoint, shapes
        self.end = time.monotonic() + options.most_s
        self.name = options.checkpoint.name if options.checkpoint else f"{options.preset}, random"
        self.sizes = [int(size) for size in options.batch_sizes.split(",")]
        self.widths = list(dict.fromkeys(shape.width for shape in shapes.values()))
        self.offline: dict[str, float] = {}  # requests a second, by part

    @cached_property
    def engine(self) -> Engine:
        limits: dict[str, Any] = {
            "batch_sizes": self.sizes,
            "beam_widths": self.widths,
            "default_beam_width": self.widths[0],
        }
        return load(self.checkpoint, None, self.options.device, max_rows=self.options.max_rows, **limits)

    @property
    def left_s(self) -> float:
        return max(1.0, self.end - time.monotonic())

    def batch(self, shape: Shape) -> int:
        """The largest batch of a shape."""
        return max(size for size in self.sizes if size == min(self.sizes) or size * shape.last <= self.options.max_rows)

    @torch.inference_mode()
    def offline_per_s(self, shape: Shape) -> float:
        """Requests a second of full batches, on the device alone."""
        size = self.batch(shape)
        asked = [orjson.loads(body) for body in bodies(self.bench(shape))[:size]]
        parsed = [self.engine.parse(Request(one["history"], k=shape.k, beam_width=shape.width)) for one in asked]
        self.engine.search(parsed)
        replay: Callable[[], object] = partial(self.engine.search, parsed)
        if self.options.device != "cpu":
            replay = self.engine.captured(self.engine.bucket_of(parsed)).graph.replay
        return size / time_on(self.options.device, replay, self.options.runs).median * 1e3

    def bench(self, shape: Shape) -> BenchConfig:
        options = self.options
        return BenchConfig(
            catalog=str(self.checkpoint / "catalog"),
            history_length=options.history,
            k=shape.k,
            beam_width=shape.width,
            request_rate=(1.0,),
            duration_s=options.seconds,
            warm_up_s=options.warm_up_s,
            processes=options.processes,
            rows_per_call=options.rows_per_call if shape.over_grpc else 1,
        )

    @contextmanager
    def served(self, *flags: str) -> Iterator[tuple[str, int]]:
        """Start a server of all shapes with these flags too: its URL and its process's id."""
        command = [sys.executable, "-m", "octorec", "serve", str(self.checkpoint), "--device", self.options.device]
        command += ["--port", "0", "--no-log-requests", "--batch-sizes", self.options.batch_sizes]
        command += ["--beam-widths", ",".join(shown(width) for width in self.widths)]
        command += ["--default-beam-width", shown(self.widths[0]), "--max-rows", str(self.options.max_rows)]
        began = time.monotonic()
        with serving([*command, *flags], min(self.options.ready_s, self.left_s)) as found:
            print(f"a server is ready after {time.monotonic() - began:.0f} s: {' '.join(flags)}", flush=True)
            yield found

    def keep(self, row: GoodputRow | FloodRow | OverheadRow) -> None:
        records.append(self.options.out, row)
        print(line(row), flush=True)


async def goodput(run: Run, shape: Shape, url: str, pid: int, http_workers: int) -> None:
    """Find the best rate within each bound of a shape; keep a row of each."""
    offline, config = run.offline[shape.part], run.bench(shape)
    async with askers(url, config) as several:
        assert several is not None, "two processes or more ask"

        async def ask(how: BenchConfig, rate: float) -> Look:
            before, began = used(all_of(pid)), time.perf_counter()
            loaded = await several.load(how, rate, silent)
            return Look(loaded, (used(all_of(pid)) - before) / (time.perf_counter() - began))

        for bound, best in await search(ask, offline, config, shape.bounds_ms):
            run.keep(goodput_row(run, shape, bound, best, http_workers))


def goodput_row(run: Run, shape: Shape, bound_ms: float, best: Best, http_workers: int) -> GoodputRow:
    """The row of the best rate within a bound."""
    row = best.row
    goodput = row.get("goodput_per_s", 0.0)

    def times(name: str) -> Quantiles | None:
        return Quantiles(**row[name]) if row.get(name) else None

    return GoodputRow(
        part=shape.part,
        checkpoint=run.name,
        device=run.options.device,
        k=shape.k,
        beam_width=shape.width,
        history=run.options.history,
        n_items=len(run.engine.catalog.item_ids),
        over="grpc" if shape.over_grpc else "http",
        rows_per_call=run.options.rows_per_call if shape.over_grpc else 1,
        http_workers=http_workers,
        bound_ms=bound_ms,
        offline_per_s=round(run.offline[shape.part], 1),
        offline_batch=run.batch(shape),
        asked_per_s=round(best.rate, 1),
        share=round(goodput / run.offline[shape.part], 3),
        within=row.get("within", False),
        refused=row.get("refused"),
        goodput_per_s=goodput,
        requests=row["requests"],
        errors=row.get("errors", {}),
        e2el_ms=times("e2el_ms"),
        queue_ms=times("queue_ms"),
        device_ms=times("device_ms"),
        outside_device_ms=times("outside_device_ms"),
        server_cores=round(best.server_cores, 2),
        processes=row["processes"],
        tool_busy=row["tool_busy"],
        cores=os.cpu_count() or 1,
        load=round(os.getloadavg()[0], 1),
    )


async def overhead(run: Run, url: str, http_workers: int) -> None:
    """Ask the server and the engine of this process by turns, with nothing else to do."""
    share_the_host()
    keep_for_good()
    config = run.bench(run.shapes["k10"])
    found = await pairs(url, run.engine, bodies(config)[: WARM_UP + run.options.pairs], config)
    run.keep(row_of(run.name, run.options.device, config, found, http_workers))


def all_of(pid: int) -> list[psutil.Process]:
    """All processes of a server."""
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def line(row: GoodputRow | FloodRow | OverheadRow) -> str:
    """What was measured, for a terminal."""
    if isinstance(row, OverheadRow):
        p50 = f"engine {row.engine_ms.p50:.2f}, server {row.server_ms.p50:.2f}"
        return f"overhead: the server adds {row.added_ms.p50:.2f} ms at p50, 95 % {row.interval_ms}; p50, ms: {p50}"
    p99 = "" if row.e2el_ms is None else f"; p50 {row.e2el_ms.p50:.1f}, p99 {row.e2el_ms.p99:.1f} ms"
    if isinstance(row, FloodRow):
        said = f"{row.served_per_s}/s of {row.capacity_per_s}/s ({row.share:.0%}), asked {row.asked_per_s}/s"
        return f"flood: {said}{p99}; a refusal {row.refusal_us} us; {row.statuses}"
    rates = f"{row.goodput_per_s:.0f}/s of {row.offline_per_s:.0f}/s offline ({row.share:.0%})"
    cores = f"server {row.server_cores} cores, tool {row.tool_busy:.0%} of one"
    held = "" if row.within else f"; NOT within ({row.refused or 'no lower rate was'})"
    return f"{row.part}, <= {row.bound_ms:g} ms over {row.over}: {rates}{p99}; {cores}{held}"


def parts(run: Run, wanted: list[str]) -> list[str]:
    """Measure every wanted part; the names of those that failed or ran out of time."""
    options, failed = run.options, list[str]()
    workers = str(options.http_workers)
    for shape in run.shapes.values():
        run.offline[shape.part] = run.offline_per_s(shape)
        rate = run.offline[shape.part]
        print(f"{shape.part}: {rate:.0f}/s offline, {run.batch(shape)} a batch", flush=True)

    @contextmanager
    def noted(*names: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # must not take the other parts with it
            print(f"{', '.join(names)} failed: {records.error_text(error)}", flush=True)
            failed.extend(names)

    def measured(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(min(options.part_s, run.left_s)):
                await work()

        with noted(name):
            asyncio.run(bounded())

    over_http = [name for name in ("overhead", "k10", "k512") if name in wanted]
    if over_http:
        with noted(*over_http), run.served("--http-workers", workers) as (url, pid):
            for name in over_http:
                if name == "overhead":
                    measured(name, lambda: overhead(run, url, options.http_workers))
                else:
                    shape = run.shapes[name]
                    measured(name, partial(goodput, run, shape, url, pid, options.http_workers))
    if "schedule" in wanted:
        port = free_port()
        with noted("schedule"), run.served("--grpc-port", str(port)) as (_, pid):
            measured("schedule", partial(goodput, run, run.shapes["schedule"], f"grpc://127.0.0.1:{port}", pid, 0))
    if "flood" in wanted:
        with noted("flood"), tempfile.TemporaryDirectory() as folder:
            row = flood(Path(folder) / "small", options.times, options.http_workers, options.flood_s, options.ready_s)
            run.keep(row)
    return failed


def shapes_of(options: argparse.Namespace, wanted: list[str]) -> dict[str, Shape]:
    """The shapes that the wanted parts need."""
    tight, loose = options.bounds
    found = {
        "k10": Shape("k10", options.k, options.narrow, (tight,)),
        "k512": Shape("k512", options.wide, options.wide, (loose, tight)),
        "schedule": Shape("schedule", options.schedule[-1], options.schedule, (tight,), True),
    }
    needed = {"k10" if part == "overhead" else part for part in wanted}
    return {name: shape for name, shape in found.items() if name in needed}


def levels(text: str) -> tuple[int, ...]:
    """Read beams by level."""
    return tuple(map(int, text.split("-")))


def several(of: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Read values with commas."""
    return lambda text: [of(one) for one in text.split(",")]


def main() -> None:
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=several(str), default=list(PARTS), help=f"parts, with commas: {','.join(PARTS)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpoint", type=Path, help="none: one of random weights is made, of --preset")
    parser.add_argument("--preset", default=PRESET)
    parser.add_argument("--items", type=int, default=N_ITEMS, help="of the catalog that is made")
    parser.add_argument("--history", type=int, default=512)
    parser.add_argument("--k", type=int, default=10, help="of k10")
    parser.add_argument("--narrow", type=int, default=64, help="beams of k10")
    parser.add_argument("--wide", type=int, default=512, help="beams and k of k512")
    parser.add_argument("--schedule", type=levels, default=(128, 256, 512), help="beams of schedule; k is the last")
    parser.add_argument("--bounds", type=several(float), default=[100.0, 150.0], help="ms: of all, and another of k512")
    parser.add_argument("--batch-sizes", default="1,8,16,24,32,64,96,128")
    parser.add_argument("--max-rows", type=int, default=2**14)
    parser.add_argument("--http-workers", type=int, default=max(1, cores // 3))
    parser.add_argument("--processes", type=int, default=max(2, cores * 3 // 8), help="of the load tool, two or more")
    parser.add_argument("--rows-per-call", type=int, default=8, help="of schedule")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a look at a rate; the last takes twice that")
    parser.add_argument("--warm-up-s", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=60, help="of a batch, for the offline rate")
    parser.add_argument("--pairs", type=int, default=60, help="of overhead")
    parser.add_argument("--times", type=float, default=50.0, help="of flood: what is asked over the capacity")
    parser.add_argument("--flood-s", type=float, default=8.0)
    parser.add_argument("--ready-s", type=float, default=180.0, help="that a server may take to be ready")
    parser.add_argument("--part-s", type=float, default=120.0, help="that a part may take")
    parser.add_argument("--most-s", type=float, default=480.0, help="that all may take; parts beyond it fail")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "serve_goodput.jsonl")
    options = parser.parse_args()
    if unknown := [part for part in options.rows if part not in PARTS]:
        raise InputError("rows", unknown[0], f"allowed: {', '.join(PARTS)}")
    if options.processes < 2:
        raise InputError("processes", options.processes, "2 or more")
    open_device(options.device)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, shapes = options.checkpoint, shapes_of(options, options.rows)
        if checkpoint is None and shapes:
            checkpoint = Path(folder) / "model"
            save_random(checkpoint, options.preset, options.items, options.device)
            print(f"a checkpoint is made after {time.monotonic() - began:.0f} s", flush=True)
        failed = parts(Run(options, checkpoint, shapes), options.rows)
    print(f"{time.monotonic() - began:.0f} s in all; failed: {', '.join(failed) or 'nothing'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    run(main)
