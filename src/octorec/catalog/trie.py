"""The trie of all items' code tuples lies in flat arrays that a GPU can read.

Letters: n items, L levels, words = ceil(named sets / 64). Items lie in code order, so that a node's items are a range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

INT16_CODES = 2**15  # up to this many codes a level fit int16


class TrieLevel(NamedTuple):
    """A TrieLevel holds the children of one level's nodes, field for field what the beam step reads;
    nodes ascend by prefix.

    child_start [nodes + 1] int32: node i's children are the nodes child_start[i] .. child_start[i+1]-1 of the next
    level. child_code [children] int16 (int32 above 32768 codes): the code that leads there. child_live [children]
    int32: live items below. child_sets [children, words] int64, or None where no item has sets: bit s of the words
    says that a live item of named set s is below.
    """

    child_start: np.ndarray
    child_code: np.ndarray
    child_live: np.ndarray
    child_sets: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Trie:
    """A Trie holds all prefixes of codes that items have.

    levels: one a code. leaf_items [leaves + 1] int32: leaf i's items are leaf_items[i] .. leaf_items[i+1]-1.
    """

    levels: tuple[TrieLevel, ...]
    leaf_items: np.ndarray

    @property
    def nbytes(self) -> int:
        """Return the bytes of all arrays."""
        arrays = [array for level in self.levels for array in level if array is not None]
        return sum(array.nbytes for array in arrays) + self.leaf_items.nbytes

    def with_live(self, live: np.ndarray | None, set_bits: np.ndarray | None = None) -> "Trie":
        """Return the same trie with other items live: live [n] bool (None: all), set_bits [n, words] int64.

        A node without a live item counts 0, on every level. What does not depend on `live` is shared.
        """
        if live is None:
            counts = np.diff(self.leaf_items)
        else:
            counts = np.add.reduceat(live, self.leaf_items[:-1], dtype=np.int32)
        sets = None if set_bits is None else self._leaf_sets(live, set_bits)
        levels = []
        for level in reversed(self.levels):
            levels.append(level._replace(child_live=counts, child_sets=sets))
            counts = np.add.reduceat(counts, level.child_start[:-1], dtype=np.int32)
            sets = None if sets is None else np.bitwise_or.reduceat(sets, level.child_start[:-1], axis=0)
        return Trie(tuple(reversed(levels)), self.leaf_items)

    def _leaf_sets(self, live: np.ndarray | None, set_bits: np.ndarray) -> np.ndarray:
        if live is not None:
            set_bits = np.where(live[:, None], set_bits, 0)
        return np.bitwise_or.reduceat(set_bits, self.leaf_items[:-1], axis=0)


def build_trie(
    codes: np.ndarray, codebook_sizes: Sequence[int], live: np.ndarray | None = None, set_bits: np.ndarray | None = None
) -> Trie:
    """Return the trie of `codes` [n, L] int32, n > 0, whose rows ascend (see `code_order`).

    live [n] bool: False masks an item (None: all live). set_bits [n, words] int64: bit s set for an item of set s.
    """
    n = len(codes)
    assert 0 < n < 2**31 - 1, "items are numbered in int32, and its largest value marks a dead beam"
    first = np.zeros(n, bool)  # whether a node of the level begins at the item
    first[0] = True
    parents = np.zeros(1, np.int32)  # first item of each node of the level above
    levels = []
    for level, size in enumerate(codebook_sizes):
        here, before = codes[1:, level], codes[:-1, level]
        assert np.all(first[1:] | (here >= before)), "codes must ascend"
        first[1:] |= here != before
        children = np.flatnonzero(first).astype(np.int32)
        child_start = np.append(np.searchsorted(children, parents), len(children)).astype(np.int32)
        child_code = codes[children, level].astype(np.int16 if size <= INT16_CODES else np.int32)
        levels.append(TrieLevel(child_start, child_code, np.empty(0, np.int32), None))
        parents = children
    leaf_items = np.append(parents, np.int32(n))
    return Trie(tuple(levels), leaf_items).with_live(live, set_bits)


def code_order(codes: np.ndarray, codebook_sizes: Sequence[int], ties: np.ndarray | None = None) -> np.ndarray:
    """Return the permutation [n] int64 that makes `codes` [n, L] ascend; equal tuples go by `ties` [n],
    else stay in order.
    """
    bits = sum(int(size - 1).bit_length() for size in codebook_sizes)
    keys = [_packed(codes, codebook_sizes)] if bits < 64 else list(codes.T[::-1])
    if ties is None:
        return np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys)
    return np.lexsort([ties, *keys])


def _packed(codes: np.ndarray, codebook_sizes: Sequence[int]) -> np.ndarray:
    """Pack each row's codes into one int64 that orders as the row does."""
    key = codes[:, 0].astype(np.int64)
    for level in range(1, codes.shape[1]):
        key <<= int(codebook_sizes[level] - 1).bit_length()
        key |= codes[:, level]
    return key
