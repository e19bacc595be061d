"""What the server adds to the engine when nobody else asks: two requests a second, on an idle machine.

    python -m benchmarks.serve_overhead runs/demo/fp8 --out benchmarks/results/serve_overhead.jsonl

Over HTTP: a request's latency by the load tool, less its batch on the device. In process, at the same pace: the time of
`Engine.recommend`, less that of `Engine.search`. The difference of the medians is what the server adds; the load tool's
own half a millisecond is in it. Differences a request, so that the device's own noise is in neither.
"""

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from benchmarks import records
from benchmarks.serve_soak import serving
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.serve.bench import bench
from octorec.serve.bench_config import BenchConfig
from octorec.serve.bench_requests import bodies
from octorec.serve.bench_result import quantiles

RATE = 2.0


def own_ms(engine: Engine, config: BenchConfig) -> list[float]:
    """Milliseconds that the engine itself spends around the device, request by request."""
    gaps = random.Random(config.seed)
    found = []
    for body in bodies(config)[: int(config.duration_s * RATE)]:
        time.sleep(gaps.expovariate(RATE))
        start = time.perf_counter()
        parsed = engine.parse(Request(**orjson.loads(body)))
        before = time.perf_counter()
        beams = engine.search([parsed])
        after = time.perf_counter()
        beams.ranked(0, parsed).answer()
        found.append((time.perf_counter() - after + before - start) * 1e3)
    return found


def run(checkpoint: Path, device: str, seconds: float, beam_width: int) -> dict[str, Any]:
    catalog = str(checkpoint / "catalog")
    config = BenchConfig((RATE,), seconds, catalog=catalog, beam_width=beam_width)
    command = [sys.executable, "-m", "octorec.cli", "serve", str(checkpoint), "--device", device, "--port", "0"]
    with serving(command) as (url, _):
        (row,) = asyncio.run(bench(url, config, lambda *_: None))
    own = quantiles(own_ms(load(checkpoint, None, device), config))
    added = row["outside_device_ms"]["p50"] - own["p50"]
    about = {"checkpoint": checkpoint.name, "device": device, "beam_width": beam_width, "k": config.k}
    return {**about, **row, "engine_ms": own, "added_p50_ms": round(added, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--beam-width", type=int, default=32)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "serve_overhead.jsonl")
    options = parser.parse_args()
    row = run(options.checkpoint, options.device, options.seconds, options.beam_width)
    records.append(options.out, row)
    stages = {name: row[f"{name}_ms"]["p50"] for name in ("queue", "device", "encode", "outside_device", "engine")}
    print(f"the server adds {row['added_p50_ms']} ms at p50; p50 of each, ms: {stages}")


if __name__ == "__main__":
    main()
