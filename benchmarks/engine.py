"""Whole batches: stock PyTorch against OctoRec, on random weights.

    python -m benchmarks.engine --rows octorec --out results/engine.jsonl

Each row is appended as it is done; `--rows` takes the rows whose name contains a text (several with commas), `--list`
names them. A row that fails is recorded with its error. `ms_per_batch` is the device's time; `p50_ms` and `p99_ms` go
from the host to the host: from item ids to answers of items, or, in stock PyTorch, from context features to codes.
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
from benchmarks.skew import EXPONENTS, busiest, skew
from benchmarks.stock import StockOneRec
from benchmarks.timer import Timing, of_samples, time_gpu
from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.engine.search import SearchBatch
from octorec.kernels import fused
from octorec.kernels.linear import ACCUMULATE
from octorec.kernels.ops import Beams, Ops
from octorec.models.config import OneRecConfig
from octorec.models.onerec import OneRecV2, block_params
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
class Row:
    system: str
    preset: str
    precision: str
    batch: int
    beam: int
    context: int
    routing: str = "balanced"  # or `skewed`, by the routers' biases

    @property
    def name(self) -> str:
        shape = f"{self.batch}x{self.beam}x{self.context}"
        return f"{self.system} {self.preset} {self.precision} {shape} {self.routing}"


def rows() -> list[Row]:
    """Every row there is: all systems at the main shapes, ours and eager at others, ours with skewed routing."""
    main = [Row(system, "moe-4b-a0.5b", precision, *shape) for shape in SHAPES for system, precision in SYSTEMS]
    short = [("octorec", "fp8"), ("octorec", "bf16"), ("stock eager", "bf16")]
    narrow = [Row(system, "moe-4b-a0.5b", precision, 32, 128, 512) for system, precision in short]
    dense = [Row(system, "1b", precision, 32, 512, 512) for system, precision in short]
    uneven = [Row("octorec", "moe-4b-a0.5b", precision, *SHAPES[0], "skewed") for precision in ("bf16", "fp8")]
    return main + narrow + dense + uneven


def flop(config: OneRecConfig, batch: int, beam: int, context: int) -> float:
    """Floating-point operations of one batch: products, heads and cross-attention over all B * (1 + 2W) rows."""
    levels = len(config.codebook_sizes)
    decoded = batch * (1 + (levels - 1) * beam)
    _, active = block_params(config)
    active += (config.n_layer - config.dense_blocks) * config.d_model * config.n_expert  # the routers
    linear = 2 * decoded * (active + config.d_model * config.codebook_sizes[0])
    return linear + 4.0 * config.n_layer * config.d_model * context * decoded


def stock_model(row: Row) -> tuple[StockOneRec, Tensor]:
    """The yardstick on the GPU, and the context features [B, S, 4 * embed_dim] of a batch."""
    config = preset(row.preset)
    dtype = torch.float16 if row.precision == "fp16" else torch.bfloat16
    with torch.device("cuda"):
        model = StockOneRec(config, dtype, fp8=row.precision == "fp8")
        return model, torch.randn(row.batch, row.context, 4 * config.embed_dim, dtype=dtype)


def measure_stock(row: Row, runs: int) -> dict[str, Any]:
    model, features = stock_model(row)
    run: Callable[[], Any] = lambda: model(features, row.beam)  # noqa: E731
    load = route(model, run, row)
    if row.system == "stock graph":
        model.compile()
        run = captured(run)
    given = features.cpu().pin_memory()

    def from_host() -> None:
        features.copy_(given, non_blocking=True)
        for tensor in run():
            tensor.cpu()

    return {"timing": time_gpu(run, runs), "host": host_to_host(from_host, samples(row)), "busiest": load}


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


def octorec_engine(row: Row, ops: Ops = fused) -> tuple[Engine, list[Request]]:
    """Our engine on the GPU with routers as the row says, and the requests of a batch."""
    config = preset(row.preset)
    limits = EngineConfig(
        max_context=row.context, batch_sizes=(row.batch,), beam_widths=(row.beam,), default_beam_width=row.beam
    )
    model = random_model(config, row.precision, ops=ops)
    engine = Engine(model, random_catalog(config, N_ITEMS), limits, "cuda", ops)
    return engine, random_requests(row.batch, N_ITEMS, row.context, row.beam)


def search(engine: Engine, requests: list[Request], row: Row) -> Callable[[], Beams]:
    """The device's part of answering a batch, launched by Python."""
    batch = on_device(engine, [engine.parse(request) for request in requests], row.batch)
    return lambda: engine._search(batch, row.beam)


def measure_octorec(row: Row, runs: int) -> dict[str, Any]:
    engine, requests = octorec_engine(row)
    assert isinstance(engine.model, OneRecV2)
    load = route(engine.model, search(engine, requests, row), row)
    (cost,) = engine.warm_up()
    graph = engine._graph(row.batch, row.beam)
    engine.recommend(requests)  # fills the graph's inputs with these requests
    timing = time_gpu(graph.graph.replay, runs)
    host = host_to_host(lambda: engine.recommend(requests), samples(row))
    measured = {"timing": timing, "host": host, "capture": cost, "kernels": kernels(graph.graph.replay)}
    return {**measured, "busiest": load}


def on_device(engine: Engine, parsed: Sequence[ParsedRequest], size: int) -> SearchBatch:
    """A batch as a graph would read it, without one."""
    staging = engine._staged(parsed, size)
    return staging.batch(staging.block.to(engine.device))


def route(model: OneRecV2 | StockOneRec, run: Callable[[], object], row: Row) -> float | None:
    """Bias the routers as the row says; the busiest expert's load over the mean, None without experts."""
    if model.config.dense_blocks == model.config.n_layer:
        return None
    skew(model, run, EXPONENTS[row.routing])
    return busiest(model, run)


def kernels(run: Callable[[], object]) -> list[dict[str, Any]]:
    """Milliseconds by kernel of one call of `run`, the largest first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.device_time_total)
    return [{"kernel": e.key[:80], "calls": e.count, "ms": round(e.device_time_total / 1e3, 3)} for e in events]


def samples(row: Row) -> int:
    """How many batches are timed from host to host."""
    return 200 if row.batch == 1 else 20


def host_to_host(run: Callable[[], object], runs: int) -> Timing:
    """Of `run`, which ends with its result on the host; the first tenth is warm-up."""
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) * 1e3)
    return of_samples(found[runs // 10 :])


def result(row: Row, measured: dict[str, Any]) -> dict[str, Any]:
    config, timing = preset(row.preset), measured["timing"]
    tflops = flop(config, row.batch, row.beam, row.context) / timing.median / 1e9
    busiest_expert = measured.get("busiest")
    out = {
        **dataclasses.asdict(row),
        "requests_per_s": round(row.batch / timing.median * 1e3, 1),
        "ms_per_batch": round(timing.median, 3),
        "p50_ms": round(measured["host"].median, 3),
        "p99_ms": round(measured["host"].p99, 3),
        "ms_p20": round(timing.p20, 3),
        "ms_p80": round(timing.p80, 3),
        "tflops": round(tflops, 1),
        "mfu": round(tflops / PEAK_TFLOPS[row.precision], 3),
        "memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
    }
    if busiest_expert is not None:
        out["busiest_expert"] = round(busiest_expert, 2)
    if "capture" in measured:
        out |= {"capture_s": round(measured["capture"].seconds, 1), "n_items": N_ITEMS}
        out |= {"accumulate": {"row-wise": ACCUMULATE, "grouped": "float32"}}
    if "kernels" in measured:
        out |= {"kernels_ms": round(sum(kernel["ms"] for kernel in measured["kernels"]), 2)}
        out |= {"kernels": measured["kernels"][:MOST_KERNELS]}
    return out


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
        print(measure(row, options.runs, options.out), flush=True)


@torch.inference_mode()
def measure(row: Row, runs: int, out: Path, about: dict[str, Any] | None = None) -> str:
    """Measure one row, append it with what `about` says, and say it in a line."""
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    try:
        measured = (measure_octorec if row.system == "octorec" else measure_stock)(row, runs)
        done = result(row, measured)
        line = f"{done['ms_per_batch']:8.2f} ms {done['requests_per_s']:7.1f}/s {done['tflops']:6.1f} TFLOP/s"
        line += f" p50 {done['p50_ms']:.2f} ms"
        line += f", busiest expert {done['busiest_expert']} x mean" if done.get("busiest_expert") else ""
        for kernel in done.get("kernels", []):
            print(f"    {kernel['ms']:8.3f} ms x{kernel['calls']:4d} {kernel['kernel']}")
    except Exception as error:  # a row that fails must not take the others with it
        traceback.print_exc()
        done = {**dataclasses.asdict(row), "error": records.error_text(error)}
        line = done["error"][:100]
    records.append(out, {**(about or {}), **done})
    gc.collect()
    torch._dynamo.reset()
    torch.cuda.empty_cache()
    return f"{row.name:45s} {line} ({time.perf_counter() - start:.0f} s)"


if __name__ == "__main__":
    run(main, "cuda")
