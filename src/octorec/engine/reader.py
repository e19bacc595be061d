"""The prompts of a batch are read into one pool of keys and values, before the search goes on from there.

On a GPU all of it lies in fixed memory, so that the search is a CUDA graph whatever the prompts are. Tokens are read in
chunks, each by a CUDA graph of the next larger of some numbers of tokens: Python would take longer than the GPU to
launch the kernels of one. On a CPU memory is made for each batch, as large as it is.

Letters: B requests, T tokens of a chunk, C the model's width.
"""

from bisect import bisect_left
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
ROWS = 128  # without a CUDA graph a chunk on a GPU is filled up to a multiple of these
GRAPHED = (64, *range(128, CHUNK + 1, 128))  # tokens of a CUDA graph


@dataclass(frozen=True)
class Memory:
    """A Memory is what reading fills and decoding reads: a pool of contexts, hidden [B, C], and numbers [n] int64.

    Numbers are of the chunk that was read last: its spans, as `Layout.spans` has them, which are those of the whole
    batch; then tokens, positions and rows of the pool, each as long as the chunk's room.
    """

    pool: Tensor
    hidden: Tensor
    numbers: Tensor

    @property
    def nbytes(self) -> int:
        return self.pool.nbytes + self.hidden.nbytes + self.numbers.nbytes

    @property
    def spans(self) -> Spans:
        size = len(self.hidden)
        queries, first, lengths = self.numbers[: _words(size)].view(torch.int32).view(3, -1)
        return Spans(queries[: size + 1], first[:size], lengths[:size])

    def state(self, model: TokenModel, size: int) -> Any:
        """Return what decoding of the first `size` requests goes on from."""
        spans = self.spans
        return model.begun(self.hidden[:size], self.pool, spans.first[:size], spans.lengths[:size])

    def packed(self, room: int) -> Packed:
        """Return the tokens of a chunk that is filled up to `room`."""
        tokens, positions, rows = self.numbers[_words(len(self.hidden)) :][: 3 * room].view(3, room)
        return Packed(tokens, positions, rows, self.spans)


class Reader:
    """A Reader reads prompts with `model` for engines that share its weights, one batch at a time.

    size: requests of a batch at most. most: tokens of a batch at most. cache_bytes: for beginnings of prompts; 0: none
    are kept. least: tokens that a chunk is filled up to, on a GPU; so the scores of two sizes can be compared.
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
            self.rooms = rooms_for(most)
            self.graph_pool = torch.cuda.graph_pool_handle()
            self.fix(size)

    def fix(self, size: int) -> None:
        """Lay out the memory of all batches of up to `size` requests, as is done on a GPU at once."""
        memory = self._fixed = memory_of(self.model, self.device, size, memory_rows(self.most))
        memory.pool.zero_()
        cuda = self.device.type == "cuda"
        shape = -(-self.most // CHUNK), len(memory.numbers)  # of a batch's chunks, each with numbers of its own
        self._host = torch.zeros(shape, dtype=torch.int64, pin_memory=cuda)
        self._copied = torch.cuda.Event() if cuda else None
        self._write_blank(memory, ROWS)  # for what is captured before a batch

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
        """Return how many tokens a chunk of `tokens` is filled up to."""
        if self._fixed is None:
            return tokens
        least = min(max(tokens, self.least), CHUNK)
        return next((room for room in self.rooms if room >= least), _filled(least))

    def capture(self, room: int) -> torch.cuda.CUDAGraph:
        """Return the CUDA graph that reads a chunk filled up to `room` tokens; it is captured now if it was not."""
        if room not in self.graphs:
            assert self._fixed is not None
            memory = self._fixed
            self._write_blank(memory, room)
            packed = memory.packed(room)
            graph, _ = captured(lambda: self.model.read(packed, memory.pool, memory.hidden), self.graph_pool)
            self.graphs[room] = graph
        return self.graphs[room]

    def _run(self, layout: Layout, memory: Memory) -> None:
        if self._copied is not None:
            self._copied.synchronize()  # of a batch before that failed: others have come to their end
        starts = range(0, layout.new, CHUNK)
        ends = [min(start + CHUNK, layout.new) for start in starts]
        rooms = [self.room(end - start) for start, end in zip(starts, ends, strict=True)]
        graphs = [self.capture(room) if room in self.rooms else None for room in rooms]
        chunks = layout.spans(len(memory.hidden), CHUNK)
        lists = layout.packed()
        for number, (start, end, room, graph, spans) in enumerate(
            zip(starts, ends, rooms, graphs, chunks, strict=True)
        ):
            self._write(memory, number, spans, [each[start:end] for each in lists], room)
            if graph is not None:
                graph.replay()
            else:
                self.model.read(memory.packed(room), memory.pool, memory.hidden)
        if self._copied is not None:
            self._copied.record()

    def _write_blank(self, memory: Memory, room: int) -> None:
        """Write the numbers of one token, whose row of the pool is no request's."""
        one, last = np.zeros(1, np.int64), np.array([memory.pool.shape[2] - 1])
        layout = Layout([one], last, np.zeros(1, np.int64))
        self._write(memory, 0, next(layout.spans(len(memory.hidden), CHUNK)), layout.packed(), room)
        if self._copied is not None:
            torch.cuda.synchronize()

    def _write(
        self, memory: Memory, number: int, spans: Sequence[np.ndarray], lists: Sequence[np.ndarray], room: int
    ) -> None:
        """Write the numbers of a batch's chunk; tokens that fill it up are of no request, and get the pool's last row.

        On a GPU each chunk of a batch has its own numbers on the host, as the copies take them later.
        """
        numbers, words = memory.numbers if self._fixed is None else self._host[number], _words(len(memory.hidden))
        array, used = numbers.numpy(), words + 3 * room
        for there, values in zip(array[:words].view(np.int32).reshape(3, -1), spans, strict=True):
            there[: len(values)] = values
        tokens = array[words:used].reshape(3, room)
        for there, values, blank in zip(tokens, lists, (0, 0, memory.pool.shape[2] - 1), strict=True):
            there[: len(values)] = values
            there[len(values) :] = blank
        if self._fixed is not None:
            memory.numbers[:used].copy_(numbers[:used], non_blocking=True)


def rooms_for(most: int) -> tuple[int, ...]:
    """Return the numbers of tokens that CUDA graphs read, up to the first that holds a chunk of `most`."""
    return GRAPHED[: bisect_left(GRAPHED, min(most, CHUNK)) + 1]


def memory_rows(most: int) -> int:
    """Return for how many tokens a GPU's memory has room, where a batch has `most`."""
    return max((_filled(most), *rooms_for(most)))


def _filled(tokens: int) -> int:
    return -(-tokens // ROWS) * ROWS


def memory_of(model: TokenModel, device: torch.device, size: int, most: int) -> Memory:
    """Return memory for `size` requests of `most` tokens in all, and a row of the pool for what is none's."""
    pool, hidden = model.pool(most + 1), model.hidden(size)
    count = _words(size) + 3 * max(min(most, CHUNK), ROWS)
    return Memory(pool, hidden.zero_(), torch.zeros(count, dtype=torch.int64, device=device))


def _words(size: int) -> int:
    """Return how many int64 the spans of one chunk take: three lists of int32, each from a multiple of 16 bytes on."""
    return 3 * (-(-(size + 1) // 4) * 4) // 2


def cache_of(model: TokenModel, size: int) -> PrefixCache | None:
    """Return a cache of at most `size` bytes; None where it has no room for one block."""
    blocks = size // model.pool(BLOCK).nbytes if size else 0
    return PrefixCache(model.pool(blocks * BLOCK)) if blocks else None
