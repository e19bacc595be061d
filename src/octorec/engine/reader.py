"""The prompts of a batch are read into one pool of keys and values, before the search goes on from there.

On a GPU all of it lies in fixed memory, so that the search is a CUDA graph whatever the prompts are. Few tokens are
read by a CUDA graph too, of the next larger of some numbers of tokens: there Python would take longer than the GPU.
Many are read in chunks, eagerly. On a CPU memory is made for each batch, as large as it is.

Letters: B requests, T tokens of a chunk, C the model's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octorec.engine.chunks import Layout
from octorec.engine.graph import captured
from octorec.engine.prefix_cache import BLOCK, PrefixCache, digests
from octorec.kernels.ops import Spans
from octorec.models.model import Packed, TokenModel

CHUNK = 8192  # tokens that are read at once, at most
ROWS = 128  # an eager chunk on a GPU has a multiple of these rows, as kernels are compiled for
GRAPHED = (64, *range(128, 1024, 128), *range(1024, 2048, 256), *range(2048, 8193, 512))  # tokens of a CUDA graph


@dataclass(frozen=True)
class Memory:
    """A Memory is what reading fills and decoding reads: a pool of contexts, hidden [B, C], and numbers [n] int64.

    Numbers begin with the spans of each chunk, as `Layout.spans` has them, the last chunk's first: they are those of
    the whole batch. Then tokens, positions and rows of the pool follow, each as long as the batch's room for tokens.
    """

    pool: Tensor
    hidden: Tensor
    numbers: Tensor
    chunks: int  # for whose spans there is room

    @property
    def nbytes(self) -> int:
        return self.pool.nbytes + self.hidden.nbytes + self.numbers.nbytes

    def state(self, model: TokenModel, size: int) -> Any:
        """Return what decoding of the first `size` requests goes on from."""
        spans = self.spans(0)
        return model.begun(self.hidden[:size], self.pool, spans.first[:size], spans.lengths[:size])

    def spans(self, chunk: int) -> Spans:
        """Return the spans of a chunk, counted from the last one."""
        size, words = len(self.hidden), _words(len(self.hidden))
        queries, first, lengths = self.numbers[chunk * words : (chunk + 1) * words].view(torch.int32).view(3, -1)
        return Spans(queries[: size + 1], first[:size], lengths[:size])

    def packed(self, room: int, start: int, end: int, chunk: int) -> Packed:
        """Return the tokens of a chunk, of a batch with room for `room` tokens."""
        lists = self.numbers[self.chunks * _words(len(self.hidden)) :][: 3 * room].view(3, room)
        tokens, positions, rows = lists[:, start:end]
        return Packed(tokens, positions, rows, self.spans(chunk))


class Reader:
    """A Reader reads prompts with `model` for engines that share its weights, one batch at a time.

    size: requests of a batch at most. most: tokens of a batch at most. cache_bytes: for beginnings of prompts; 0: none
    are kept. least: tokens that a batch is filled up to, on a GPU; so the scores of two sizes can be compared.
    """

    def __init__(self, model: TokenModel, device: torch.device, size: int, most: int, cache_bytes: int = 0):
        self.model, self.device, self.most = model, device, most
        self.cache = cache_of(model, cache_bytes)
        self.least = 0
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.rooms: tuple[int, ...] = ()  # numbers of tokens that are read by a CUDA graph, ascending
        self.graph_pool: Any = None
        self._fixed: Memory | None = None
        self._copied: torch.cuda.Event | None = None
        if device.type == "cuda":
            self.rooms = tuple(room for room in GRAPHED if room <= min(most, CHUNK))
            self.graph_pool = torch.cuda.graph_pool_handle()
            self.fix(size)

    def fix(self, size: int) -> None:
        """Lay out the memory of all batches of up to `size` requests, as is done on a GPU at once."""
        memory = self._fixed = memory_of(self.model, self.device, size, -(-self.most // ROWS) * ROWS)
        memory.pool.zero_()
        self._host = torch.zeros_like(memory.numbers, device="cpu", pin_memory=self.device.type == "cuda")
        self._copied = torch.cuda.Event() if self.device.type == "cuda" else None
        self._write(Layout.of([np.zeros(1, np.int64)]), memory, ROWS)  # for what is captured before a batch

    def read(self, prompts: Sequence[np.ndarray], scopes: Sequence[str]) -> tuple[Memory, list[int]]:
        """Read the prompts of a batch, and return where; and how many tokens of each were there already.

        On a GPU it has been started then, and the next batch may be read only after this one's end. prompts: their
        tokens [n] int64, at most `most` in all. scopes: each shares beginnings of prompts with its like alone.
        Raises InputError as `check_prompt` of the model.
        """
        for tokens in prompts:
            self.model.check_prompt(tokens)
        layout = Layout.of(prompts)
        rows = int(layout.lengths.sum())
        assert rows <= self.most, f"{rows} tokens in a batch of at most {self.most}"
        memory = memory_of(self.model, self.device, len(prompts), rows) if self._fixed is None else self._fixed
        if self.cache is None:
            self._run(layout, memory)
        else:
            names = [digests(tokens, scope) for tokens, scope in zip(prompts, scopes, strict=True)]
            for row, (tokens, own) in enumerate(zip(prompts, names, strict=True)):
                layout.cached[row] = self.cache.take(own, len(tokens), memory.pool, int(layout.first[row]))
            self._run(layout, memory)
            for own, first in zip(names, layout.first.tolist(), strict=True):
                self.cache.keep(own, memory.pool, first)
        return memory, layout.cached.tolist()

    def state(self, memory: Memory | None, size: int) -> Any:
        """Return what decoding of the first `size` requests goes on from. memory: None: a GPU's, which is fixed."""
        there = self._fixed if memory is None else memory
        assert there is not None
        return there.state(self.model, size)

    def room(self, tokens: int) -> int:
        """Return how many tokens a batch of `tokens` is filled up to."""
        if self._fixed is None:
            return tokens
        least = max(tokens, self.least)
        return next((room for room in self.rooms if room >= least), -(-least // ROWS) * ROWS)

    def capture(self, room: int) -> torch.cuda.CUDAGraph:
        """Return the CUDA graph that reads a batch filled up to `room` tokens; it is captured now if it was not."""
        if room not in self.graphs:
            assert self._fixed is not None
            memory = self._fixed
            self._write(Layout.of([np.zeros(1, np.int64)]), memory, room)
            packed = memory.packed(room, 0, room, 0)
            graph, _ = captured(lambda: self.model.read(packed, memory.pool, memory.hidden), self.graph_pool)
            self.graphs[room] = graph
        return self.graphs[room]

    def _run(self, layout: Layout, memory: Memory) -> None:
        room = self.room(layout.new)
        graph = self.capture(room) if room in self.rooms else None
        self._write(layout, memory, room)
        if graph is not None:
            graph.replay()
            return
        starts = range(0, room, CHUNK)
        for number, start in enumerate(starts):
            end = min(start + CHUNK, room)
            self.model.read(memory.packed(room, start, end, len(starts) - 1 - number), memory.pool, memory.hidden)

    def _write(self, layout: Layout, memory: Memory, room: int) -> None:
        """Write a batch's numbers; tokens that fill it up are of no request, and get the pool's last row."""
        numbers = memory.numbers if self._fixed is None else self._host
        if self._copied is not None:
            self._copied.synchronize()  # of a batch before that failed: others have come to their end
        words = _words(len(memory.hidden))
        array, begin = numbers.numpy(), memory.chunks * words
        for chunk, spans in enumerate(reversed([*layout.spans(len(memory.hidden), CHUNK, room)])):
            there = array[chunk * words : (chunk + 1) * words].view(np.int32).reshape(3, -1)
            for row, values in zip(there, spans, strict=True):
                row[: len(values)] = values
        lists = array[begin : begin + 3 * room].reshape(3, room)
        for written, values, blank in zip(lists, layout.packed(), (0, 0, memory.pool.shape[2] - 1), strict=True):
            written[: len(values)] = values
            written[len(values) :] = blank
        if self._fixed is not None:
            used = begin + 3 * room
            memory.numbers[:used].copy_(self._host[:used], non_blocking=True)
        if self._copied is not None:
            self._copied.record()


def memory_of(model: TokenModel, device: torch.device, size: int, most: int) -> Memory:
    """Return memory for `size` requests of `most` tokens in all, and a row of the pool for what is none's."""
    pool, hidden = model.pool(most + 1), model.hidden(size)
    chunks = -(-most // CHUNK)
    numbers = torch.zeros(chunks * _words(size) + 3 * most, dtype=torch.int64, device=device)
    return Memory(pool, hidden.zero_(), numbers, chunks)


def _words(size: int) -> int:
    """Return how many int64 the spans of one chunk take: three lists of int32, each from a multiple of 16 bytes on."""
    return 3 * (-(-(size + 1) // 4) * 4) // 2


def cache_of(model: TokenModel, size: int) -> PrefixCache | None:
    """Return a cache of at most `size` bytes; None where it has no room for one block."""
    blocks = size // model.pool(BLOCK).nbytes if size else 0
    return PrefixCache(model.pool(blocks * BLOCK)) if blocks else None
