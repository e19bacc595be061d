# mypy: allow-untyped-defs
"""A plan says where the rows of each expert lie for a grouped product; it is worked out on the device.

An expert's rows take consecutive slots, in the order of the rows, from a multiple of `block_m` on, so that a tile of
`block_m` slots belongs to one expert. How many those are is known to the device alone: buffers have room for the worst
routing of T rows to R experts each, and a kernel reads how many tiles there really are.

Letters: T rows, R experts a row, E experts, P slots, Z = T * R entries (row t's r-th expert is entry t * R + r).
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.overlap import overlaps, wait_for_inputs

CHUNK = 256  # entries a program


class ExpertPlan(NamedTuple):
    """An ExpertPlan says where each row of each expert lies: slots ascend with the expert; those
    without a row are padding.

    slot_of [T, R] int32: where the input and the result of row t's r-th expert lie. tile_expert [P / block_m] int32:
    the expert of each tile, -1 beyond the last. tile_rows [P / block_m] int32: how many rows it holds, which come
    first. n_tiles [1] int32: the tiles that hold rows.
    """

    slot_of: Tensor
    tile_expert: Tensor
    tile_rows: Tensor
    n_tiles: Tensor
    block_m: int

    @property
    def slots(self) -> int:
        return len(self.tile_expert) * self.block_m


def most_tiles(rows: int, experts_a_row: int, n_expert: int, block_m: int) -> int:
    """Return a number of tiles that is enough, whatever the routing: each expert with a row wastes less than one."""
    entries = rows * experts_a_row
    return (entries + min(n_expert, entries) * (block_m - 1)) // block_m


def plan_experts(experts: Tensor, n_expert: int, block_m: int) -> ExpertPlan:
    """Make the plan of a routing.

    experts [T, R] integers in 0..E-1, contiguous: the choices of each row, shared experts among them.
    """
    assert experts.is_contiguous()
    rows, per_row = experts.shape
    tiles, chunks = most_tiles(rows, per_row, n_expert, block_m), triton.cdiv(experts.numel(), CHUNK)
    bins = triton.next_power_of_2(n_expert + 1)  # the last ones take the entries that are none
    slot_of, tile_expert, tile_rows, n_tiles, counts = (
        torch.empty(shape, dtype=torch.int32, device=experts.device)
        for shape in (experts.shape, (tiles,), (tiles,), (1,), (chunks, bins))
    )
    if chunks > 1:
        _count[(chunks,)](
            experts,
            counts,
            experts.numel(),
            n_expert,
            CHUNK=CHUNK,
            BINS=bins,
            launch_pdl=overlaps(experts.device, rows),
        )
    _place[(chunks,)](
        experts_ptr=experts, counts_ptr=counts if chunks > 1 else None, slot_of_ptr=slot_of,
        tile_expert_ptr=tile_expert, tile_rows_ptr=tile_rows, n_tiles_ptr=n_tiles, entries=experts.numel(),
        n_expert=n_expert, tiles=tiles, block_m=block_m,
        CHUNK=CHUNK, BINS=bins, CHUNKS=min(triton.next_power_of_2(chunks), 16384 // bins),
        launch_pdl=overlaps(experts.device, rows), num_warps=8,
    )  # fmt: skip
    return ExpertPlan(slot_of, tile_expert, tile_rows, n_tiles, block_m)


@triton.jit
def _chunk(experts_ptr, entries, n_expert, CHUNK: tl.constexpr):
    """Return the experts of this program's entries [CHUNK], n_expert beyond the end."""
    entry = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    return tl.load(experts_ptr + entry, entry < entries, other=n_expert).to(tl.int32)


@triton.jit
def _count(experts_ptr, counts_ptr, entries, n_expert, CHUNK: tl.constexpr, BINS: tl.constexpr):
    """Count how many entries of the chunk go to each expert: counts [chunks, BINS]."""
    wait_for_inputs()
    expert = _chunk(experts_ptr, entries, n_expert, CHUNK)
    tl.store(counts_ptr + tl.program_id(0) * BINS + tl.arange(0, BINS), _counted(expert, n_expert, BINS))


@triton.jit
def _counted(expert, n_expert, BINS: tl.constexpr):
    """Return how many of the entries go to each expert [BINS]."""
    return tl.where(tl.arange(0, BINS) < n_expert, tl.histogram(expert, BINS), 0)


@triton.jit
def _place(
    experts_ptr, counts_ptr, slot_of_ptr, tile_expert_ptr, tile_rows_ptr, n_tiles_ptr,
    entries, n_expert, tiles, block_m,
    CHUNK: tl.constexpr, BINS: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Return an entry's slot: its expert's first, and the number of entries before it that go there too.

    counts: None where there is one chunk, which counts its own.
    """
    wait_for_inputs()
    chunk, chunks = tl.program_id(0), tl.num_programs(0)
    bins = tl.arange(0, BINS)
    expert = _chunk(experts_ptr, entries, n_expert, CHUNK)
    before = tl.zeros((BINS,), tl.int32)  # entries of each expert in earlier chunks
    if counts_ptr is None:
        count = _counted(expert, n_expert, BINS)
        total = count
    else:
        count = tl.load(counts_ptr + chunk * BINS + bins)
        total = tl.zeros((BINS,), tl.int32)  # entries of each expert
        for first in range(0, chunks, CHUNKS):
            other = first + tl.arange(0, CHUNKS)[:, None]
            counts = tl.load(counts_ptr + other * BINS + bins[None, :], other < chunks, other=0)
            total += tl.sum(counts, 0)
            before += tl.sum(tl.where(other < chunk, counts, 0), 0)
    tiles_of = (total + block_m - 1) // block_m
    end = tl.cumsum(tiles_of, 0)  # of each expert's tiles

    place = tl.arange(0, CHUNK)
    ordered = tl.sort(expert * CHUNK + place)  # an expert's entries together, as they came
    expert = ordered // CHUNK
    begin = (end - tiles_of) * block_m  # each expert's first slot
    slot = tl.gather(begin + before - (tl.cumsum(count, 0) - count), expert, 0) + place
    tl.store(slot_of_ptr + chunk * CHUNK + ordered % CHUNK, slot, expert < n_expert)

    last = tl.sum(tiles_of, 0)
    if chunk == 0:
        tl.store(n_tiles_ptr, last)
    for first in range(chunk * 64, tiles, chunks * 64):
        tile = first + tl.arange(0, 64)
        owner = tl.sum((end[:, None] <= tile[None, :]).to(tl.int32), 0)  # as many experts end before the tile
        tl.store(tile_expert_ptr + tile, tl.where(tile < last, owner, -1), tile < tiles)
        until = tl.gather(begin + total, tl.minimum(owner, BINS - 1), 0)  # one slot beyond its last row
        tl.store(tile_rows_ptr + tile, tl.minimum(tl.maximum(until - tile * block_m, 0), block_m), tile < tiles)
