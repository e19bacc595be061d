"""What each kernel gives a Qwen recommender: from the references and stock PyTorch, one step more a row, to the engine.

    python -m benchmarks.qwen_ablation --out results/qwen_ablation.jsonl

One model of 1.7B's dimensions, one loop, one catalog, 8 prompts of 1,000 tokens, 256 beams; a step replaces operations
of `unfused` by those of `kernels.fused`, and keeps what the steps before it replaced. Every operation is launched by
Python, so `kernels_ms` is what a step gives; the last row is the engine, measured as `qwen_speed` does.
"""

import argparse
import gc
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import program, records, unfused
from benchmarks.engine import kernels
from benchmarks.qwen_goals import FP8
from benchmarks.qwen_model import SHAPES, config_of, random_qwen, requests_of
from benchmarks.qwen_speed import Measured, engine_of, measure_octorec, speed_row
from benchmarks.rows.qwen_speed import QwenSpeedFailure, QwenStepRow, QwenWanted
from benchmarks.timer import time_on
from octorec.engine.engine import Engine
from octorec.engine.search import Searched, searched
from octorec.kernels import fused, ops, reference
from octorec.kernels.ops import Ops, Variant

OTHERS = {"causal_attention", "self_attention", "cross_attention", "route", "moe"}  # no Qwen uses them
OPERATIONS = [name for name in ops.OPERATIONS if name not in OTHERS]
ENGINE = "the engine"
FEW = 3  # runs of the references, which are slow


@dataclass(frozen=True)
class Step:
    """`replaces` names the operations that become kernels; precision: `bf16` or the recipe of the FP8 weights."""

    name: str
    precision: str
    replaces: tuple[str, ...] = ()
    base: Ops = unfused  # where what is no kernel yet comes from


STEPS = (
    Step("references", "bf16", base=reference),
    Step("stock BF16", "bf16"),
    Step("FP8 products, casts apart", "fp8"),
    Step("norm and cast in one", "fp8", ("rms_norm", "maybe_quantize")),
    Step("SwiGLU and cast in one", "fp8", ("swiglu",)),
    Step("products of ours, residual added in them", "fp8", ("linear",)),
    Step("norms of heads, turns and the pool in one", "fp8", ("rope",)),
    Step("attention over packed prompts", "fp8", ("prefill_attention",)),
    Step("beams over one context a request", "fp8", ("beam_attention",)),
    Step("no logits of the vocabulary in memory", "fp8", ("log_norm", "head")),
    Step("beam step in one read", "fp8", ("beam_step",)),
)


def replaced(number: int) -> list[str]:
    """The operations that are kernels at a step."""
    return [name for step in STEPS[: number + 1] for name in step.replaces]


def mix(mixture: Variant, number: int) -> None:
    """Let `mixture`, which a model runs on, be the operations of a step."""
    base, ours = STEPS[number].base, replaced(number)
    for name in (*OPERATIONS, *(name for name in vars(Ops) if name.startswith("check_"))):
        setattr(mixture, name, getattr(fused if name in ours else base, name))


def eager(engine: Engine, row: QwenWanted) -> Callable[[], Searched]:
    """The device's part of answering a batch, launched by Python instead of a graph."""
    parsed = [engine.parse(request) for request in requests_of(row, config_of(row.model))]
    bucket, reader = engine.bucket_of(parsed), engine.reader
    staging = engine.staged(parsed, bucket.size)
    batch = staging.batch(staging.block.to(engine.device))
    prompts, scopes = [each.tokens for each in parsed if each.tokens is not None], [each.scope for each in parsed]
    assert reader is not None
    reader.rooms = ()  # of CUDA graphs, which stock operations cannot be in

    def call() -> Searched:
        memory, _ = reader.read(prompts, scopes)
        state = reader.state(memory, bucket.size)
        return searched(engine.model, state, engine.device_catalog.levels, batch, bucket.widths, engine.ops)

    return call


def measure(engine: Engine, row: QwenWanted, runs: int, device: str) -> Measured:
    run = eager(engine, row)
    spent = kernels(run) if device == "cuda" else None
    return Measured(time_on(device, run, runs), n_items=SHAPES[row.model].n_items, kernels=spent)


@torch.inference_mode()
def run(shape: QwenWanted, steps: Sequence[int], with_engine: bool, runs: int, out: Path, device: str = "cuda") -> None:
    """Record each step, and the engine, at the shape of `shape`."""
    mixture, name = Variant(unfused), time.strftime("%Y-%m-%dT%H:%M:%S")
    engine, precision = None, ""
    for number in steps:
        step = STEPS[number]
        row = replace(shape, system=step.name, precision=step.precision)
        mix(mixture, number)
        if step.precision != precision:
            engine = None  # before the next one takes its memory
            model = random_qwen(config_of(row.model), step.precision, ops=mixture, device=device)
            engine, precision = engine_of(row, model, device), step.precision
        assert engine is not None
        times = FEW if step.base is reference else runs
        report(out, row, name, replaced(number), partial(measure, engine, runs=times, device=device))
    engine = None
    gc.collect()
    if with_engine:
        row = replace(shape, system=ENGINE)
        report(out, row, name, OPERATIONS, partial(measure_octorec, runs=runs, device=device))


def report(
    out: Path, row: QwenWanted, name: str, kernels: Sequence[str], measured: Callable[[QwenWanted], Measured]
) -> None:
    """Measure, record and print a step; one that fails must not take the others with it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        done = QwenStepRow(**vars(speed_row(row, measured(row), name)), replaced=tuple(kernels))
    except Exception as error:
        traceback.print_exc()
        records.append(out, QwenSpeedFailure(**asdict(row), run=name, error=records.error_text(error)))
        return
    records.append(out, done)
    spent = "" if done.kernels_ms is None else f", {done.kernels_ms:8.2f} ms in kernels"
    print(f"{row.system:45s} {done.ms_per_batch:9.2f} ms{spent}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="texts of which one must be in a step's name, with commas")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "qwen_ablation.jsonl")
    options = parser.parse_args()
    texts = options.rows.split(",")
    chosen = [number for number, step in enumerate(STEPS) if any(text in step.name for text in texts)]
    with_engine = any(text in ENGINE for text in texts)
    if options.list:
        print("\n".join([STEPS[number].name for number in chosen] + [ENGINE] * with_engine))
        return
    run(FP8, chosen, with_engine, options.runs, options.out)


if __name__ == "__main__":
    program.run(main, "cuda")
