# mypy: allow-untyped-defs
"""The log-sum-exp of rows over a whole vocabulary is a product whose results nobody writes.

A tile of logits lives in registers: what leaves is its log-sum-exp, a number for each row and tile of the vocabulary,
and a second launch takes these together. At 2,048 rows, 176,384 tokens and K 2,048 that is 1.5 TFLOP: bound by the
tensor cores, where float32 logits would be 1.4 GB written and read again.

A row's bits do not depend on the number of rows: tiles have one size, and partial results one order.

Letters: T rows, V tokens, K model width.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels.device import card_of, processors
from octorec.kernels.gemm import order, scratch
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.products import Card, Tile

WIDE = Tile(rows=128, columns=256, halves=1, depth=64, band=16)  # 192 KB of shared memory
NARROW = Tile(rows=64, columns=128, halves=1, depth=64, band=16, warps=4, stages=3)  # 72 KB
TOGETHER = 32  # rows of a program that takes partial results together


def log_norm(x: Tensor, weight: Tensor, tile: Tile | None = None) -> Tensor:
    """Compute `Ops.log_norm`: x [T, K] and weight [V, K], contiguous, of one 16-bit type -> [T] float32.

    K: a multiple of 8.
    """
    check_width(x.shape[1])
    if x.dtype not in (torch.bfloat16, torch.float16):
        raise InputError("dtype", x.dtype, "the log-norm takes bfloat16 or float16")
    assert x.dtype == weight.dtype
    assert x.is_contiguous()
    assert weight.is_contiguous()
    rows, (vocabulary, k) = len(x), weight.shape
    tile = tile or tile_for(card_of(x.device))
    across = triton.cdiv(vocabulary, tile.columns)
    parts = torch.empty(across, rows, dtype=torch.float32, device=x.device)
    triton.set_allocator(scratch)
    tiles = triton.cdiv(rows, tile.rows) * across
    _log_norm[(min(tiles, processors(x.device)),)](
        x, weight, parts, rows, vocabulary, K=k, EVEN=vocabulary % tile.columns == 0, ROWS=tile.rows,
        COLUMNS=tile.columns, DEPTH=tile.depth, BAND=tile.band, launch_pdl=overlaps(x.device, rows),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return together(parts)


def tile_for(card: Card) -> Tile:
    """Return the larger tile that a card has room for."""
    return WIDE if card.shared > 200 * 1024 else NARROW


def check_width(width: int) -> None:
    """Refuse rows that the memory accelerator cannot read."""
    if width % 8:
        raise InputError("hidden_size", width, "the kernels take multiples of 8: pad the model's width")


def together(parts: Tensor) -> Tensor:
    """Return the log-sum-exp [T] over tiles of parts [tiles, T] float32."""
    tiles, rows = parts.shape
    out = torch.empty(rows, dtype=torch.float32, device=parts.device)
    _together[(triton.cdiv(rows, TOGETHER),)](
        parts, out, rows, tiles, ROWS=TOGETHER, TILES=64, launch_pdl=overlaps(parts.device, rows), num_warps=4
    )
    return out


@triton.jit
def _log_norm(
    x_ptr, weight_ptr, parts_ptr, rows, vocabulary,
    K: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    BAND: tl.constexpr,
):  # fmt: skip
    """Each program walks tiles of ROWS rows and COLUMNS tokens; parts [tiles of tokens, rows]."""
    wait_for_inputs()
    x_desc = tl.make_tensor_descriptor(x_ptr, [rows, K], [K, 1], [ROWS, DEPTH])
    weight_desc = tl.make_tensor_descriptor(weight_ptr, [vocabulary, K], [K, 1], [COLUMNS, DEPTH])
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(vocabulary, COLUMNS)
    for tile in tl.range(tl.program_id(0), down * across, tl.num_programs(0)):
        row_tile, column_tile = order(tile, down, across, BAND)
        logits = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(0, K, DEPTH):
            x = x_desc.load([row_tile * ROWS, k])
            weight = weight_desc.load([column_tile * COLUMNS, k])
            logits = tl.dot(x, weight.T, logits)
        if not EVEN:
            token = column_tile * COLUMNS + tl.arange(0, COLUMNS)
            logits = tl.where((token < vocabulary)[None, :], logits, float("-inf"))
        row = row_tile * ROWS + tl.arange(0, ROWS)
        largest = tl.max(logits, 1)
        part = largest + tl.log(tl.sum(tl.exp(logits - largest[:, None]), 1))
        tl.store(parts_ptr + column_tile.to(tl.int64) * rows + row, part, row < rows)


@triton.jit
def _together(parts_ptr, out_ptr, rows, tiles, ROWS: tl.constexpr, TILES: tl.constexpr):
    """Take the parts of ROWS rows together in each program, TILES tiles at a time.

    The first tile gives the first maximum, so that nothing is subtracted from -inf but what is there.
    """
    wait_for_inputs()
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    largest = tl.load(parts_ptr + row, inside, other=0.0)
    total = tl.zeros((ROWS,), tl.float32)
    for first in range(0, tiles, TILES):
        tile = first + tl.arange(0, TILES)
        there = (tile < tiles)[:, None] & inside[None, :]
        part = tl.load(parts_ptr + tile.to(tl.int64)[:, None] * rows + row[None, :], there, other=float("-inf"))
        higher = tl.maximum(largest, tl.max(part, 0))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(part - higher[None, :]), 0)
        largest = higher
    tl.store(out_ptr + row, largest + tl.log(tl.where(inside, total, 1.0)), inside)
