"""Whole batches: stock PyTorch against OctoRec, on random weights.

    python -m benchmarks.engine --rows octorec --out results/engine.jsonl

Each row is appended as it is done; `--rows` takes the rows whose name contains a text (several with commas), `--list`
names them. A row that fails is recorded with its error. `ms_per_batch` is the device's time; `p50_ms` and `p99_ms` go
from the host to the host: from item ids to answers of items, or, in stock PyTorch, from context features to codes.

To compare two commits, run both in one call on one card, each with `--out` in RESULTS / "before_after.jsonl".
"""

import argparse
import dataclasses
import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import records
from benchmarks.program import run
from benchmarks.random_model import random_catalog, random_model, random_requests
from benchmarks.rows import EngineFailure, EngineRow
from benchmarks.rows.engine import KernelTime, Wanted
from benchmarks.skew import EXPONENTS, busiest, skew
from benchmarks.stock import StockOneRec
from benchmarks.timer import Timing, of_samples, time_gpu
from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.engine.search import Searched, search
from octorec.engine.widths import Widths, at_levels
from octorec.kernels import fused
from octorec.kernels.linear import ACCUMULATE
from octorec.kernels.ops import Ops
from octorec.models.onerec import OneRecV2, block_params
from octorec.models.onerec_config import OneRecConfig
from octorec.models.presets import preset
from octorec.numerics.intensity import GPUS

H100 = GPUS["h100"]
PEAK_TFLOPS = {"bf16": H100.bf16 / 1e12, "fp16": H100.bf16 / 1e12, "fp8": (H100.fp8 or 0) / 1e12}
SHAPES = [(32, 512, 512), (8, 512, 3000), (1, 512, 512)]
SYSTEMS = [
    ("octorec", "fp8"),  # first, so that a run that is cut has it
    ("octorec", "bf16"),
    ("octorec", "fp16"),
    ("stock eager", "bf16"),
    ("stock graph", "bf16"),
    ("stock eager", "fp16"),
    ("stock graph", "fp16"),
    ("stock graph", "fp8"),
]
N_ITEMS = 1_000_000
MOST_KERNELS = 30  # in a row


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of a batch.

    timing: on the device. host: from the host to the host. busiest: the busiest expert's load over the mean, None
    without experts. capture_s: seconds to warm up and capture its graph, None without one of ours. kernels: those of
    one batch, slowest first; None where they were not looked at.
    """

    timing: Timing
    host: Timing
    busiest: float | None = None
    capture_s: float | None = None
    kernels: Sequence[KernelTime] | None = None


def rows() -> list[Wanted]:
    """All batches to measure: every system at the main shapes, ours and eager at others, ours with skewed routing."""
    main = [Wanted(system, "moe-4b-a0.5b", precision, *shape) for shape in SHAPES for system, precision in SYSTEMS]
    short = [("octorec", "fp8"), ("octorec", "bf16"), ("stock eager", "bf16")]
    narrow = [Wanted(system, "moe-4b-a0.5b", precision, 32, 128, 512) for system, precision in short]
    dense = [Wanted(system, "1b", precision, 32, 512, 512) for system, precision in short]
    uneven = [
        Wanted("octorec", "moe-4b-a0.5b", precision, *SHAPES[0], routing="skewed") for precision in ("bf16", "fp8")
    ]
    return main + narrow + dense + uneven


def flop(config: OneRecConfig, batch: int, widths: Widths, context: int) -> float:
    """Floating-point operations of one batch: products, heads and cross-attention over the rows of all levels.

    widths: beams at each level; those of the last are not decoded.
    """
    decoded = batch * (1 + sum(widths[:-1]))
    _, active = block_params(config)
    active += (config.n_layer - config.dense_blocks) * config.d_model * config.n_expert  # the routers
    linear = 2 * decoded * (active + config.d_model * config.codebook_sizes[0])
    return linear + 4.0 * config.n_layer * config.d_model * context * decoded


def stock_model(row: Wanted) -> tuple[StockOneRec, Tensor]:
    """The yardstick on the GPU, and the context features [B, S, 4 * embed_dim] of a batch."""
    config = preset(row.preset)
    dtype = torch.float16 if row.precision == "fp16" else torch.bfloat16
    with torch.device("cuda"):
        model = StockOneRec(config, dtype, fp8=row.precision == "fp8")
        return model, torch.randn(row.batch, row.context, 4 * config.embed_dim, dtype=dtype)


def stock_run(row: Wanted) -> tuple[Callable[[], Any], Tensor, float | None]:
    """A batch of the yardstick as a call that gives codes and scores, the features it reads, and `route`'s load."""
    model, features = stock_model(row)
    run: Callable[[], Any] = lambda: model(features, row.beam)  # noqa: E731
    load = route(model, run, row)
    if row.system == "stock graph":
        model.compile()
        run = captured(run)
    return run, features, load


def from_host(run: Callable[[], Any], features: Tensor, k: int | None = None) -> Callable[[], None]:
    """The same from features on the host to the best k codes and scores there; None: to those of all beams."""
    given = features.cpu().pin_memory()

    def call() -> None:
        features.copy_(given, non_blocking=True)
        for tensor in run():
            tensor[:, :k].cpu()

    return call


def measure_stock(row: Wanted, runs: int) -> Measured:
    run, features, load = stock_run(row)
    return Measured(time_gpu(run, runs), host_to_host(from_host(run, features), samples(row)), load)


def captured(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same as one CUDA graph, which gives what `run` gave at its capture."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def octorec_engine(row: Wanted, ops: Ops = fused) -> tuple[Engine, list[Request]]:
    """Our engine on the GPU with routers as the row says, and the requests of a batch."""
    config = preset(row.preset)
    limits = EngineConfig(
        max_context=row.context, batch_sizes=(row.batch,), beam_widths=(row.beam,), default_beam_width=row.beam
    )
    model = random_model(config, row.precision, ops=ops)
    engine = Engine(model, random_catalog(config, N_ITEMS), limits, "cuda", ops)
    return engine, random_requests(row.batch, N_ITEMS, row.context, row.beam)


def eager(engine: Engine, requests: Sequence[Request]) -> Callable[[], Searched]:
    """The device's part of answering a batch, launched by Python instead of a graph."""
    return eager_search(engine, [engine.parse(request) for request in requests])


def eager_search(engine: Engine, parsed: Sequence[ParsedRequest]) -> Callable[[], Searched]:
    """The same of requests that are parsed."""
    bucket = engine.bucket_of(parsed)
    staging = engine.staged(parsed, bucket.size)
    batch = staging.batch(staging.block.to(engine.device))
    return lambda: search(engine.model, engine.device_catalog.levels, batch, bucket.widths, engine.ops)


def measure_octorec(row: Wanted, runs: int) -> Measured:
    engine, requests = octorec_engine(row)
    assert isinstance(engine.model, OneRecV2)
    load = route(engine.model, eager(engine, requests), row)
    (cost,) = engine.warm_up()
    graph = engine.captured(engine.buckets()[0])
    engine.recommend(requests)  # fills the graph's inputs with these requests
    timing = time_gpu(graph.graph.replay, runs)
    host = host_to_host(lambda: engine.recommend(requests), samples(row))
    return Measured(timing, host, load, cost.seconds, kernels(graph.graph.replay))


def route(model: OneRecV2 | StockOneRec, run: Callable[[], object], row: Wanted) -> float | None:
    """Bias the routers as the row says; the busiest expert's load over the mean, None without experts."""
    if model.config.dense_blocks == model.config.n_layer:
        return None
    skew(model, run, EXPONENTS[row.routing])
    return busiest(model, run)


def kernels(run: Callable[[], object]) -> list[KernelTime]:
    """Milliseconds by kernel of one call of `run`, the largest first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.device_time_total)
    return [KernelTime(e.key[:80], e.count, round(e.device_time_total / 1e3, 3)) for e in events]


def samples(row: Wanted) -> int:
    """How many batches are timed from host to host."""
    return 200 if row.batch == 1 else 20


def host_to_host(run: Callable[[], object], runs: int) -> Timing:
    """Time `run`, which ends with its result on the host; the first tenth of the runs is warm-up."""
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) * 1e3)
    return of_samples(found[runs // 10 :])


def result(row: Wanted, measured: Measured) -> EngineRow:
    """The row of a batch."""
    config, timing, kernels = preset(row.preset), measured.timing, measured.kernels
    widths = at_levels("beam", row.beam, len(config.codebook_sizes))
    tflops = flop(config, row.batch, widths, row.context) / timing.median / 1e9
    ours = measured.capture_s is not None
    return EngineRow(
        **dataclasses.asdict(row),
        requests_per_s=round(row.batch / timing.median * 1e3, 1),
        ms_per_batch=round(timing.median, 3),
        p50_ms=round(measured.host.median, 3),
        p99_ms=round(measured.host.p99, 3),
        ms_p20=round(timing.p20, 3),
        ms_p80=round(timing.p80, 3),
        tflops=round(tflops, 1),
        mfu=round(tflops / PEAK_TFLOPS[row.precision], 3),
        memory_gb=round(torch.cuda.max_memory_allocated() / 1e9, 2),
        busiest_expert=None if measured.busiest is None else round(measured.busiest, 2),
        capture_s=None if measured.capture_s is None else round(measured.capture_s, 1),
        n_items=N_ITEMS if ours else None,
        accumulate={"row-wise": ACCUMULATE, "grouped": "float32"} if ours else None,
        kernels_ms=None if kernels is None else round(sum(kernel.ms for kernel in kernels), 2),
        kernels=None if kernels is None else tuple(kernels[:MOST_KERNELS]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="texts of which one must be in a row's name, with commas")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "engine.jsonl")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [row for row in rows() if any(text in row.name for text in options.rows.split(","))]
    for row in chosen:
        if options.list:
            print(row.name)
            continue
        start = time.perf_counter()
        done = measure(row, options.runs)
        records.append(options.out, done)
        print(line(row, done, time.perf_counter() - start), flush=True)


@torch.inference_mode()
def measure(row: Wanted, runs: int) -> EngineRow | EngineFailure:
    """Measure one batch, then free what it took."""
    torch.cuda.reset_peak_memory_stats()
    try:
        return result(row, (measure_octorec if row.system == "octorec" else measure_stock)(row, runs))
    except Exception as error:  # a row that fails must not take the others with it
        traceback.print_exc()
        return EngineFailure(**dataclasses.asdict(row), error=records.error_text(error))
    finally:
        gc.collect()
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def line(row: Wanted, done: EngineRow | EngineFailure, seconds: float) -> str:
    """What was measured, for a terminal."""
    if isinstance(done, EngineFailure):
        return f"{row.name:45s} {done.error[:100]} ({seconds:.0f} s)"
    kernels = [f"    {kernel.ms:8.3f} ms x{kernel.calls:4d} {kernel.kernel}" for kernel in done.kernels or ()]
    rates = f"{done.ms_per_batch:8.2f} ms {done.requests_per_s:7.1f}/s {done.tflops:6.1f} TFLOP/s"
    busiest = "" if done.busiest_expert is None else f", busiest expert {done.busiest_expert} x mean"
    return "\n".join([*kernels, f"{row.name:45s} {rates} p50 {done.p50_ms:.2f} ms{busiest} ({seconds:.0f} s)"])


if __name__ == "__main__":
    run(main, "cuda")
