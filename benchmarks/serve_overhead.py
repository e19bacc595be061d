"""What the server adds to the engine when nobody else asks: each request through HTTP and in process.

    python -m benchmarks.serve_overhead runs/demo/fp8 --out results/serve_overhead.jsonl

`octorec serve` runs beside this process, which asks it through a session of the load tool (aiohttp), and which holds
an engine of its own, set up alike (threads, garbage collector). Before each of the two there is a pause, so that both
begin from rest; which comes first is drawn. What the server adds to a request is the time until its answer was read,
less the time of `Engine.recommend`; the client's own half a millisecond is in it. `outside`: the same, without the
device in either.
"""

import argparse
import asyncio
import os
import platform
import random
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import torch

from benchmarks import program, records
from benchmarks.rows import OverheadRow
from benchmarks.rows.serving import Quantiles
from benchmarks.serve_soak import serving
from octorec.bench.config import BenchConfig
from octorec.bench.over_http import connections, timings_of
from octorec.bench.requests import bodies
from octorec.bench.result import quantiles
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.kernels.device import open_device
from octorec.serve.service import keep_for_good, share_the_host

PAUSE_S = 0.25  # on average, exponential
WARM_UP = 5  # pairs that are not measured
PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "orjson", "pydantic", "aiohttp")


async def through_http(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[float, float]:
    """Milliseconds of one request, and of its batch on the device."""
    start = time.perf_counter()
    async with session.post(f"{url}/v1/recommend", data=body) as response:
        content = await response.read()
    total = time.perf_counter() - start
    assert response.status == 200, content
    return total * 1e3, timings_of(content)["device_ms"]


def in_process(engine: Engine, request: Request) -> tuple[float, float]:
    """Milliseconds of `Engine.recommend`, as its three parts, and of the second of them, on the device."""
    start = time.perf_counter()
    parsed = engine.parse(request)
    before = time.perf_counter()
    beams = engine.search([parsed])
    after = time.perf_counter()
    beams.ranked(0, parsed).answer()
    return (time.perf_counter() - start) * 1e3, (after - before) * 1e3


async def pairs(url: str, engine: Engine, asked: list[bytes], config: BenchConfig) -> list[tuple[float, ...]]:
    """Ask for each body both ways: ms through HTTP, ms of it on the device, ms in process, ms of it on the device."""
    chance = random.Random(config.seed)
    found: list[tuple[float, ...]] = []
    async with connections(config) as session:
        for body in asked:
            request, sides = Request(**orjson.loads(body)), {}
            for side in chance.sample(("http", "own"), 2):
                await asyncio.sleep(chance.expovariate(1 / PAUSE_S))
                sides[side] = await through_http(session, url, body) if side == "http" else in_process(engine, request)
            found.append((*sides["http"], *sides["own"]))
    return found[WARM_UP:]


def summary(found: list[tuple[float, ...]]) -> dict[str, Any]:
    """The fields of an `OverheadRow` that were timed; interval_ms by the ranks of a sign test."""
    served, device, own, search = (np.array(values) for values in zip(*found, strict=True))
    added = np.sort(served - own)
    away = 0.98 * len(added) ** 0.5
    low, high = (round(float(added[int(len(added) / 2 + side)]), 3) for side in (-away, away))
    named = {"server": served, "engine": own, "added": added, "device": device, "search": search}
    named["outside"] = (served - device) - (own - search)
    times = {f"{name}_ms": Quantiles(**quantiles(values)) for name, values in named.items()}
    return {"pairs": len(found), "interval_ms": (low, high), **times}


def run(checkpoint: Path, device: str, n: int, beam_width: int) -> OverheadRow:
    config = BenchConfig(catalog=str(checkpoint / "catalog"), beam_width=beam_width)
    command = [sys.executable, "-m", "octorec", "serve", str(checkpoint), "--device", device, "--port", "0"]
    with serving(command) as (url, _):
        share_the_host()
        engine = load(checkpoint, None, device)
        engine.warm_up()
        keep_for_good()
        found = asyncio.run(pairs(url, engine, bodies(config)[: WARM_UP + n], config))
    return row_of(checkpoint.name, device, config, found)


def row_of(
    checkpoint: str, device: str, config: BenchConfig, found: list[tuple[float, ...]], http_workers: int = 0
) -> OverheadRow:
    """The row of what `pairs` found."""
    return OverheadRow(
        checkpoint=checkpoint,
        device=device,
        beam_width=config.beam_width,
        k=config.k,
        **summary(found),
        system=platform.system(),
        cores=len(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        versions={name: version(name) for name in PACKAGES},
        http_workers=http_workers,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--beam-width", type=int, default=32)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "serve_overhead.jsonl")
    options = parser.parse_args()
    open_device(options.device)
    row = run(options.checkpoint, options.device, options.pairs, options.beam_width)
    records.append(options.out, row)
    p50 = f"server {row.server_ms.p50}, engine {row.engine_ms.p50}, device {row.device_ms.p50}"
    p50 += f", search {row.search_ms.p50}, outside {row.outside_ms.p50}"
    print(f"the server adds {row.added_ms.p50} ms at p50, 95 % {row.interval_ms}; p50 of each, ms: {p50}")


if __name__ == "__main__":
    program.run(main)
