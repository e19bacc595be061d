"""What the rows of `serve_soak` say of a server's memory."""

from collections.abc import Sequence
from typing import Any

FLAT_MB = 100.0
SETTLES = 0.1  # of the time, in which caches and pools fill


def gained_mb(rows: Sequence[dict[str, Any]]) -> float:
    """By how much memory grew at most, after it settled."""
    rss = [row["rss_mb"] for row in rows[int(len(rows) * SETTLES) :]]
    return max(rss) - rss[0]


def failed(rows: Sequence[dict[str, Any]], shed: bool = False) -> int:
    """Requests that failed; of those that a full queue shed (503), where a neighbour takes the machine, with `shed`."""
    return sum(count for row in rows for name, count in row["errors"].items() if (name == "503") == shed)
