# mypy: allow-untyped-defs
"""Casts to FP8 E4M3 with one scale absmax/448 a group: bit for bit those of `quantized.quantize`.

Quotients are IEEE's: an approximate one would round to another E4M3 value near a tie. Each value is read and written
once. Kernels that quantize what they computed share `to_e4m3` and `empty_quantized`, and those that hold whole rows the
tiles they hold them as.

Letters: T rows, N and K the height and width of a matrix, G = ceil(K/128) groups a row.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels.quantized import E4M3, GROUP, Granularity, Quantized

MAX_WIDTH = 16384  # a program holds a whole row in registers


def quantize(x: Tensor, granularity: Granularity) -> Quantized:
    """Round contiguous `x` [..., N, K] of 16 or 32 bit to E4M3: `token`, `channel`, `group` or `block`."""
    assert x.is_contiguous()
    rows = x.view(-1, x.shape[-1])
    if granularity == "block":
        return _quantize_blocks(x)
    out = empty_quantized(rows.shape, granularity, x.dtype, x.device)
    tiles, groups, warps = row_tiles(x.shape[-1])
    _quantize_row[(len(rows),)](
        rows, out.values, out.scale, *out.scale.stride(), WIDTH=x.shape[-1], TILES=tiles, GROUPS=groups,
        PER_GROUP=granularity == "group", num_warps=warps,
    )  # fmt: skip
    return Quantized(out.values.view(x.shape), _leading(out.scale, x.shape[:-1]), granularity, x.dtype)


def empty_quantized(
    shape: torch.Size | tuple[int, int], granularity: Granularity, dtype: torch.dtype, device: torch.device
) -> Quantized:
    """Unwritten values [T, K] with a scale for each token, channel or group.

    Scales a group lie M-major with T padded to a multiple of 4: shape [T, G], stride (1, T4), as Hopper's block
    products read them.
    """
    rows, width = shape
    values = torch.empty(rows, width, dtype=E4M3, device=device)
    if granularity in ("token", "channel"):
        scale = torch.empty(rows, 1, dtype=torch.float32, device=device)
    elif granularity == "group":
        padded = torch.empty(triton.cdiv(width, GROUP), triton.cdiv(rows, 4) * 4, dtype=torch.float32, device=device)
        scale = padded.T[:rows]
    else:
        allowed = "rows can be quantized by 'token', 'channel' or 'group' on a GPU; weights also by 'block'"
        raise InputError("granularity", granularity, allowed)
    return Quantized(values, scale, granularity, dtype)


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


def row_groups(width: int) -> int:
    """Groups of 128 values in a row of `width`, the last one perhaps short."""
    if not 0 < width <= MAX_WIDTH:
        raise InputError("row width", width, f"the row kernels take 1 to {MAX_WIDTH} values a row")
    return triton.cdiv(width, GROUP)


@triton.jit
def tile_columns(t: tl.constexpr, GROUPS: tl.constexpr):
    """The columns of a row's tile `t`, [GROUPS, 128]."""
    return (t * GROUPS + tl.arange(0, GROUPS)[:, None]) * 128 + tl.arange(0, 128)[None, :]


@triton.jit
def load_tiles(row_ptr, WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr):
    """A row's tiles, float32 [GROUPS, 128], zero beyond its end. A constant WIDTH leaves full tiles without masks."""
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
    """A row's tiles in E4M3, and their scales: those of each tile's groups [GROUPS, 1], or the row's [1, 1]."""
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


@triton.jit
def to_e4m3(x, absmax):
    """float32 `x` in E4M3, and the scale absmax/448 (1 for zeros); absmax broadcasts against x. NaN stays NaN.

    Nothing to clamp: a quotient is at most half an ulp of float32 above 448, and rounds to it.
    """
    lift = _lift(absmax)
    x = _divide(x * -lift, _lifted_scale(absmax, lift))
    return x.to(tl.float8e4nv), scale_of(absmax)


@triton.jit
def scale_of(absmax):
    """absmax/448, 1 for zeros."""
    lift = _lift(absmax)
    scale = _lifted_scale(absmax, lift)
    return tl.where((lift > 1) & (absmax > 0), scale * 5.421010862427522e-20, scale)  # 2^-64


@triton.jit
def _lift(absmax):
    return tl.where(absmax < 1e-18, 18446744073709551616.0, 1.0)  # 2^64, which keeps a division's remainders exact


@triton.jit
def _lifted_scale(absmax, lift):
    return tl.where(absmax > 0, _divide(absmax * -lift, 448.0), 1.0)


@triton.jit
def _divide(negative, y):
    """-negative / y, correctly rounded, for 0 < y: a third of `div_rn`'s instructions, and no call, which would spill.

    Markstein's theorem: from a correctly rounded reciprocal, which costs a row little, a quotient less than an ulp off
    is rounded correctly by one step with an exact remainder (checked for every pair of 16-bit x and absmax). The
    dividend comes negated so that -0 stays -0.
    """
    reciprocal = -1.0 / y
    for _ in tl.static_range(2):
        reciprocal = tl.fma(tl.fma(reciprocal, y, 1.0), reciprocal, reciprocal)
    quotient = negative * reciprocal
    quotient = tl.fma(tl.fma(quotient, y, negative), reciprocal, quotient)
    return quotient


@triton.jit
def _quantize_row(
    x_ptr, values_ptr, scale_ptr, scale_row, scale_group,
    WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """One program a row."""
    row = tl.program_id(0).to(tl.int64)
    x = load_tiles(x_ptr + row * WIDTH, WIDTH, TILES, GROUPS)
    at = scale_ptr + row * scale_row
    store_quantized(x, values_ptr + row * WIDTH, at, scale_group, WIDTH, TILES, GROUPS, PER_GROUP)


def _quantize_blocks(x: Tensor) -> Quantized:
    """x [..., N, K] -> a scale for each 128 x 128 values."""
    height, width = x.shape[-2:]
    blocks = (triton.cdiv(height, GROUP), triton.cdiv(width, GROUP))
    values = torch.empty(x.shape, dtype=E4M3, device=x.device)
    scale = torch.empty(*x.shape[:-2], *blocks, dtype=torch.float32, device=x.device)
    matrices = x.numel() // (height * width)
    _quantize_block[(blocks[1], blocks[0], matrices)](x, values, scale, height, width, num_warps=8)
    return Quantized(values, scale, "block", x.dtype)


@triton.jit
def _quantize_block(x_ptr, values_ptr, scale_ptr, height, width):
    """One program a block: program (k, n, matrix)."""
    k, n, matrix = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = n * 128 + tl.arange(0, 128)[:, None]
    column = k * 128 + tl.arange(0, 128)[None, :]
    inside = (row < height) & (column < width)
    at = (matrix.to(tl.int64) * height + row) * width + column
    x = tl.load(x_ptr + at, inside, other=0.0).to(tl.float32)
    absmax = tl.max(tl.max(tl.abs(x), 1, keep_dims=True), 0, keep_dims=True)
    values, scale = to_e4m3(x, absmax)
    tl.store(values_ptr + at, values, inside)
    block = (matrix * tl.num_programs(1) + n) * tl.num_programs(0) + k
    tl.store(scale_ptr + block + tl.zeros((1, 1), tl.int32), scale)


def _leading(scale: Tensor, leading: torch.Size) -> Tensor:
    """Scales [T, G] with T split into the leading dimensions, without a copy."""
    return scale.unflatten(0, tuple(leading)) if len(leading) > 1 else scale
