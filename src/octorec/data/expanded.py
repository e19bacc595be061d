"""Limit how much memory the contents of a file may take, so that a small file cannot ask for all of it."""

from pathlib import Path

from octorec.errors import InputError

SMALL = 2**28  # bytes that any file may take
RATIO = 100  # bytes that a larger file may take for each byte on disk; interactions take about 10


def limit(path: Path) -> int:
    """Return how many bytes of memory the wanted contents of `path` may take."""
    return max(SMALL, RATIO * path.stat().st_size)


def refuse_beyond(path: Path, size: int, where: str) -> None:
    """Raise InputError about `where` when `size` bytes are more than `path` may take."""
    most = limit(path)
    if size > most:
        allowed = f"a file of its size may take {_mb(most)}: {RATIO} times what it has on disk, or {_mb(SMALL)}"
        raise InputError(where, f"{_mb(size)} or more in memory", allowed)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
