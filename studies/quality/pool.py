"""The verdict of plan.md: the stored answers of the three sets as one, and the seeds beside each other.

    python -m studies.quality.pool runs/quality --out results/quality.jsonl

Copies the rows of every run in the folder, then adds those with scope `pooled` and those of recipe `bf16, seed N`.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows import PooledVerdict
from benchmarks.rows.verdicts import Interval
from studies.quality.data import SETS
from studies.quality.judge import MARGIN, field_of
from studies.quality.outcomes import Outcomes, pooled

SEEDS = (1, 2)


def verdicts(folder: Path) -> list[PooledVerdict]:
    """A row for every recipe that all sets have, both precisions on the same targets."""
    whole = pooled({name: Outcomes.load(folder / f"{name}-moe-0" / "outcomes.parquet") for name in SETS})
    return [_row("pooled", 0, whole, name) for name in whole.systems if name != "bf16"]


def seeds(folder: Path) -> list[PooledVerdict]:
    """How much another seed of the Beauty MoE differs from the first, by the same statistics."""
    first = Outcomes.load(folder / "beauty-moe-0" / "outcomes.parquet")
    out = []
    for seed in SEEDS:
        path = folder / f"beauty-moe-{seed}" / "outcomes.parquet"
        if path.exists():
            name, systems = f"bf16, seed {seed}", {"bf16": first.systems["bf16"]}
            both = Outcomes(
                first.user_ids, first.k, {**systems, name: Outcomes.load(path).systems["bf16"]}, exclude_seen=True
            )
            out.append(_row("beauty", seed, both, name))
    return out


def _row(scope: str, seed: int, outcomes: Outcomes, name: str) -> PooledVerdict:
    found, verdict = outcomes.judge("bf16", name, MARGIN)
    nll = found.pop("nll")
    before, after = (
        {metric: round(float(values.mean()), 6) for metric, values in outcomes.values(system).items()}
        for system in ("bf16", name)
    )
    metrics: dict[str, Any] = {field_of(metric): value for metric, value in after.items()}
    return PooledVerdict(
        scope=scope,
        model="moe",
        seed=seed,
        recipe=name,
        arithmetic="as in the sets' rows",
        users=len(set(outcomes.user_ids)),
        targets=len(outcomes.user_ids),
        **metrics,
        bf16=before,
        relative_difference={metric: Interval(**value.to_dict()) for metric, value in found.items()},
        nll_difference=Interval(**nll.to_dict()),
        verdict=verdict.outcome,
        users_needed=verdict.users_needed,
        margin=verdict.margin,
    )


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
        ratio = row.relative_difference["recall@10"]
        print(f"{row.scope:8s} {row.recipe:16s} {ratio.value:+.4f} [{ratio.low:+.4f}, {ratio.high:+.4f}]"
              f" NLL {row.nll_difference.value:+.5f} {row.verdict}")  # fmt: skip


if __name__ == "__main__":
    run(main)
