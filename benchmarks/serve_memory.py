"""What the rows of `serve_soak` say of a server's memory."""

from collections.abc import Sequence

from benchmarks.rows import SoakRow

FLAT_MB = 100.0
SETTLES = 0.1  # share of the time, in which caches and pools fill


def gained_mb(rows: Sequence[SoakRow]) -> float:
    """The most by which memory grew after it settled, in 10^6 bytes."""
    rss = [row.rss_mb for row in rows[int(len(rows) * SETTLES) :]]
    return max(rss) - rss[0]


def failed(rows: Sequence[SoakRow], shed: bool = False) -> int:
    """Requests that failed; with `shed` those that a full queue shed (503), where a neighbour takes the machine."""
    return sum(count for row in rows for name, count in row.errors.items() if (name == "503") == shed)
