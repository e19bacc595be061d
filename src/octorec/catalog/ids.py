"""Item ids are looked up many at once, by 64-bit hashes, to get their places in code order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class IdHashes:
    """IdHashes hold every item id's 64-bit hash, ascending, the place of each, and where the hashes of
    each bucket begin.

    hashes and places [n + 1] int64. One sentinel is appended: hash INT64_MAX, place -1, so that a search always stops.
    first [buckets] int32: a bucket is
    what a hash's first bits say, and holds 1 to 2 hashes on average.
    """

    hashes: np.ndarray
    places: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, item_ids: Sequence[str]) -> "IdHashes":
        """Return the hashes of all ids of a catalog, in code order."""
        hashes = _hashes(item_ids)
        order = np.argsort(hashes)
        hashes = hashes[order]
        if (hashes[1:] == hashes[:-1]).any():  # once in n^2 / 2^65 processes
            raise RuntimeError("two item ids have one hash in this process: start it with another PYTHONHASHSEED")
        buckets = 1 << max(1, len(hashes).bit_length() - 1)
        first = _bucket(hashes, buckets).searchsorted(np.arange(buckets)).astype(np.int32)
        return cls(np.append(hashes, np.iinfo(np.int64).max), np.append(order, -1), first)

    def find(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return [m] int64: the place of each id, -1 where there is no such id.

        Found by Python's keyed hash alone: a dictionary of a million ids waits for memory four times an id, and a
        binary search once a step. An unknown id is taken for one of n items with a chance of n / 2^64, 5e-14 for a
        million.
        """
        wanted = _hashes(item_ids)
        at = self.first.take(_bucket(wanted, len(self.first)))
        found = self.hashes.take(at)
        while (before := found < wanted).any():
            at = at + before
            found = self.hashes.take(at)
        return np.where(found == wanted, self.places.take(at), -1)


def _bucket(hashes: np.ndarray, buckets: int) -> np.ndarray:
    """Return the bucket of each hash [m] int64: the number that its first bits say; there are
    `buckets`, a power of two above 1.
    """
    bits = buckets.bit_length() - 1
    return (hashes >> (64 - bits)) + buckets // 2


def _hashes(item_ids: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(hash, item_ids), dtype=np.int64, count=len(item_ids))
