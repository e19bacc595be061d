"""The rows of `benchmarks.online_calibration` as a table for docs/online-statistics.md."""

import math

from benchmarks.online_calibration import ALPHA, POWER, RESULTS
from benchmarks.records import read
from benchmarks.tables import Row, newest, table

NOTHING = "Not yet measured: no row is recorded."
POWERED = ("once", "planned")  # when looks are where the plan has them
KEYS = ("what", "share", "when", "truth")


def page() -> str:
    """A line for each metric, share and time of looks, with both truths; and one on the sample ratio."""
    rows = newest(read(RESULTS), lambda row: tuple(row.get(key) for key in KEYS))
    if not rows:
        return NOTHING
    same = [row for row in rows if row.get("truth") == "same"]
    margins = {tuple(row[key] for key in KEYS[:3]): row for row in rows if row.get("truth") == "margin"}
    lines = [_line(row, margins.get(tuple(row[key] for key in KEYS[:3]))) for row in same]
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
    ratios = ", ".join(f"{row['errs']:.2%} (share {row['share']})" for row in rows if row["what"] == "sample ratio")
    last = rows[-1]
    return (
        f"{table(columns, lines)}\n\n{last['simulations']:,} runs a cell. Promised are at most {ALPHA:.0%} for a goal, "
        f"{ALPHA / 2:.1%} for a guardrail and {1 - ALPHA:.0%} coverage of all looks together; {POWER:.0%} power is "
        f"planned where the looks are. A sound sample ratio was found broken in {ratios} of runs, looked at a hundred "
        f"times each (commit {last['commit']}). {beyond(rows)}"
    )


def beyond(rows: list[Row]) -> str:
    """The cells that break a promise by more than three standard errors, or miss the planned power by three points."""
    cells = [row for row in rows if row["what"] != "sample ratio"]
    said = []
    for row in cells:
        where = f"{row['what']}, share {row['share']}, {row['when']}"
        for name, promised in (("goal errs", ALPHA), ("guardrail errs", ALPHA / 2)):
            allowed = promised + 3 * math.sqrt(promised * (1 - promised) / row["simulations"])
            if row.get(name, 0) > allowed:
                said.append(f"{where}: {name} {row[name]:.2%}, allowed {allowed:.2%}")
        if row["when"] in POWERED and row.get("power", 1) < POWER - 0.03:
            said.append(f"{where}: power {row['power']:.1%}")
    return f"Outside of that: {'; '.join(said)}." if said else "No cell is outside of that by three standard errors."


def _line(row: Row, margin: Row | None) -> list[str]:
    errs = "" if margin is None else f"{margin['guardrail errs']:.1%}"
    covered = min(one["coverage"] for one in (row, margin) if one is not None)
    rates = [f"{row['goal errs']:.1%}", errs, f"{covered:.1%}", f"{row['power']:.0%}"]
    return [row["what"], row["share"], row["when"], f"{row['units']:,.0f}", *rates]
