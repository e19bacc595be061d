"""The proof's rows as tables for docs/quality.md and one line for the README; `benchmarks.report` calls these."""

from collections.abc import Callable, Iterable

from benchmarks.records import RESULTS, read
from benchmarks.tables import Row, table

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


def rows() -> list[Row]:
    return read(RESULTS / "quality.jsonl")


def find(all_rows: Iterable[Row], scope: str, recipe: str, model: str = "moe", seed: int | None = 0) -> Row | None:
    """The newest row of a recipe; seed None: of any seed."""
    found = [row for row in all_rows if (row["scope"], row["recipe"], row["model"]) == (scope, recipe, model)]
    return next((row for row in reversed(found) if seed in (None, row["seed"])), None)


def verdicts() -> str:
    """FP8 against BF16, pooled and a set at a time."""
    recorded = rows()
    if find(recorded, "pooled", "fp8") is None:
        return NOTHING
    lines = []
    for scope in ("pooled", *SETS):
        for recipe in RECIPES:
            if row := find(recorded, scope, recipe):
                values = f"{row['targets']:,}", f"{row['recall@10']:.4f}"
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
    recorded = rows()
    lines = []
    for scope in SETS:
        for name, label in (("bf16", "OneRec-V2 MoE, BF16"), ("markov", "Markov chain"), ("popularity", "popularity")):
            if row := find(recorded, scope, name):
                lines.append([scope, label, *(f"{row['test'][metric]:.4f}" for metric in METRICS)])
        if row := find(recorded, scope, "bf16", "dense"):
            lines.append([scope, "OneRec-V2 dense, BF16", *(f"{row['test'][metric]:.4f}" for metric in METRICS)])
        if lines:
            lines.append([scope, "TIGER, as published", *(f"{value:.4f}" for value in PUBLISHED[scope])])
    return table(["test targets", "system", *METRICS], lines) if lines else NOTHING


def noise() -> str:
    """What FP8 changes beside what changes anyway."""
    recorded = rows()
    lines = []
    for scope in SETS:
        for recipe in NOISE:
            row = find(recorded, scope, recipe, seed=None)
            if row is None:
                continue
            beam = f"{row['beam_overlap']:.3f}" if "beam_overlap" in row else ""
            drift = row.get("log_prob_difference")
            apart = f"{drift['mean']:.4f} / {drift['max']:.2f}" if drift else ""
            invalid = f"{row['invalid']:.0%}" if "invalid" in row else ""
            shared = _overlap(row), beam, apart
            lines.append([scope, recipe, *shared, _nll(row), _ratio(row, "recall@10"), invalid])
    columns = ["set", "against BF16", "top 10 shared", "beam shared", "log-probabilities, mean / max difference", "NLL"]
    return table([*columns, "recall@10", "no items"], lines) if lines else NOTHING


def breakers() -> str:
    """Every choice that the recipe could have made otherwise."""
    recorded = rows()
    lines = []
    for recipe in BREAKERS:
        found = [find(recorded, scope, recipe) for scope in SETS]
        some = next((row for row in found if row), None)
        if some is None:
            continue
        sqnr = _beside(found, lambda row: f"{row['mean_sqnr_db']:.1f}" if "mean_sqnr_db" in row else "")
        nll = _beside(found, lambda row: f"{row['nll_difference']['value']:+.4f}")
        ndcg = _beside(found, lambda row: f"{row['relative_difference']['ndcg@10']['value']:+.2%}")
        pooled = find(recorded, "pooled", recipe)
        whole = [_ratio(pooled, "recall@10"), _nll(pooled), _verdict(pooled)] if pooled else ["", "", ""]
        lines.append([recipe, some["arithmetic"], sqnr, nll, ndcg, *whole])
    columns = [f"recipe ({', '.join(SETS)})", "arithmetic", "mean SQNR, dB", "NLL", "ndcg@10"]
    columns += ["pooled: recall@10", "NLL", "at a margin of 1 %"]
    return table(columns, lines) if lines else NOTHING


def _beside(found: list[Row | None], show: Callable[[Row], str]) -> str:
    return " / ".join("-" if row is None else show(row) for row in found)


def line() -> str:
    """The README's."""
    row = find(rows(), "pooled", "fp8")
    if row is None:
        page = "[docs/quality.md](docs/quality.md)"
        return f"FP8 against BF16 on three public shops, margin committed beforehand: not yet measured ({page})."
    return (
        f"On Amazon Beauty, Sports and Toys ({row['users']:,} users, {row['targets']:,} targets, margin committed "
        f"beforehand) FP8 keeps {1 + row['relative_difference']['recall@10']['value']:.2%} of BF16's recall@10 "
        f"(95 % interval {_ends(row, 'recall@10')}): **{_verdict(row)}** at a margin of {row['margin']:.0%}; "
        f"see [docs/quality.md](docs/quality.md)."
    )


def _ratio(row: Row, metric: str) -> str:
    return f"{row['relative_difference'][metric]['value']:+.2%} ({_ends(row, metric)})"


def _ends(row: Row, metric: str) -> str:
    found = row["relative_difference"][metric]
    return " .. ".join("unbounded" if found[end] is None else f"{found[end]:+.2%}" for end in ("low", "high"))


def _overlap(row: Row) -> str:
    return f"{row['top10_overlap']:.3f}" if "top10_overlap" in row else ""


def _nll(row: Row) -> str:
    found = row["nll_difference"]
    if found["low"] is None:  # nothing differs, so nothing bounds what could
        return f"{found['value']:+.4f}"
    return f"{found['value']:+.4f} ({found['low']:+.4f} .. {found['high']:+.4f})"


def _verdict(row: Row) -> str:
    said = row["verdict"].replace("_", " ")
    needed = row.get("users_needed")
    return f"{said} ({needed:,} users needed)" if row["verdict"] == "inconclusive" and needed else said
