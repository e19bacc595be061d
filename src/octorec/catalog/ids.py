"""Item ids are looked up many at once, by 64-bit hashes, to get their places in code order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SLOTS = 2  # for each id
EMPTY = np.iinfo(np.int64).max  # stands in a slot without a hash, so that a search always stops


@dataclass(frozen=True, eq=False)
class IdHashes:
    """IdHashes are a hash table of all item ids, with linear probing and hashes in ascending order.

    hashes [slots] int64: a hash stands in the slot that its first bits say, or behind lower ones that fill the slots
    from there on. places [slots] int32: the place of each hash's id, -1 in an empty slot. span: slots that first bits
    can say; the others follow.
    """

    hashes: np.ndarray
    places: np.ndarray
    span: int

    @classmethod
    def of(cls, item_ids: Sequence[str]) -> "IdHashes":
        """Return the hashes of all ids of a catalog, in code order."""
        known = _hashes(item_ids)
        order = np.argsort(known)
        known = known[order]
        if (known[1:] == known[:-1]).any():  # once in n^2 / 2^65 processes
            raise RuntimeError("two item ids have one hash in this process: start it with another PYTHONHASHSEED")
        span, number = SLOTS * len(known), np.arange(len(known))
        at = np.maximum.accumulate(_slot(known, span) - number) + number
        hashes = np.full(max(span, int(at[-1]) + 1) + 1, EMPTY)
        places = np.full(len(hashes), -1, np.int32)
        hashes[at], places[at] = known, order
        return cls(hashes, places, span)

    def find(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return [m] int64: the place of each id, -1 where there is no such id.

        Found by Python's keyed hash alone: a dictionary of a million ids waits for memory four times an id, and a
        binary search once a step. An unknown id is taken for one of n items with a chance of n / 2^64, 5e-14 for a
        million.
        """
        wanted = _hashes(item_ids)
        at = _slot(wanted, self.span)
        found = self.hashes.take(at)
        lower = (found < wanted).nonzero()[0]
        while len(lower):  # half of them at first
            following = at[lower] + 1
            at[lower], found[lower] = following, self.hashes.take(following)
            lower = lower[found[lower] < wanted[lower]]
        places = self.places.take(at).astype(np.int64)
        places[found != wanted] = -1
        return places


def _slot(hashes: np.ndarray, span: int) -> np.ndarray:
    """Return the slot of each hash [m] int64, from 0 to span - 1; a higher hash has no lower one."""
    return ((hashes >> 32) + 2**31) * span >> 32


def _hashes(item_ids: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(hash, item_ids), dtype=np.int64, count=len(item_ids))
