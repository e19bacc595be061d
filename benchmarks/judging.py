"""How long a verdict takes: `octorec evaluate`'s whole path of many targets through two checkpoints, part by part.

    python -m benchmarks.judging runs/beauty/bf16 runs/beauty/fp8 --data runs/beauty/interactions.csv --device cuda

The targets are the newest items of each user. A row is appended to `results/judging.jsonl`.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import records
from benchmarks.program import run
from benchmarks.quantize import cpu_model
from benchmarks.rows import JudgingRow
from octorec.data.interactions import read_interactions
from octorec.data.splits import leave_last_out
from octorec.engine.load import load
from octorec.engine.widths import of_one
from octorec.evaluate.compare import compare_predictions, evaluate_baselines
from octorec.evaluate.predictions import predict
from octorec.progress_bar import counting


def measure(
    baseline: Path, candidate: Path, data: Path, device: str, targets: int, k: int, beam_width: int, hold_out: int
) -> JudgingRow:
    """Evaluate once, and time each part."""
    parts: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        parts[name] = round(time.perf_counter() - begin, 2)

    begin = time.perf_counter()
    with timed("read"):
        train, examples = leave_last_out(read_interactions(data), hold_out)
        examples = examples[:targets]
    with timed("load"):
        engines = [load(path, device=device, **of_one(beam_width)) for path in (baseline, candidate)]
    answers = {}
    for name, engine in zip(("baseline", "candidate"), engines, strict=True):
        with timed(name), counting(name, "requests") as progress:
            answers[name] = predict(engine, examples, k, progress=progress)
    before, after = answers["baseline"], answers["candidate"]
    with timed("floors"):
        floors = evaluate_baselines(train, examples, k, before.exclude_seen)
    with timed("verdict"):
        found = compare_predictions(before, after, floors=floors)
    return JudgingRow(
        device=device,
        data=data.name,
        baseline=baseline.name,
        candidate=candidate.name,
        targets=len(examples),
        items=len(engines[0].catalog),
        k=k,
        beam_width=beam_width,
        seconds=round(time.perf_counter() - begin, 2),
        parts=parts,
        verdict=found.verdict.outcome,
        cpu_model=cpu_model(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("candidate", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--targets", type=int, default=50_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--beam-width", type=int, default=128)
    parser.add_argument("--hold-out", type=int, default=3)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "judging.jsonl")
    asked = parser.parse_args()
    how = asked.device, asked.targets, asked.k, asked.beam_width, asked.hold_out
    row = measure(asked.baseline, asked.candidate, asked.data, *how)
    records.append(asked.out, row)
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in row.parts.items())
    print(f"{row.targets:,} targets, {row.device}: {row.seconds:.1f} s ({parts}); {row.verdict}")


if __name__ == "__main__":
    run(main)
