"""The rows of `benchmarks.offline` and `benchmarks.loadgen` as tables of docs/offline.md and docs/serving.md."""

from benchmarks.rows import LoadToolRow, OfflineRow, recorded
from benchmarks.rows.serving import Judged
from benchmarks.speed_report import nothing, where
from benchmarks.tables import newest, table


def offline() -> str:
    """A line for each device, number of users, and kind of run."""
    rows = newest(recorded("offline.jsonl", OfflineRow), lambda row: (row.device, row.users, row.kills > 0))
    if not rows:
        return nothing("offline")
    columns = ["model", "users", "history", "k, beams", "users/s", "device alone", "share", "memory, MB", "killed"]
    return table(columns, map(cells, rows)) + f"\n\n{where(rows[-1])}"


def cells(row: OfflineRow) -> list[str]:
    """One line."""
    memory = "" if row.anonymous_mb is None else f"{row.anonymous_mb:.0f}"
    killed = "" if row.same_rows is None else f"{row.kills} times, {'the same' if row.same_rows else 'OTHER'} rows"
    rates = [f"{row.users_per_s:,.0f}", f"{row.device_per_s:,.0f}", f"{row.share:.0%}"]
    if row.kills:  # of the last part alone
        rates = [""] * 3
    return [
        f"{row.model}, {row.device}", f"{row.users:,}", f"{row.history:.0f}", f"{row.k}, {row.beam_width}",
        *rates, memory, killed,
    ]  # fmt: skip


def loadgen() -> str:
    """Two lines for each scenario: ours and LoadGen's."""
    rows = newest(recorded("loadgen.jsonl", LoadToolRow), lambda row: row.scenario)
    if not rows:
        return nothing("loadgen")
    columns = ["scenario", "tool", "requests", "answered/s", "p50 / p90 / p99 ms", "worst difference"]
    lines = [line for row in rows for line in (judged(row, "ours", row.ours), judged(row, "LoadGen", row.loadgen))]
    said = (
        f"A server whose device takes {rows[-1].batch_s * 1e3:g} ms a batch; medians of {rows[-1].rounds} rounds of "
        f"{rows[-1].seconds:g} s, by turns. Ours took {max(row.tool_busy for row in rows):.0%} of a core a process."
    )
    return f"{table(columns, lines)}\n\n{said} {where(rows[-1])}"


def judged(row: LoadToolRow, tool: str, found: Judged) -> list[str]:
    """One line."""
    asked = f"server, {row.asked_per_s:g}/s" if row.asked_per_s else f"offline, {row.places} at once"
    latency = "" if found.p50_ms is None else f"{found.p50_ms:.1f} / {found.p90_ms:.1f} / {found.p99_ms:.1f}"
    return [asked, tool, f"{found.requests:,}", f"{found.per_s:.1f}", latency, f"{row.worst:.1%}"]
