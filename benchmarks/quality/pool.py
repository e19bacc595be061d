"""The verdict of plan.md: the stored answers of the three sets as one, and the seeds beside each other.

    python -m benchmarks.quality.pool runs/quality --out benchmarks/results/quality.jsonl

Copies the rows of every run in the folder, then adds those with scope `pooled` and those of recipe `bf16, seed N`.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.quality.data import SETS
from benchmarks.quality.judge import MARGIN, columns
from benchmarks.quality.run import RECIPES
from octorec.evaluate.compare import compare_predictions
from octorec.evaluate.pool import pooled
from octorec.evaluate.predictions import Predictions

SEEDS = (1, 2)


def verdicts(folder: Path) -> list[dict[str, Any]]:
    """A row a recipe over all three sets, both precisions on the same targets."""
    out = []
    for recipe in RECIPES:
        before, after = (_pooled(folder, name) for name in ("bf16", recipe))
        found = compare_predictions(before, after, MARGIN)
        row = {**_about("pooled", 0), "recipe": recipe, "arithmetic": "fp8 kernels", **columns(found)}
        out.append({**row, "bf16": {name: round(value, 6) for name, value in found.baseline.items()}})
    return out


def seeds(folder: Path) -> list[dict[str, Any]]:
    """How much another seed of the Beauty MoE differs from the first, by the same statistics."""
    first = Predictions.load(folder / "beauty-moe-0" / "bf16.parquet")
    out = []
    for seed in SEEDS:
        path = folder / f"beauty-moe-{seed}" / "bf16.parquet"
        if path.exists():
            found = columns(compare_predictions(first, Predictions.load(path), MARGIN))
            out.append({**_about("beauty", seed), "recipe": f"bf16, seed {seed}", "arithmetic": "bf16", **found})
    return out


def _pooled(folder: Path, recipe: str) -> Predictions:
    return pooled({name: Predictions.load(folder / f"{name}-moe-0" / f"{recipe}.parquet") for name in SETS})


def _about(scope: str, seed: int) -> dict[str, Any]:
    return {"scope": scope, "model": "moe", "seed": seed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "quality.jsonl")
    options = parser.parse_args()
    lines = [line for path in sorted(options.folder.glob("*/rows.jsonl")) for line in path.read_text().splitlines()]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    for row in [*verdicts(options.folder), *seeds(options.folder)]:
        records.append(options.out, row)
        ratio = row["relative_difference"]["recall@10"]
        print(f"{row['scope']:8s} {row['recipe']:16s} {ratio['value']:+.4f} [{ratio['low']:+.4f}, {ratio['high']:+.4f}]"
              f" NLL {row['nll_difference']['value']:+.5f} {row['verdict']}")  # fmt: skip


if __name__ == "__main__":
    main()
