"""The paper's comparison, fair and in one command: FP16 against FP8 through one stack, beside stock PyTorch.

    make bench-gpu                 # that is: python -m benchmarks.headline

On one card, in one call, the MoE of 4 billion parameters at batch 32, beam 512, context 512, random weights, routers
balanced: stock PyTorch in FP16 and BF16, eager and compiled into one CUDA graph, and our engine in FP16, BF16 and FP8
with the same fused kernels. Operations are checked against their references first; one that is wrong ends the program
with exit code 1. Then the card's ceilings, the batches (rows of `engine`), and what bounds the kernels of a batch
(`bounds`) before and after fusion. All rows carry one `run`, so that a table shows only what was measured together.
"""

import argparse
import gc
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import program, records
from benchmarks.bounds import Part, Ranges, bound, parts_of, shares
from benchmarks.engine import N_ITEMS, eager, line, measure, octorec_engine, route, stock_model
from benchmarks.kernel_checks import CHECKS
from benchmarks.kernel_inputs import random_trie
from benchmarks.kernels import ceilings, failure, memory_ceiling
from benchmarks.rows import (
    EngineFailure,
    EngineRow,
    HeadlineBatch,
    HeadlineBounds,
    HeadlineBoundsFailure,
    HeadlineCeilings,
    HeadlineFailure,
)
from benchmarks.rows.engine import BoundTime, Wanted
from octorec.kernels import fused
from octorec.models.onerec import OneRecV2

MODEL, SHAPE = "moe-4b-a0.5b", (32, 512, 512)
BATCHES = (
    ("octorec", "fp8"),
    ("octorec", "bf16"),
    ("octorec", "fp16"),
    ("stock graph", "bf16"),
    ("stock graph", "fp16"),
    ("stock eager", "bf16"),
    ("stock eager", "fp16"),
)
BOUNDS = tuple(batch for batch in reversed(BATCHES) if batch[0] != "stock graph")  # whose launches Python makes
LARGEST = 12  # operations that a row of bounds names
CODES = 8192


def row(system: str, precision: str) -> Wanted:
    return Wanted(system, MODEL, precision, *SHAPE)


def stock_parts(wanted: Wanted, trace: Path) -> list[Part]:
    """The kernels of one batch of stock PyTorch, eager."""
    model, features = stock_model(wanted)
    route(model, lambda: model(features, wanted.beam), wanted)
    return parts_of(Ranges(), lambda: model(features, wanted.beam), trace)


def octorec_parts(wanted: Wanted, trace: Path) -> list[Part]:
    """The kernels of one batch of our engine, launched by Python: those that its graph holds."""
    ranges = Ranges()
    engine, requests = octorec_engine(wanted, ranges.around(fused))
    assert isinstance(engine.model, OneRecV2)
    run = eager(engine, requests)
    route(engine.model, run, wanted)
    run()  # compiles what is left to compile
    ranges.work.clear()
    return parts_of(ranges, run, trace)


def bounds_row(wanted: Wanted, parts: list[Part], found: dict[str, float], run: str) -> HeadlineBounds:
    """What a batch's kernels take, by what bounds them, and the operations that take most."""
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for part in parts:
        spent[part.work.operation if part.work else part.kernel[:60], bound(part, found)] += part.ms
    largest = sorted(spent.items(), key=lambda item: -item[1])[:LARGEST]
    ms = shares(parts, found)
    return HeadlineBounds(
        kind="bounds",
        run=run,
        system=wanted.system,
        precision=wanted.precision,
        memory_ms=round(ms["memory"], 3),
        arithmetic_ms=round(ms["arithmetic"], 3),
        unknown_ms=round(ms["unknown"], 3),
        largest=tuple(BoundTime(name, by, round(ms, 3)) for (name, by), ms in largest),
    )


def batch_row(done: EngineRow | EngineFailure, run: str) -> HeadlineBatch | HeadlineFailure:
    """A row of `engine` as one of this run."""
    if isinstance(done, EngineFailure):
        return HeadlineFailure(**vars(done), kind="batch", run=run)
    return HeadlineBatch(**vars(done), kind="batch", run=run)


@torch.inference_mode()
def run(out: Path, runs: int) -> bool:
    """Check, measure and record everything; whether all of it went well."""
    name = time.strftime("%Y-%m-%dT%H:%M:%S")
    trie = random_trie(N_ITEMS, CODES)
    wrong = {op: error for op in CHECKS if (error := failure(op, trie)) is not None}
    for op, error in wrong.items():
        print(f"{op}: WRONG, nothing is timed: {error}", flush=True)
    if wrong:
        return False
    found = ceilings(runs)
    found["memory"] = memory_ceiling(found)
    rates: dict[str, Any] = {key: round(rate) for key, rate in found.items()}
    records.append(out, HeadlineCeilings(kind="ceilings", run=name, **rates))
    print(", ".join(f"{key} {rate:.0f}" for key, rate in found.items()), "(GB/s, TFLOP/s)", flush=True)
    for system, precision in BATCHES:
        start, wanted = time.perf_counter(), row(system, precision)
        done = measure(wanted, runs)
        records.append(out, batch_row(done, name))
        print(line(wanted, done, time.perf_counter() - start), flush=True)
    held = [record_bounds(row(*batch), found, out, name) for batch in BOUNDS]
    return all(held)


def record_bounds(wanted: Wanted, found: dict[str, float], out: Path, name: str) -> bool:
    """Record what bounds a system's batch; whether that went well: one that fails must not take the others with it."""
    measured = octorec_parts if wanted.system == "octorec" else stock_parts
    done: HeadlineBounds | HeadlineBoundsFailure
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = bounds_row(wanted, measured(wanted, Path(folder) / "trace.json"), found, name)
        said = f"memory {done.memory_ms:.1f}, arithmetic {done.arithmetic_ms:.1f}, unknown {done.unknown_ms:.1f} ms"
    except Exception as error:
        said = records.error_text(error)
        done = HeadlineBoundsFailure(
            kind="bounds", run=name, system=wanted.system, precision=wanted.precision, error=said
        )
    records.append(out, done)
    print(f"{wanted.system}, {wanted.precision}: {said}", flush=True)
    gc.collect()
    torch.cuda.empty_cache()
    return isinstance(done, HeadlineBounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "headline.jsonl")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    sys.exit(0 if run(options.out, options.runs) else 1)


if __name__ == "__main__":
    program.run(main, "cuda")
