"""The rows of `benchmarks.attacks`, before and after the limits, as tables of docs/security.md."""

from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.rows import AttackAnswerRow, AttackRow, LimitsCostRow, OverloadRow, recorded
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
    busy = [f"{max(row.load for row in rows if row.side == side):.1f} {side}" for side in {row.side for row in rows}]
    about = (
        f"{last.cores} cores; the machine's load was at most {' and '.join(sorted(busy))}. {here.date}, torch "
        f"{here.torch}, commit {here.commit}: `{here.command}`."
    )
    return table(columns, cells) + "\n\n" + about


def answers() -> str:
    """What single requests were answered, and what was answered while the log was not read."""
    rows = newest(recorded("attacks.jsonl", AttackAnswerRow), lambda row: (row.case, row.side))
    if not rows:
        return nothing("attacks")
    cells = [[row.says, row.side, row.found] for row in sorted(rows, key=_order(rows))]
    return table(["case", "limits", "found"], cells)


def overload() -> str:
    """What an overload leaves of a server's capacity, with and without the limits, and what these cost without one."""
    rows = newest(recorded("overload.jsonl", OverloadRow), lambda row: (row.attack, row.side, row.checkpoint))
    found: dict[str, dict[str, OverloadRow]] = {}
    for row in rows:
        found.setdefault(row.attack, {})[row.checkpoint or row.side] = row
    columns = list(dict.fromkeys(column for sides in found.values() for column in sides))
    cells = [
        [
            attack,
            sides["after"].figure,
            *(f"{sides[column].value:.0%}" if column in sides else "" for column in columns),
        ]
        for attack, sides in found.items()
    ]
    heads = [column if column in ("before", "after") else f"after, the checkpoint {column}" for column in columns]
    here = rows[-1].environment
    said = f"{here.date}, torch {here.torch}, commit {here.commit}: `{here.command}`."
    return f"{table(['overload', 'figure', *heads], cells)}\n\n{said}\n\n{_cost()}"


def _cost() -> str:
    """The last run of `overload_cost`."""
    rows = recorded("overload.jsonl", LimitsCostRow)
    last = rows[-1].environment
    times: dict[int, dict[str, LimitsCostRow]] = {}
    for row in rows:
        if row.environment.commit == last.commit:
            times.setdefault(row.number, {})[row.side] = row
    p50 = median(sides["with"].p50_ms / sides["without"].p50_ms for sides in times.values())
    spent = median(sides["with"].processor_ms / sides["without"].processor_ms for sides in times.values())
    return (
        f"Without an overload, one request after the other, with the limits and without them by turns: the median of "
        f"{len(times)} quotients is {p50:.3f} of a request's time and {spent:.3f} of the processor's "
        f"({last.date}, commit {last.commit}: `{last.command}`)."
    )


def _cells(row: AttackRow) -> list[object]:
    told = ", ".join(f"{number} {word}" for word, number in sorted(row.said.items()))
    assert row.live_p99_ms is not None
    assert row.live_worst_ms is not None
    live = f"{row.live_p99_ms:.0f} / {row.live_worst_ms:.0f}"
    return [live, row.live_failed, f"{row.gained_mb:+.0f}", told, row.still_open]


def _order(rows: Rows) -> Callable[[AttackRow | AttackAnswerRow], tuple[int, bool]]:
    cases = list(dict.fromkeys(row.case for row in rows))
    return lambda row: (cases.index(row.case), row.side != "before")
