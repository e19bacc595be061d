"""The rows of `benchmarks.attacks`, before and after the limits, as tables of docs/security.md."""

from collections.abc import Callable, Sequence

from benchmarks.rows import AttackAnswerRow, AttackRow, recorded
from benchmarks.speed_report import nothing
from benchmarks.tables import newest, table

Rows = Sequence[AttackRow] | Sequence[AttackAnswerRow]


def attacks() -> str:
    """Each attack: liveness, memory, and what became of the connections."""
    rows = newest(recorded("attacks.jsonl", AttackRow), lambda row: (row.case, row.side))
    if not rows:
        return nothing("attacks")
    cells = [[row.says, row.side, *_cells(row)] for row in sorted(rows, key=_order(rows))]
    columns = ["attack", "limits", "liveness p99 / worst, ms", "not live", "MB", "connections were told", "left open"]
    last, here = rows[-1], rows[-1].environment
    busy = max(row.load for row in rows)
    about = (
        f"{last.cores} cores, which other work shared: a load of up to {busy:.0f}. {here.date}, torch {here.torch}, "
        f"commit {here.commit}: `{here.command}`."
    )
    return table(columns, cells) + "\n\n" + about


def answers() -> str:
    """What single requests were answered, and what was answered while the log was not read."""
    rows = newest(recorded("attacks.jsonl", AttackAnswerRow), lambda row: (row.case, row.side))
    if not rows:
        return nothing("attacks")
    cells = [[row.says, row.side, row.found] for row in sorted(rows, key=_order(rows))]
    return table(["case", "limits", "found"], cells)


def _cells(row: AttackRow) -> list[object]:
    told = ", ".join(f"{number} {word}" for word, number in sorted(row.said.items()))
    assert row.live_p99_ms is not None
    assert row.live_worst_ms is not None
    live = f"{row.live_p99_ms:.0f} / {row.live_worst_ms:.0f}"
    return [live, row.live_failed, f"{row.gained_mb:+.0f}", told, row.still_open]


def _order(rows: Rows) -> Callable[[AttackRow | AttackAnswerRow], tuple[int, bool]]:
    cases = list(dict.fromkeys(row.case for row in rows))
    return lambda row: (cases.index(row.case), row.side != "before")
