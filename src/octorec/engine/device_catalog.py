"""The catalog's trie on the device, twice: one set of buffers answers while the other is written.

Both sets lie in the same arrays, the second one's nodes and children after the first one's capacity. A search starts at
the root of one of them, which its batch carries, and meets nothing of the other. So items come and go between
batches in fixed memory: no graph is captured again, no kernel knows of it, and a batch is answered wholly from one set.

Letters: L levels; capacity[l]: nodes of level l that a set has room for, capacity[0] = 1 root, capacity[L] leaves.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octorec.catalog.catalog import Catalog
from octorec.catalog.same_codebook import difference
from octorec.errors import InputError, MismatchError
from octorec.kernels.ops import TrieLevel


class DeviceCatalog:
    """A DeviceCatalog holds `catalog`, which answers; `replace` puts another version in its place.

    max_items: items that any version may have; the memory is for twice as many. levels: the trie as `beam_step` reads
    it. first_nodes: of each of the levels 0..L, the first node of the set that answers.
    """

    def __init__(self, catalog: Catalog, max_items: int, device: torch.device):
        sizes = catalog.codebook_sizes
        self.catalog, self.max_items, self.device = catalog, max_items, device
        self._stride = [min(max_items, prefixes) + 1 for prefixes in _prefixes(sizes)]  # a set's share, L + 1 of them
        words = None if catalog.item_sets is None else catalog.item_sets.shape[1]
        self.levels = tuple(
            self._empty(level, arrays.child_code.dtype, words) for level, arrays in enumerate(catalog.trie.levels)
        )
        self._set = 0
        self.check(catalog)
        self._write(catalog, 0)

    @property
    def first_nodes(self) -> list[int]:
        return [self._set * stride for stride in self._stride]

    @property
    def set_words(self) -> int:
        """Return how many words, of 64 named sets each, there is room for."""
        room = self.levels[-1].child_sets
        return 0 if room is None else room.shape[1]

    def replace(self, catalog: Catalog) -> None:
        """Let `catalog` answer from the next batch on: the same codebook, other items.

        Raises MismatchError for another codebook, InputError where it does not fit; the old version then stays.
        """
        self.check(catalog)
        other = 1 - self._set
        self._write(catalog, other)
        self._set, self.catalog = other, catalog

    def _empty(self, level: int, code: np.dtype, words: int | None) -> TrieLevel:
        children = 2 * self._stride[level + 1]
        kinds = {np.dtype(np.int16): torch.int16, np.dtype(np.int32): torch.int32}
        start = torch.zeros(2 * self._stride[level], dtype=torch.int32, device=self.device)
        start[self._stride[level] :] = self._stride[level + 1]  # ascending also while the second set is empty
        return TrieLevel(
            start,
            torch.zeros(children, dtype=kinds[code], device=self.device),
            torch.zeros(children, dtype=torch.int32, device=self.device),
            None if words is None else torch.zeros(children, words, dtype=torch.int64, device=self.device),
        )

    def check(self, catalog: Catalog) -> None:
        """Raise what `replace` would, and change nothing."""
        if why := difference(catalog, self.catalog):
            allowed = f"the engine's model reads and writes the codes of {self.catalog.fingerprint}: {why}"
            raise MismatchError("catalog: fingerprint", catalog.fingerprint, allowed)
        if len(catalog) > self.max_items:
            raise InputError("catalog", f"{len(catalog)} items", f"at most max_items = {self.max_items}: raise it")
        if catalog.item_sets is not None and catalog.item_sets.shape[1] > self.set_words:
            allowed = f"the engine started with room for {64 * self.set_words}: restart it"
            raise InputError("catalog: named sets", len(catalog.set_names), allowed)

    def _write(self, catalog: Catalog, number: int) -> None:
        """Copy a trie into set `number`, its node numbers shifted by where the set begins."""
        for level, (host, target) in enumerate(zip(catalog.trie.levels, self.levels, strict=True)):
            nodes, children = number * self._stride[level], number * self._stride[level + 1]
            start = torch.from_numpy(host.child_start).to(self.device) + children
            target.child_start[nodes : nodes + len(start)] = start
            target.child_start[nodes + len(start) : nodes + self._stride[level]] = start[-1]  # nodes without children
            _copy(target.child_code, children, host.child_code)
            _copy(target.child_live, children, host.child_live)
            if target.child_sets is not None:
                target.child_sets[children : children + self._stride[level + 1]] = 0
                if host.child_sets is not None:
                    _copy(target.child_sets[:, : host.child_sets.shape[1]], children, host.child_sets)


def _prefixes(sizes: Sequence[int]) -> list[int]:
    """Return how many prefixes of each length 0..L there can be."""
    return [int(np.prod(sizes[:length], dtype=object)) for length in range(len(sizes) + 1)]


def _copy(target: Tensor, first: int, array: np.ndarray) -> None:
    target[first : first + len(array)] = torch.from_numpy(array).to(target.device)
