"""The rows of `benchmarks.online_calibration` as a table for docs/online-statistics.md."""

import math

from benchmarks.online_calibration import ALPHA, POWER
from benchmarks.rows import OnlineCellRow, SampleRatioRow, recorded
from benchmarks.tables import newest, table

FILE = "online_calibration.jsonl"
NOTHING = "Not yet measured: no row is recorded."
POWERED = ("once", "planned")  # when looks are where the plan has them


def page() -> str:
    """A line for each metric, share and time of looks, with both truths; and one on the sample ratio."""
    cells = newest(recorded(FILE, OnlineCellRow), lambda row: (row.what, row.share, row.when, row.truth))
    ratios = newest(recorded(FILE, SampleRatioRow), lambda row: row.share)
    if not cells:
        return NOTHING
    margins = {(row.what, row.share, row.when): row for row in cells if row.truth == "margin"}
    lines = [_line(row, margins.get((row.what, row.share, row.when))) for row in cells if row.truth == "same"]
    columns = [
        "metric",
        "treatment's share",
        "looks",
        "units planned",
        "goal errs",
        "guardrail errs",
        "coverage",
        "power",
    ]
    found = ", ".join(f"{row.errs:.2%} (share {row.share})" for row in ratios)
    rows: list[OnlineCellRow | SampleRatioRow] = [*cells, *ratios]
    last = rows[-1]
    return (
        f"{table(columns, lines)}\n\n{last.simulations:,} runs a cell. Promised are at most {ALPHA:.0%} for a goal, "
        f"{ALPHA / 2:.1%} for a guardrail and {1 - ALPHA:.0%} coverage of all looks together; {POWER:.0%} power is "
        f"planned where the looks are. A sound sample ratio was found broken in {found} of runs, looked at a hundred "
        f"times each (commit {last.environment.commit}). {beyond(cells)}"
    )


def beyond(cells: list[OnlineCellRow]) -> str:
    """The cells that break a promise by more than three standard errors, or miss the planned power by three points."""
    said = []
    for row in cells:
        where = f"{row.what}, share {row.share}, {row.when}"
        judged = ("goal errs", row.goal_errs, ALPHA), ("guardrail errs", row.guardrail_errs, ALPHA / 2)
        for name, rate, promised in judged:
            allowed = promised + 3 * math.sqrt(promised * (1 - promised) / row.simulations)
            if rate is not None and rate > allowed:
                said.append(f"{where}: {name} {rate:.2%}, allowed {allowed:.2%}")
        if row.when in POWERED and row.power is not None and row.power < POWER - 0.03:
            said.append(f"{where}: power {row.power:.1%}")
    return f"Outside of that: {'; '.join(said)}." if said else "No cell is outside of that by three standard errors."


def _line(row: OnlineCellRow, margin: OnlineCellRow | None) -> list[str]:
    errs = "" if margin is None else f"{margin.guardrail_errs:.1%}"
    covered = min(one.coverage for one in (row, margin) if one is not None)
    rates = [f"{row.goal_errs:.1%}", errs, f"{covered:.1%}", f"{row.power:.0%}"]
    return [row.what, row.share, row.when, f"{row.units:,.0f}", *rates]
