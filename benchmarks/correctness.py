"""Is the GPU engine right on trained weights? Against the reference operations, in mixed batches, and for long.

    python -m benchmarks.correctness runs/demo --out results/correctness.jsonl
    python -m benchmarks.correctness --layers --out results/correctness.jsonl

Takes the demo's folder (`bf16/` and `fp8/`); `octorec demo --seed` trains others. The bounds stand here, committed
before a run; a row says whether they held, and the exit code is 1 where one did not. The reference is the same
checkpoint on the CPU, float32 around FP8's products; the GPU computes in bfloat16, so that even 16-bit engines differ
by its rounding. Where two experts tie, one rounding decides, and the reference itself moves by more than 1 nat: the
difference of each code is held against what such roundings do to it.
`--layers` compares each layer with float64 instead, on random weights of the MoE-4B's dimensions (`layer_errors`, with
its bounds).
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import records
from benchmarks.layer_errors import layer_errors
from benchmarks.program import run
from benchmarks.rows import EngineCheck
from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine
from octorec.engine.load import engine_config, load
from octorec.engine.request import Request
from octorec.kernels import fused, reference
from octorec.models.presets import preset
from octorec.quant.load import load_model

BOUNDS = {  # of the GPU engine against the reference engine
    "mean_drift": 0.03,  # mean |difference| of teacher-forced log-probabilities, nats a code
    "beyond_noise": 0.5,  # of each code, the difference less `reference_noise`
    "top10_overlap": 0.90,  # mean share of the ten best items that both return
    "beam_overlap": 0.93,  # the same of all items of 128 beams
}
WIDTH = 128
BUCKET: dict[str, Any] = {"batch_sizes": (16,), "beam_widths": (WIDTH,), "default_beam_width": WIDTH}
REQUESTS, MIXES = 256, 64
TRIALS, NOISE = 32, 2.0**-8  # half to one unit in the last place of bfloat16


def random_requests(engine: Engine, n: int, seed: int) -> list[Request]:
    """Histories, widths, k, exclusions and sets of all kinds, over the catalog's live items."""
    generator = np.random.default_rng(seed)
    ids, sets = engine.catalog.item_ids, engine.catalog.set_names
    out = []
    for number in range(n):
        history = [ids[i] for i in generator.integers(0, len(ids), generator.integers(1, 80))]
        width = WIDTH if number % 2 else int(generator.integers(1, WIDTH + 1))
        allow = [sets[generator.integers(len(sets))]] if sets and number % 5 == 0 else []
        exclude = history if number % 3 else []
        out.append(Request(history, k=min(10, width), beam_width=width, exclude=exclude, allow=allow))
    return out


def against_reference(folder: Path, engine: Engine) -> dict[str, Any]:
    on_cpu = load(folder, **BUCKET)
    requests = random_requests(engine, REQUESTS, seed=1)
    generator = np.random.default_rng(2)
    targets = [engine.catalog.item_ids[i] for i in generator.integers(0, len(engine.catalog), len(requests))]
    expected = on_cpu.score(requests, targets)
    drift = np.abs(engine.score(requests, targets) - expected)
    noise = reference_noise(folder, on_cpu.catalog, requests, targets, expected)
    wide = [Request(r.history, k=WIDTH, beam_width=WIDTH, exclude=r.exclude, allow=r.allow) for r in requests]
    pairs = list(zip(engine.recommend(wide), on_cpu.recommend(wide), strict=True))
    return {
        "mean_drift": float(drift.mean()),
        "max_drift": float(drift.max()),
        "noise_at_max_drift": float(noise.flat[drift.argmax()]),
        "max_noise": float(noise.max()),
        "beyond_noise": float((drift - noise).max()),
        "top10_overlap": float(np.mean([shared(a.items[:10], b.items[:10]) for a, b in pairs])),
        "beam_overlap": float(np.mean([shared(a.items, b.items) for a, b in pairs])),
    }


def reference_noise(
    folder: Path, catalog: Catalog, requests: list[Request], targets: list[str], expected: np.ndarray
) -> np.ndarray:
    """The most that roundings move each of the `expected` log-probabilities [n, L] of the reference, in bfloat16.

    In each trial every attention's output moves by up to NOISE of itself, as another order of a sum would move it.
    """
    model, generator = load_model(folder, reference, "cpu", torch.bfloat16), torch.Generator()
    blocks: Any = model.blocks
    for block in blocks:
        for attention in (block.cross_attn, block.self_attn):
            attention.o_proj.register_forward_hook(partial(moved, generator))
    engine = Engine(model, catalog, engine_config(BUCKET), "cpu", reference)
    noise = np.zeros_like(expected)
    for seed in range(TRIALS):
        generator.manual_seed(seed)
        noise = np.maximum(noise, np.abs(engine.score(requests, targets) - expected))
    return noise


def moved(generator: torch.Generator, module: torch.nn.Module, inputs: Any, out: torch.Tensor) -> torch.Tensor:
    return (out * (1 + NOISE * (2 * torch.rand(out.shape, generator=generator) - 1))).to(out.dtype)


def shared(a: list[str], b: list[str]) -> float:
    return len(set(a) & set(b)) / max(len(a), len(b), 1)


def differing_answers(engine: Engine) -> int:
    """Answers that change by a bit when the same requests are put together in MIXES other ways, or asked again."""
    requests = random_requests(engine, 48, seed=3)
    expected = engine.recommend(requests)
    generator = np.random.default_rng(4)
    differing = 0
    for _ in range(MIXES):
        order = generator.permutation(len(requests))[: generator.integers(1, len(requests) + 1)]
        answers = engine.recommend([requests[i] for i in order])
        differing += sum(answer != expected[i] for answer, i in zip(answers, order, strict=True))
    return differing


def long_run(engine: Engine, batches: int) -> dict[str, Any]:
    """`batches` single requests: invalid answers, and megabytes of GPU memory gained."""
    requests = random_requests(engine, 512, seed=5)
    known = set(engine.catalog.item_ids)
    engine.recommend(requests[:8])
    before, invalid = torch.cuda.memory_reserved(), 0
    for number in range(batches):
        answer = engine.recommend([requests[number % len(requests)]])[0]
        invalid += not (np.isfinite(answer.scores).all() and known.issuperset(answer.items))
    return {"batches": batches, "invalid": invalid, "memory_gained_mb": (torch.cuda.memory_reserved() - before) / 2**20}


@torch.inference_mode()
def check_layers(out: Path) -> bool:
    """Every layer's errors against float64; whether all are within their bounds."""
    held = True
    for row in layer_errors(preset("moe-4b-a0.5b"), fused):
        records.append(out, row)
        errors = f"error {row.error:.2e} rounding {row.rounding:.2e} quantization {row.quantization:.2e}"
        said = f"{errors} bound {row.bound:.2e} {'' if row.held else 'NOT HELD'}"
        print(f"{row.layer:30} {row.precision:5} {said}", flush=True)
        held &= row.held
    return held


def check_engines(folder: Path, batches: int, out: Path) -> bool:
    """The demo's checkpoints on the GPU against the reference engine; whether all bounds held."""
    held = True
    for precision in ("bf16", "fp8"):
        path = folder / precision
        engine = load(path, device="cuda", **BUCKET)
        found = against_reference(path, engine)
        within = all(
            found[name] >= bound if "overlap" in name else found[name] <= bound for name, bound in BOUNDS.items()
        )
        differing = differing_answers(engine)
        single = load(path, device="cuda", **{**BUCKET, "batch_sizes": (1,)})
        run = long_run(single, batches)
        good = within and differing == 0 and run["invalid"] == 0 and run["memory_gained_mb"] == 0
        held &= good
        row = EngineCheck(
            checkpoint=folder.name,
            precision=precision,
            **found,
            bounds=BOUNDS,
            mixes=MIXES,
            differing=differing,
            **run,
            held=good,
        )
        records.append(out, row)
        print(precision, records.as_json(row), flush=True)
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", nargs="?", type=Path)
    what.add_argument("--layers", action="store_true")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "correctness.jsonl")
    parser.add_argument("--batches", type=int, default=10_000)
    options = parser.parse_args()
    held = check_layers(options.out) if options.layers else check_engines(options.folder, options.batches, options.out)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    run(main, "cuda")
