"""A batch's tensors in one block of memory, on the host and on a GPU.

Letters: B requests, L levels, X banned nodes of all requests and levels.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octorec.engine.batch import ParsedRequest
from octorec.engine.search import SearchBatch
from octorec.kernels.ops import NodeFilter
from octorec.models.model import Model, blank_inputs

ALIGN = 128  # bytes: kernels read from the start of each tensor in whole vectors
NODE = 4  # bytes of a banned node
OURS = {"roots", "widths", "sets", "restricted", "first_banned", "banned"}  # names of what the search reads


class Staging:
    """Staging is room for `size` requests on the host. A GPU takes the block in one copy, from pinned memory.

    Rows are written through a memoryview, which keeps Python's lock. NumPy and torch give it up at every copy: beside a
    busy thread each of these waits for its turn again, and a batch of 32 takes 19 ms to write instead of half a one.
    """

    def __init__(
        self, model: Model, longest: int, size: int, room: int, set_words: int, pinned: bool, prompts: bool = False
    ):
        """Lay out the block. longest: items of a history. room: banned nodes that fit, of all requests and levels.

        prompts: whether a `reader.Reader` reads what the model is given, so that nothing of it is here.
        """
        self._model, self._prompts, levels = model, prompts, len(model.codebook_sizes)
        specs = {} if prompts else model.inputs(longest)
        blank: dict[str, np.ndarray] = {name: tensor.numpy() for name, tensor in blank_inputs(specs, size).items()}
        self._names = tuple(blank)  # what the model reads
        assert not blank.keys() & OURS, "an input of the model has a name of the search's"
        blank |= {
            "roots": np.zeros((size, 1), np.int64),
            "widths": np.ones((levels, size), np.int64),
            "sets": np.zeros((size, set_words), np.int64),
            "restricted": np.zeros(size, np.bool_),
            "first_banned": np.zeros((levels, size + 1), np.int64),
            "banned": np.zeros(max(1, room), np.int32),  # last, as most of it is not in use
        }
        self._first, end = {}, 0  # the byte at which each tensor begins
        for name, array in blank.items():
            self._first[name], end = end, end + -(-array.nbytes // ALIGN) * ALIGN
        self._shapes = {name: (array.shape, torch.from_numpy(array).dtype) for name, array in blank.items()}
        self.block = torch.zeros(end, dtype=torch.uint8, pin_memory=pinned)
        self._arrays = {name: tensor.numpy() for name, tensor in self._tensors(self.block).items()}
        for name, array in blank.items():
            self._arrays[name][...] = array
        self._row_bytes = {name: array[0].nbytes for name, array in self._arrays.items()}
        self._bytes = self.block.numpy().data
        self._blank = bytes(self._bytes[: self._first["banned"]])
        self._used = end

    @property
    def used(self) -> Tensor:
        """Return the part of the block that the last batch filled: what a GPU has to take."""
        return self.block[: self._used]

    def fill(self, parsed: Sequence[ParsedRequest], first_nodes: Sequence[int]) -> None:
        """Write `parsed`, of which a node of each level 0..L is numbered from `first_nodes` on.

        The rows that are left over hold what the model calls blank, and ask for one beam.
        """
        self._bytes[: len(self._blank)] = self._blank
        arrays = self._arrays
        arrays["roots"].fill(first_nodes[0])
        for row, request in enumerate(parsed):
            if not self._prompts:
                self._model.write(request.reading, partial(self._put, row))
            if request.filter.sets is not None:
                arrays["sets"][row, : len(request.filter.sets)] = request.filter.sets
                arrays["restricted"][row] = True
        arrays["widths"][:, : len(parsed)] = np.array([request.widths for request in parsed]).T
        self._fill_banned(parsed, first_nodes[1:])

    def _fill_banned(self, parsed: Sequence[ParsedRequest], first_nodes: Sequence[int]) -> None:
        """Join all requests' banned nodes, level by level."""
        begin = end = self._first["banned"]
        for level, first in enumerate(self._arrays["first_banned"]):
            first.fill((end - begin) // NODE)
            for row, request in enumerate(parsed):
                if len(nodes := request.banned[level]):
                    written = (nodes + first_nodes[level]).astype(np.int32).tobytes()
                    self._bytes[end : end + len(written)] = written
                    end += len(written)
                    first[row + 1 :] = (end - begin) // NODE
        self._used = end

    def batch(self, block: Tensor | None = None) -> SearchBatch:
        """Return the block's tensors, in the memory of `block`; None: on the host."""
        part = self._tensors(self.block if block is None else block)
        inputs = {name: part[name] for name in self._names}
        sets = part["sets"], part["restricted"]
        filters = tuple(NodeFilter(part["banned"], first, *sets) for first in part["first_banned"])
        return SearchBatch(inputs, part["roots"], part["widths"], filters)

    def _tensors(self, block: Tensor) -> dict[str, Tensor]:
        out = {}
        for name, (shape, dtype) in self._shapes.items():
            first, size = self._first[name], int(np.prod(shape)) * dtype.itemsize
            out[name] = block[first : first + size].view(dtype).view(shape)
        return out

    def _put(self, row: int, name: str, values: np.ndarray) -> None:
        """Write a request's part of an input, of the input's type, from its start on."""
        room = self._row_bytes[name]
        assert values.dtype == self._arrays[name].dtype, name
        assert values.nbytes <= room, name
        first = self._first[name] + row * room
        self._bytes[first : first + values.nbytes] = values.tobytes()
