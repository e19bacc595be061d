"""Keys and values of prompts' beginnings stay on the device: of a prompt that begins alike only the rest is read.

A prompt is cut into blocks of `BLOCK` tokens. A block's keys and values depend on all tokens before it, so it is found
by the SHA-256 of a scope and of every token up to its end: no scope is given what another scope's prompts left.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

BLOCK = 64  # tokens that are kept, found and dropped together


def digests(tokens: np.ndarray, scope: str) -> list[bytes]:
    """Return what names each whole block of a prompt [n] int64 in a scope: all that its keys and values depend on."""
    running, found = sha256(sha256(scope.encode(errors="surrogatepass")).digest()), []
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        running.update(tokens[start : start + BLOCK].astype("<i8").tobytes())
        found.append(running.copy().digest())
    return found


class PrefixCache:
    """A PrefixCache keeps blocks in `memory` [layers, 2, rows, G, D], as many as fit: a pool's kind and type.

    What was used longest ago goes first. A block is copied out, or in, as soon as it is found or kept, in the order of
    the device's one stream: so none that a batch uses is written over before.
    """

    def __init__(self, memory: Tensor):
        self._memory, self._block_bytes = _words(memory), memory[:, :, :BLOCK].nbytes
        self._blocks: OrderedDict[bytes, int] = OrderedDict()  # places by digest, the longest unused first
        self._free = list(range(memory.shape[2] // BLOCK - 1, -1, -1))
        self.evicted = 0  # blocks that made room for others

    def __len__(self) -> int:
        """Return how many blocks are kept."""
        return len(self._blocks)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the blocks that are kept."""
        return len(self) * self._block_bytes

    def take(self, names: Sequence[bytes], length: int, pool: Tensor, first: int) -> int:
        """Copy the beginning of a prompt of `length` tokens that is kept to `pool`'s rows from `first` on.

        Returns how many tokens it has: whole blocks, and never the prompt's last token. names: as `digests` has them.
        """
        usable = names[: (length - 1) // BLOCK]
        there, pool = self._used(usable), _words(pool)
        for at, place, blocks in _runs(there):
            _copy(pool, first + at * BLOCK, self._memory, place * BLOCK, blocks * BLOCK)
        return len(there) * BLOCK

    def keep(self, names: Sequence[bytes], pool: Tensor, first: int) -> None:
        """Keep the blocks of a prompt, which lies in `pool`'s rows from `first` on, as far as they fit."""
        known, pool = len(self._used(names)), _words(pool)
        new: list[int] = []
        for name in names[known:]:
            place = self._place(names)
            if place is None:
                break
            self._blocks[name] = place
            new.append(place)
        for at, place, blocks in _runs(new):
            _copy(self._memory, place * BLOCK, pool, first + (known + at) * BLOCK, blocks * BLOCK)
        self._used(names)

    def clear(self) -> None:
        """Forget every block, as other weights would have left others."""
        self._free += self._blocks.values()
        self._blocks.clear()

    def _place(self, names: Sequence[bytes]) -> int | None:
        """Return a place for one more block; None where only blocks of the same prompt could make room."""
        if self._free:
            return self._free.pop()
        if not self._blocks or next(iter(self._blocks)) in names:
            return None
        self.evicted += 1
        return self._blocks.popitem(last=False)[1]

    def _used(self, names: Sequence[bytes]) -> list[int]:
        """Return the places of the first blocks of a prompt, as many as are kept, and let them be the last to go.

        A block goes before the one that it follows, as nobody finds it without that one.
        """
        count = next((number for number, name in enumerate(names) if name not in self._blocks), len(names))
        for name in reversed(names[:count]):
            self._blocks.move_to_end(name)
        return [self._blocks[name] for name in names[:count]]


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the number of the first place of each run of places that follow each other, that place, and how many."""
    start = 0
    for end in range(1, len(places) + 1):
        if end == len(places) or places[end] != places[end - 1] + 1:
            yield start, places[start], end - start
            start = end


def _copy(to: Tensor, at: int, of: Tensor, start: int, rows: int) -> None:
    to[:, :, at : at + rows].copy_(of[:, :, start : start + rows])


def _words(pool: Tensor) -> Tensor:
    """Return a pool as numbers of 8 bytes, where a row is made of them: a GPU copies these faster than short ones."""
    return pool.view(torch.int64) if pool.shape[-1] * pool.itemsize % 8 == 0 else pool
