"""The rows of `benchmarks.offline` as a table of docs/offline.md."""

from benchmarks.rows import OfflineRow, recorded
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
    return [
        f"{row.model}, {row.device}", f"{row.users:,}", f"{row.history:.0f}", f"{row.k}, {row.beam_width}",
        f"{row.users_per_s:,.0f}", f"{row.device_per_s:,.0f}", f"{row.share:.0%}", memory, killed,
    ]  # fmt: skip
