# mypy: allow-untyped-defs
"""RMSNorm and quantization in one kernel: each row is read once and written once.

Letters: T rows, C width, G = ceil(C/128) groups a row. Tensors are contiguous, 16 bit or float32; sums are float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.quantize import empty_quantized, row_columns, row_groups, to_e4m3
from octorec.kernels.quantized import Granularity
from octorec.kernels.reference import Operand


def rms_norm(x: Tensor, weight: Tensor, eps: float, quantize_to: Granularity | None = None) -> Operand:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension: x [..., C], weight [C].

    Rounded to x's type and then, for x [T, C], quantized by `token` or `group`, so that FP8 and 16 bit see the same
    numbers.
    """
    width = x.shape[-1]
    x = x.contiguous()
    assert weight.shape == (width,)
    normed: Operand
    if quantize_to is None:
        normed = out = scale = torch.empty_like(x)
    else:
        normed = empty_quantized((len(x), width), quantize_to, x.dtype, x.device)
        out, scale = normed.values, normed.scale
    tiles, groups, warps = row_tiles(width)
    _rms_norm[(x.numel() // width,)](
        x, weight, out, scale, eps, *scale.stride()[:2], WIDTH=width, TILES=tiles, GROUPS=groups,
        QUANTIZE=quantize_to is not None, PER_GROUP=quantize_to == "group", num_warps=warps,
    )  # fmt: skip
    return normed


def row_tiles(width: int) -> tuple[int, int, int]:
    """(tiles, groups of 128 values a tile, warps) of a program that holds a row of `width` values as several tiles.

    Lanes beyond the row cost as many instructions as lanes in it, and each warp repeats what a row needs once; with
    many of either, instructions bound the kernel and not memory. So tiles are small (up to 16 values a lane) and warps
    few (up to 48 values a lane): 1408 = 11 groups are 3 tiles of 4, in one warp.
    """
    groups = row_groups(width)
    warps = triton.next_power_of_2(triton.cdiv(groups, 12))
    tile = min(4 * warps, 2 * warps, key=lambda tile: triton.cdiv(groups, tile) * tile)
    tile = min(tile, triton.next_power_of_2(groups))
    return triton.cdiv(groups, tile), tile, warps


@triton.jit
def _rms_norm(
    x_ptr, weight_ptr, out_ptr, scale_ptr, eps, scale_row, scale_group,
    WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr,
    QUANTIZE: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """One program a row, held as TILES tiles [GROUPS, 128], which are added up before their lanes are.

    Weights are loaded last, when the row needs fewer registers. A constant WIDTH leaves full tiles without masks.
    """
    row = tl.program_id(0).to(tl.int64)
    out_ptr += row * WIDTH
    x = _load_row(x_ptr + row * WIDTH, WIDTH, TILES, GROUPS)
    squares = x[0] * x[0]
    for t in tl.static_range(1, TILES):
        squares += x[t] * x[t]
    mean = tl.sum(tl.sum(squares, 1, keep_dims=True), 0, keep_dims=True) / WIDTH  # [1, 1]
    factor = tl.rsqrt(mean + eps)
    weight = _load_row(weight_ptr, WIDTH, TILES, GROUPS)
    normed = ()
    for t in tl.static_range(TILES):
        normed += ((x[t] * factor * weight[t]).to(x_ptr.dtype.element_ty),)  # type: ignore[assignment]
    if QUANTIZE:
        scale_ptr += row * scale_row
        _store_quantized(normed, out_ptr, scale_ptr, scale_group, WIDTH, TILES, GROUPS, PER_GROUP)
    else:
        for t in tl.static_range(TILES):
            column = _tile_columns(t, GROUPS)
            tl.store(out_ptr + column, normed[t], column < WIDTH)


@triton.jit
def _load_row(row_ptr, WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr):
    """A row's tiles, float32 [GROUPS, 128], zero beyond its end."""
    tiles = ()
    for t in tl.static_range(TILES):
        column = _tile_columns(t, GROUPS)
        tiles += (tl.load(row_ptr + column, column < WIDTH, other=0.0).to(tl.float32),)  # type: ignore[assignment]
    return tiles


@triton.jit
def _tile_columns(t: tl.constexpr, GROUPS: tl.constexpr):
    return t * GROUPS * 128 + row_columns(GROUPS)


@triton.jit
def _store_quantized(
    tiles, values_ptr, scale_ptr, scale_group,
    WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """Quantize a row's tiles [GROUPS, 128], zero beyond WIDTH, and write them; the pointers are the row's."""
    if not PER_GROUP:
        largest = tl.abs(tiles[0].to(tl.float32))
        for t in tl.static_range(1, TILES):
            largest = tl.maximum(largest, tl.abs(tiles[t].to(tl.float32)))
        absmax = tl.max(tl.max(largest, 1, keep_dims=True), 0, keep_dims=True)  # [1, 1]
    for t in tl.static_range(TILES):
        x = tiles[t].to(tl.float32)
        if PER_GROUP:
            absmax = tl.max(tl.abs(x), 1, keep_dims=True)  # [GROUPS, 1]
        values, scale = to_e4m3(x, absmax)
        column = _tile_columns(t, GROUPS)
        tl.store(values_ptr + column, values, column < WIDTH)
        if PER_GROUP:
            group = t * GROUPS + tl.arange(0, GROUPS)[:, None]
            tl.store(scale_ptr + group * scale_group, scale, group * 128 < WIDTH)
    if not PER_GROUP:
        tl.store(scale_ptr + tl.zeros((1, 1), tl.int32), scale)
