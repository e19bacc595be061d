"""The rows of `benchmarks.calibration` as a table for docs/quality.md."""

from benchmarks.calibration import ALPHA, IDEAL
from benchmarks.rows import NllRow, PopulationRow, recorded
from benchmarks.tables import newest, table

NOTHING = "Not yet measured: no row is recorded."


def page() -> str:
    """Every population of relative differences and of NLL, and a line on the populations of mean differences."""
    populations = newest(
        recorded("calibration.jsonl", PopulationRow),
        lambda row: (row.losses, row.targets, row.who, row.balanced, row.kind, row.users),
    )
    nlls = newest(recorded("calibration.jsonl", NllRow), lambda row: (row.shape, row.users))
    rows: list[PopulationRow | NllRow] = [*populations, *nlls]
    if not rows:
        return NOTHING
    lines = [_line(row) for row in populations if row.kind == "ratio"] + [_nll_line(row) for row in nlls]
    columns = ["who loses", "expected losses", "targets a user", "users", "recall: low, high", "NDCG: low, high"]
    shown = table([*columns, "not inferior, inferior", "power"], lines)
    worst = max(rate for row in rows for rate in row.error_rates)
    means = max(rate for row in populations if row.kind == "mean" for rate in row.error_rates)
    return (
        f"{shown}\n\n{rows[-1].simulations:,} samples a row. The highest rate of all is {worst:.1%}, that of the "
        f"mean differences of the same populations {means:.1%}; {ALPHA:.1%} is promised "
        f"(commit {rows[-1].environment.commit})."
    )


def _line(row: PopulationRow) -> list[str]:
    return [
        row.who + (", gains as many" if row.balanced else ""),
        f"{row.losses:,}",
        f"{row.targets}",
        f"{row.users:,.0f}",
        f"{row.recall_low_errs:.1%}, {row.recall_high_errs:.1%}",
        f"{row.ndcg_low_errs:.1%}, {row.ndcg_high_errs:.1%}",
        f"{row.not_inferior_errs:.1%}, {row.inferior_errs:.1%}",
        f"{row.recall_power:.0%} of {IDEAL:.0%}",
    ]


def _nll_line(row: NllRow) -> list[str]:
    ends, power = f"NLL: {row.low_errs:.1%}, {row.high_errs:.1%}", f"{row.power:.0%} of {IDEAL:.0%}"
    return [f"NLL, {row.shape}", "", "1", f"{row.users:,.0f}", ends, "", "", power]
