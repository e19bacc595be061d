"""The proof's rows as tables for docs/quality.md and one line for docs/numbers.md; `benchmarks.report` calls these."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from benchmarks.records import Row
from benchmarks.rows import recorded
from benchmarks.rows.quality import FloorRow, Judged, SetVerdict, Subject
from benchmarks.rows.verdicts import Interval
from benchmarks.tables import table

SETS = ("beauty", "sports", "toys")
RECIPES = ("fp8", "fp8-channel", "fp8-block")
NOISE = ("bf16, other batches", "float32", "fp8", "bf16, seed 1", "bf16, seed 2")
BREAKERS = (
    "fp8", "fp8, float32 sums", "fp8-channel", "fp8-block", "fp8 (simulated)", "experts-tensor (simulated)",
    "tensor (simulated)", "router-and-heads (simulated)", "e5m2 (simulated)", "e5m2-tensor-everywhere (simulated)",
    "fp8, scales one row off",
)  # fmt: skip
PUBLISHED = {  # TIGER (Rajput et al., arXiv 2305.05065), table 1: recall@5, ndcg@5, recall@10, ndcg@10
    "beauty": (0.0454, 0.0321, 0.0648, 0.0384),
    "sports": (0.0264, 0.0181, 0.0400, 0.0225),
    "toys": (0.0521, 0.0371, 0.0712, 0.0432),
}
METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")
NOTHING = "Not yet measured: no row is recorded."
S = TypeVar("S", bound=Subject)


def rows() -> list[Subject]:
    return recorded("quality.jsonl", Subject)


def find(
    all_rows: Iterable[Row], kind: type[S], scope: str, recipe: str, model: str = "moe", seed: int | None = 0
) -> S | None:
    """The newest row of a recipe that is of `kind`; seed None: of any seed."""
    found = [
        row
        for row in all_rows
        if isinstance(row, kind) and (row.scope, row.recipe, row.model) == (scope, recipe, model)
    ]
    return next((row for row in reversed(found) if seed in (None, row.seed)), None)


def verdicts() -> str:
    """FP8 against BF16, pooled and a set at a time."""
    recorded_rows = rows()
    if find(recorded_rows, Judged, "pooled", "fp8") is None:
        return NOTHING
    lines = []
    for scope in ("pooled", *SETS):
        for recipe in RECIPES:
            if row := find(recorded_rows, Judged, scope, recipe):
                values = f"{row.targets:,}", f"{row.recall_10:.4f}"
                ratios = _ratio(row, "recall@10"), _ratio(row, "ndcg@10"), _nll(row), _overlap(row)
                lines.append([scope, recipe, *values, *ratios, _verdict(row)])
    columns = [
        "set",
        "recipe",
        "targets",
        "recall@10",
        "of BF16, recall@10",
        "of BF16, ndcg@10",
        "NLL",
        "top 10 shared",
    ]
    return table([*columns, "at a margin of 1 %"], lines)


def models() -> str:
    """The BF16 models on test targets beside the floors and TIGER's published row."""
    recorded_rows = rows()
    lines = []
    for scope in SETS:
        systems = [
            ("OneRec-V2 MoE, BF16", find(recorded_rows, SetVerdict, scope, "bf16")),
            ("Markov chain", find(recorded_rows, FloorRow, scope, "markov")),
            ("popularity", find(recorded_rows, FloorRow, scope, "popularity")),
            ("OneRec-V2 dense, BF16", find(recorded_rows, SetVerdict, scope, "bf16", "dense")),
        ]
        for label, row in systems:
            if row is not None:
                lines.append([scope, label, *(f"{row.test[metric]:.4f}" for metric in METRICS)])
        if lines:
            lines.append([scope, "TIGER, as published", *(f"{value:.4f}" for value in PUBLISHED[scope])])
    return table(["test targets", "system", *METRICS], lines) if lines else NOTHING


def noise() -> str:
    """What FP8 changes beside what changes anyway."""
    recorded_rows = rows()
    lines = []
    for scope in SETS:
        for recipe in NOISE:
            row = find(recorded_rows, Judged, scope, recipe, seed=None)
            if row is None:
                continue
            beam, apart, invalid = "", "", ""
            if isinstance(row, SetVerdict):
                drift = row.log_prob_difference
                beam, apart = f"{row.beam_overlap:.3f}", f"{drift.mean:.4f} / {drift.max:.2f}"
                invalid = f"{row.invalid:.0%}"
            shared = _overlap(row), beam, apart
            lines.append([scope, recipe, *shared, _nll(row), _ratio(row, "recall@10"), invalid])
    columns = ["set", "against BF16", "top 10 shared", "beam shared", "log-probabilities, mean / max difference", "NLL"]
    return table([*columns, "recall@10", "no items"], lines) if lines else NOTHING


def breakers() -> str:
    """Every choice that the recipe could have made otherwise."""
    recorded_rows = rows()
    lines = []
    for recipe in BREAKERS:
        found = [find(recorded_rows, SetVerdict, scope, recipe) for scope in SETS]
        some = next((row for row in found if row), None)
        if some is None:
            continue
        sqnr = _beside(found, lambda row: "" if row.mean_sqnr_db is None else f"{row.mean_sqnr_db:.1f}")
        nll = _beside(found, lambda row: f"{row.nll_difference.value:+.4f}")
        ndcg = _beside(found, lambda row: f"{row.relative_difference['ndcg@10'].value:+.2%}")
        pooled = find(recorded_rows, Judged, "pooled", recipe)
        whole = [_ratio(pooled, "recall@10"), _nll(pooled), _verdict(pooled)] if pooled else ["", "", ""]
        lines.append([recipe, some.arithmetic, sqnr, nll, ndcg, *whole])
    columns = [f"recipe ({', '.join(SETS)})", "arithmetic", "mean SQNR, dB", "NLL", "ndcg@10"]
    columns += ["pooled: recall@10", "NLL", "at a margin of 1 %"]
    return table(columns, lines) if lines else NOTHING


def _beside(found: Sequence[SetVerdict | None], show: Callable[[SetVerdict], str]) -> str:
    return " / ".join("-" if row is None else show(row) for row in found)


def line() -> str:
    """One line for docs/numbers.md."""
    row = find(rows(), Judged, "pooled", "fp8")
    if row is None:
        page = "[quality](quality.md)"
        return f"FP8 against BF16 on three public shops, margin committed beforehand: not yet measured ({page})."
    recall = row.relative_difference["recall@10"]
    return (
        f"On Amazon Beauty, Sports and Toys ({row.users:,} users, {row.targets:,} targets, margin committed "
        f"beforehand) FP8 keeps {1 + recall.value:.2%} of BF16's recall@10 "
        f"(95 % interval {_ends(recall)}): **{_verdict(row)}** at a margin of {row.margin:.0%}; "
        f"see [quality](quality.md)."
    )


def _ratio(row: Judged, metric: str) -> str:
    found = row.relative_difference[metric]
    return f"{found.value:+.2%} ({_ends(found)})"


def _ends(found: Interval) -> str:
    return " .. ".join("unbounded" if end is None else f"{end:+.2%}" for end in (found.low, found.high))


def _overlap(row: Judged) -> str:
    return f"{row.top10_overlap:.3f}" if isinstance(row, SetVerdict) else ""


def _nll(row: Judged) -> str:
    found = row.nll_difference
    if found.low is None:  # nothing differs, so nothing bounds what could
        return f"{found.value:+.4f}"
    return f"{found.value:+.4f} ({found.low:+.4f} .. {found.high:+.4f})"


def _verdict(row: Judged) -> str:
    said, needed = row.verdict.replace("_", " "), row.users_needed
    return f"{said} ({needed:,} users needed)" if row.verdict == "inconclusive" and needed else said
