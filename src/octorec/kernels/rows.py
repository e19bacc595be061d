# mypy: allow-untyped-defs
"""Programs that hold whole rows of activations read, cast and write them as tiles [GROUPS, 128].

Norm, SwiGLU, cast, dispatch and combine of experts share this. Each value is read and written once.

Letters: G = ceil(K/128) groups in a row of width K.
"""

import triton
import triton.language as tl

from octorec.errors import InputError
from octorec.kernels.cast import to_e4m3
from octorec.kernels.fp8 import GROUP

MAX_WIDTH = 16384  # a program holds a whole row in registers


def row_tiles(width: int) -> tuple[int, int, int]:
    """Return (tiles, groups of 128 values a tile, warps) of a program that holds a row of `width`
    values as several tiles.

    Lanes beyond the row cost as many instructions as lanes in it, and each warp repeats what a row needs once; with
    many of either, instructions bound the kernel and not memory. So tiles are small (up to 16 values a lane) and warps
    few (up to 48 values a lane): 1408 = 11 groups are 3 tiles of 4, in one warp.
    """
    groups = row_groups(width)
    warps = triton.next_power_of_2(triton.cdiv(groups, 12))
    tile = min(4 * warps, 2 * warps, key=lambda tile: triton.cdiv(groups, tile) * tile)
    tile = min(tile, triton.next_power_of_2(groups))
    return triton.cdiv(groups, tile), tile, warps


def row_groups(width: int) -> int:
    """Return the number of groups of 128 values in a row of `width`, the last one perhaps short."""
    if not 0 < width <= MAX_WIDTH:
        raise InputError("row width", width, f"the row kernels take 1 to {MAX_WIDTH} values a row")
    return triton.cdiv(width, GROUP)


@triton.jit
def tile_columns(t: tl.constexpr, GROUPS: tl.constexpr):
    """Return the columns of a row's tile `t`, [GROUPS, 128]."""
    return (t * GROUPS + tl.arange(0, GROUPS)[:, None]) * 128 + tl.arange(0, 128)[None, :]


@triton.jit
def load_tiles(row_ptr, WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr):
    """Return a row's tiles, float32 [GROUPS, 128], zero beyond its end.

    A constant WIDTH leaves full tiles without masks.
    """
    tiles = ()
    for t in tl.static_range(TILES):
        column = tile_columns(t, GROUPS)
        tiles += (tl.load(row_ptr + column, column < WIDTH, other=0.0).to(tl.float32),)  # type: ignore[assignment]
    return tiles


@triton.jit
def store_tiles(tiles, row_ptr, WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr):
    """Write a row's tiles [GROUPS, 128], rounded to what `row_ptr` points to."""
    for t in tl.static_range(TILES):
        column = tile_columns(t, GROUPS)
        tl.store(row_ptr + column, tiles[t].to(row_ptr.dtype.element_ty), column < WIDTH)


@triton.jit
def store_quantized(
    tiles, values_ptr, scale_ptr, scale_group,
    WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """Quantize a row's tiles [GROUPS, 128], zero beyond WIDTH, and write them; the pointers are the row's."""
    values, scales = quantize_tiles(tiles, TILES, PER_GROUP)
    write_quantized(values, scales, values_ptr, scale_ptr, scale_group, WIDTH, TILES, GROUPS, PER_GROUP)


@triton.jit
def quantize_tiles(tiles, TILES: tl.constexpr, PER_GROUP: tl.constexpr):
    """Return a row's tiles in E4M3, and their scales: those of each tile's groups [GROUPS, 1], or the row's [1, 1]."""
    if not PER_GROUP:
        largest = tl.abs(tiles[0].to(tl.float32))
        for t in tl.static_range(1, TILES):
            largest = tl.maximum(largest, tl.abs(tiles[t].to(tl.float32)))
        absmax = tl.max(tl.max(largest, 1, keep_dims=True), 0, keep_dims=True)
    values, scales = (), ()
    for t in tl.static_range(TILES):
        x = tiles[t].to(tl.float32)
        if PER_GROUP:
            absmax = tl.max(tl.abs(x), 1, keep_dims=True)
        value, scale = to_e4m3(x, absmax)
        values += (value,)  # type: ignore[assignment]
        scales += (scale,)  # type: ignore[assignment]
    return values, scales


@triton.jit
def write_quantized(
    values, scales, values_ptr, scale_ptr, scale_group,
    WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """Write what `quantize_tiles` gave; the pointers are the row's, scale_group the stride from group to group."""
    for t in tl.static_range(TILES):
        column = tile_columns(t, GROUPS)
        tl.store(values_ptr + column, values[t], column < WIDTH)
        if PER_GROUP:
            group = t * GROUPS + tl.arange(0, GROUPS)[:, None]
            tl.store(scale_ptr + group * scale_group, scales[t], group * 128 < WIDTH)
    if not PER_GROUP:
        tl.store(scale_ptr + tl.zeros((1, 1), tl.int32), scales[0])
