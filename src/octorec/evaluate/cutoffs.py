"""Ranked lists are cut at these lengths for recall and NDCG.

This imports no numpy, so that the command line can read its default.
"""

from collections.abc import Collection, Sequence

from octorec.engine.request import Request
from octorec.errors import InputError

K = Request.k  # items a list where nobody asks for another length
USUAL = (5, 10)  # cutoffs that are always reported too
DECISIVE = ("recall", "ndcg")

Lengths = int | Sequence[int]


def lengths(k: Lengths) -> tuple[int, ...]:
    """Return the lengths of list that were asked for, ascending, each once. None, or one that is no
    integer above 0, is an InputError.
    """
    asked = tuple(k) if isinstance(k, Sequence) and not isinstance(k, str) else (k,)
    if not asked or any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in asked):
        raise InputError("k", k, "must be an integer above 0, or several")
    return tuple(sorted(set(asked)))


def read_lengths(text: str) -> tuple[int, ...]:
    """Return the lengths that `10,50` asks for, ascending; InputError for what is none."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        raise InputError("k", text, "must be integers above 0, with commas")
    return lengths([int(part) for part in parts])


def cutoffs(asked: Collection[int]) -> tuple[int, ...]:
    """Return where lists are cut: at every length `asked`, the longest being the lists' own, and below
    that at 5 and 10.
    """
    return tuple(sorted({*asked, *(usual for usual in USUAL if usual < max(asked))}))


def decisive(k: int) -> tuple[str, ...]:
    """Return the metrics that give the verdict on lists of at most `k`: those of the longest."""
    return tuple(f"{name}@{k}" for name in DECISIVE)
