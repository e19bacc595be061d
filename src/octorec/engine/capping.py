"""A list under caps is chosen greedily: best first, an item is kept unless a cap is reached by those kept before it.

Letters: m items, D vector width, b items of a block.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.engine.caps import EVERY, Caps

BLOCK = 128  # items whose vectors are compared at a time
ROUNDING = 1e-9  # of a cosine: so much more is not larger


@dataclass(frozen=True)
class Capped:
    """A Capped says which of m items a list keeps, at most k. kept: their places. left: those of items that a cap left
    out before the list was full. rules: the cap that did, each in words.
    """

    kept: list[int]
    left: list[int]
    rules: list[str]


def capped(catalog: Catalog, items: np.ndarray, caps: Caps, k: int) -> Capped:
    """Return which of `items` [m], best first, a list of `k` keeps under `caps`."""
    in_sets = _sets_of(catalog, items, caps) if caps.sets else [()] * len(items)
    room = {bit: most for bit, most in enumerate(_limits(catalog, caps)) if most is not None}
    full: set[int] = set()
    prefixes = None if caps.distinct_codes is None else _prefixes(catalog, items, caps.distinct_codes)
    near = None if caps.max_cosine is None else Near(catalog, items, caps.max_cosine)
    met: set[int] = set()
    kept: list[int] = []
    left: list[int] = []
    rules: list[str] = []
    for place, bits in enumerate(in_sets):
        if len(kept) == k:
            break
        rule = None
        if full and not full.isdisjoint(bits):
            rule = _set_rule(catalog, caps, min(full.intersection(bits)))
        elif prefixes is not None and prefixes[place] in met:
            rule = f"distinct_codes = {caps.distinct_codes}"
        elif near is not None and near.to_kept(place):
            rule = f"max_cosine = {caps.max_cosine:g}"
        if rule is not None:
            left.append(place)
            rules.append(rule)
            continue
        kept.append(place)
        for bit in bits:
            room[bit] -= 1
            if not room[bit]:
                full.add(bit)
        if prefixes is not None:
            met.add(prefixes[place])
        if near is not None:
            near.keep(place)
    return Capped(kept, left, rules)


def counted(rules: Sequence[str]) -> str:
    """Say how many items each rule left out, the most first."""
    return ", ".join(f"{count} by {rule}" for rule, count in Counter(rules).most_common(10))


def _limits(catalog: Catalog, caps: Caps) -> list[int | None]:
    """Return the cap of each named set, None for those without one."""
    if not caps.sets:
        return []
    return [caps.sets.get(name, caps.sets.get(EVERY)) for name in catalog.set_names]


def _set_rule(catalog: Catalog, caps: Caps, bit: int) -> str:
    name = catalog.set_names[bit]
    return f"caps {name} = {caps.sets.get(name, caps.sets.get(EVERY))}"


def _sets_of(catalog: Catalog, items: np.ndarray, caps: Caps) -> list[tuple[int, ...]]:
    """Return the sets with a cap that each item is in."""
    assert catalog.item_sets is not None
    words = np.ascontiguousarray(catalog.item_sets.take(items, 0))
    if EVERY not in caps.sets:
        words = words & catalog.set_mask(caps.sets, "caps")
    rows, bits = np.unpackbits(words.astype("<i8").view(np.uint8), axis=1, bitorder="little").nonzero()
    ends = rows.searchsorted(np.arange(len(items) + 1)).tolist()
    found = bits.tolist()
    return [tuple(found[start:end]) for start, end in pairwise(ends)]


def _prefixes(catalog: Catalog, items: np.ndarray, length: int) -> list[int]:
    """Return a number for each item, equal where items share their first `length` codes."""
    codes = np.ascontiguousarray(catalog.codes.take(items, 0)[:, :length])
    return np.unique(codes, axis=0, return_inverse=True)[1].ravel().tolist()


class Near:
    """A Near says which items are too near one that is kept. It is asked in their order, and compares by blocks."""

    def __init__(self, catalog: Catalog, items: np.ndarray, most: float):
        self._catalog, self._items, self._most = catalog, items, most + ROUNDING
        self._start = self._end = 0
        self._near = 0  # bit i: item `_start` + i of the block is too near
        self._rows: list[int] = []  # of each item of the block, as `_near`
        self._vectors = np.zeros((0, 0))
        self._kept: list[np.ndarray] = []

    def to_kept(self, place: int) -> bool:
        if place >= self._end:
            self._next(place)
        return bool(self._near >> (place - self._start) & 1)

    def keep(self, place: int) -> None:
        if place >= self._end:
            self._next(place)
        self._near |= self._rows[place - self._start]
        self._kept.append(self._vectors[place - self._start])

    def _next(self, place: int) -> None:
        """Compare a block of items with each other, and with those kept before."""
        self._start, self._end = place, place + BLOCK
        self._vectors = unit_vectors(self._catalog, self._items[place : place + BLOCK])
        self._rows = _as_integers(self._vectors @ self._vectors.T > self._most)
        self._near = 0
        if self._kept:
            before = np.any(np.stack(self._kept) @ self._vectors.T > self._most, axis=0)
            self._near = _as_integers(np.atleast_2d(before))[0]


def unit_vectors(catalog: Catalog, items: np.ndarray) -> np.ndarray:
    """Return what the codebook keeps of the vectors of `items`, the sums of their centroids at length 1: [m, D]."""
    assert catalog.codebook is not None
    codes, centroids = catalog.codes.take(items, 0), catalog.codebook.centroids
    found = centroids[0].take(codes[:, 0], 0).astype(np.float64)
    for level in range(1, len(centroids)):
        found += centroids[level].take(codes[:, level], 0)
    return np.asarray(found / np.maximum(np.sqrt(np.square(found).sum(1, keepdims=True)), 1e-30))


def _as_integers(rows: np.ndarray) -> list[int]:
    """Return the bits of each row [n, b] bool as one integer."""
    packed = np.packbits(rows, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]
