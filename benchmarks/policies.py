"""What beam widths cost: whole batches of one model in many buckets, at a width, or by a schedule of widths.

    python -m benchmarks.policies --out results/policies.jsonl

Random weights with balanced routers and a catalog of a million items; k is 512 where the last level has 512 beams, else
10. A row is appended as it is done. `ms_per_batch` is the device's time, `p50_ms` goes from item ids to answers.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import records
from benchmarks.engine import N_ITEMS, PEAK_TFLOPS, eager, flop, host_to_host
from benchmarks.program import run
from benchmarks.random_model import random_catalog, random_model, random_requests
from benchmarks.rows import PolicyRow
from benchmarks.skew import EXPONENTS, skew
from benchmarks.timer import time_gpu
from octorec.engine.buckets import Bucket
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.engine.widths import Width, as_width
from octorec.kernels import fused
from octorec.models.presets import preset

PRESET = "moe-4b-a0.5b"
CONTEXT = 512
SCHEDULES = ((128, 256, 512), (64, 128, 512), (32, 64, 512))
BATCHES: tuple[tuple[int, Width], ...] = (
    (32, 512), *((32, widths) for widths in SCHEDULES), (32, 256), (32, 128), (64, 128), (32, 64), (64, 64), (128, 64),
    (32, 32), (128, 32), (256, 32), (1, 512), (1, 64), (1, 32),
)  # fmt: skip
WIDTHS: tuple[Width, ...] = (32, 64, 128, 256, 512, *SCHEDULES)
SIZES = tuple(sorted({batch for batch, _ in BATCHES}))
MOST_ROWS = 2**14  # of a bucket


def engine_of(precision: str, sizes: Sequence[int] = SIZES, widths: Sequence[Width] = WIDTHS) -> Engine:
    """The engine with all buckets, of which one is captured when it is asked for; its routers balanced."""
    config = preset(PRESET)
    limits = EngineConfig(CONTEXT, tuple(sizes), tuple(widths), default_beam_width=512, max_rows=MOST_ROWS)
    model = random_model(config, precision, ops=fused)
    engine = Engine(model, random_catalog(config, N_ITEMS), limits, "cuda", fused)
    skew(model, eager(engine, asked(32, 512)), EXPONENTS["balanced"])
    return engine


def asked(batch: int, width: Width, k: int | None = None) -> list[Request]:
    """The requests of a batch. k: items of each; None: 512 where so many beams end, else 10."""
    last = width if isinstance(width, int) else width[-1]
    drawn = random_requests(batch, N_ITEMS, CONTEXT, last)
    k = (last if last >= 512 else 10) if k is None else k
    return [Request(request.history, k=k, beam_width=width) for request in drawn]


@torch.inference_mode()
def measure(engine: Engine, precision: str, batch: int, width: Width, runs: int) -> PolicyRow:
    config, requests = preset(PRESET), asked(batch, width)
    parsed = [engine.parse(request) for request in requests]
    bucket = engine.bucket_of(parsed)
    assert bucket == Bucket(batch, parsed[0].widths), bucket
    start = time.perf_counter()
    graph = engine.captured(bucket)
    capture_s = time.perf_counter() - start
    engine.recommend(requests)
    timing = time_gpu(graph.graph.replay, runs)
    many = requests * max(2, 256 // batch)  # so that answers are made beside the next batch
    host = host_to_host(lambda: engine.recommend(requests), 200 if batch == 1 else 20)
    beside = host_to_host(lambda: engine.recommend(many), 5 if batch > 1 else 3)
    tflops = flop(config, batch, bucket.widths, CONTEXT) / timing.median / 1e9
    return PolicyRow(
        preset=PRESET,
        precision=precision,
        batch=batch,
        beam_width=as_width(bucket.widths),
        k=requests[0].k,
        context=CONTEXT,
        requests_per_s=round(batch / timing.median * 1e3, 1),
        ms_per_batch=round(timing.median, 3),
        ms_p20=round(timing.p20, 3),
        ms_p80=round(timing.p80, 3),
        p50_ms=round(host.median, 3),
        p99_ms=round(host.p99, 3),
        host_requests_per_s=round(len(many) / beside.median * 1e3, 1),
        tflops=round(tflops, 1),
        mfu=round(tflops / PEAK_TFLOPS[precision], 3),
        capture_s=round(capture_s, 2),
        n_items=N_ITEMS,
    )


def line(row: PolicyRow) -> str:
    """What was measured, for a terminal."""
    rates = f"{row.ms_per_batch:8.2f} ms {row.requests_per_s:8.0f}/s, MFU {row.mfu:.2f}"
    host = f"p50 {row.p50_ms:.2f} ms, {row.host_requests_per_s:.0f}/s host to host"
    return f"{row.precision:5} {row.batch:4} x {row.beam_width!s:15} {rates}; {host}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "policies.jsonl")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--precision", default="fp8,bf16")
    options = parser.parse_args()
    for precision in options.precision.split(","):
        engine = engine_of(precision)
        for batch, width in BATCHES:
            row = measure(engine, precision, batch, width, options.runs)
            records.append(options.out, row)
            print(line(row), flush=True)
        del engine
        torch.cuda.empty_cache()


if __name__ == "__main__":
    run(main, "cuda")
