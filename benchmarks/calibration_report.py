"""The rows of `benchmarks.calibration` as a table for docs/quality.md."""

from benchmarks.calibration import ALPHA, IDEAL, RESULTS
from benchmarks.records import read
from benchmarks.tables import Row, newest, table

NOTHING = "Not yet measured: no row is recorded."
KEYS = ("losses", "targets", "who", "balanced", "kind", "shape", "users")


def page() -> str:
    """Every population of relative differences and of NLL, and a line on the populations of mean differences."""
    rows = newest(read(RESULTS), lambda row: tuple(row.get(key) for key in KEYS))
    if not rows:
        return NOTHING
    ratios = [row for row in rows if row.get("kind") == "ratio"]
    lines = [_line(row) for row in ratios] + [_nll_line(row) for row in rows if "shape" in row]
    columns = ["who loses", "expected losses", "targets a user", "users", "recall: low, high", "NDCG: low, high"]
    shown = table([*columns, "not inferior, inferior", "power"], lines)
    worst = max(rate for row in rows for name, rate in row.items() if name.endswith("errs"))
    means = max(
        rate for row in rows if row.get("kind") == "mean" for name, rate in row.items() if name.endswith("errs")
    )
    return (
        f"{shown}\n\n{rows[-1]['simulations']:,} samples a row. The highest rate of all is {worst:.1%}, that of the "
        f"mean differences of the same populations {means:.1%}; {ALPHA:.1%} is promised (commit {rows[-1]['commit']})."
    )


def _line(row: Row) -> list[str]:
    who = row["who"] + (", gains as many" if row["balanced"] else "")
    ends = [f"{row[f'{name}: low errs']:.1%}, {row[f'{name}: high errs']:.1%}" for name in ("recall", "ndcg")]
    both = f"{row['not_inferior errs']:.1%}, {row['inferior errs']:.1%}"
    return [who, f"{row['losses']:,}", f"{row['targets']}", f"{row['users']:,.0f}", *ends, both, _power(row, "recall")]


def _nll_line(row: Row) -> list[str]:
    ends = f"NLL: {row['nll: low errs']:.1%}, {row['nll: high errs']:.1%}"
    return [f"NLL, {row['shape']}", "", "1", f"{row['users']:,.0f}", ends, "", "", _power(row, "nll")]


def _power(row: Row, name: str) -> str:
    return f"{row[f'{name}: power']:.0%} of {IDEAL:.0%}"
