# mypy: allow-untyped-defs
"""This is the cast to FP8 as a kernel of its own, for what no other kernel quantizes as it writes it.

Letters: T rows, N and K the height and width of a matrix.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.cast import empty_quantized, to_e4m3
from octorec.kernels.fp8 import E4M3, GROUP, Granularity, Quantized
from octorec.kernels.ops import Operand
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.rows import load_tiles, row_tiles, store_quantized


def maybe_quantize(x: Tensor, granularity: Granularity | None) -> Operand:
    """Return contiguous `x` itself, or quantized, as `Ops.maybe_quantize`."""
    return x if granularity is None else quantize(x, granularity)


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
        PER_GROUP=granularity == "group", launch_pdl=overlaps(x.device, len(rows)), num_warps=warps,
    )  # fmt: skip
    return Quantized(out.values.view(x.shape), _leading(out.scale, x.shape[:-1]), granularity, x.dtype)


@triton.jit
def _quantize_row(
    x_ptr, values_ptr, scale_ptr, scale_row, scale_group,
    WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """Quantize one row in each program."""
    wait_for_inputs()
    row = tl.program_id(0).to(tl.int64)
    x = load_tiles(x_ptr + row * WIDTH, WIDTH, TILES, GROUPS)
    at = scale_ptr + row * scale_row
    store_quantized(x, values_ptr + row * WIDTH, at, scale_group, WIDTH, TILES, GROUPS, PER_GROUP)


def _quantize_blocks(x: Tensor) -> Quantized:
    """Quantize x [..., N, K] with a scale for each 128 x 128 values."""
    height, width = x.shape[-2:]
    blocks = (triton.cdiv(height, GROUP), triton.cdiv(width, GROUP))
    values = torch.empty(x.shape, dtype=E4M3, device=x.device)
    scale = torch.empty(*x.shape[:-2], *blocks, dtype=torch.float32, device=x.device)
    matrices = x.numel() // (height * width)
    _quantize_block[(blocks[1], blocks[0], matrices)](
        x, values, scale, height, width, launch_pdl=overlaps(x.device, matrices * height), num_warps=8
    )
    return Quantized(values, scale, "block", x.dtype)


@triton.jit
def _quantize_block(x_ptr, values_ptr, scale_ptr, height, width):
    """Quantize one block in each program: program (k, n, matrix)."""
    wait_for_inputs()
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
    """Return scales [T, G] with T split into the leading dimensions, without a copy."""
    return scale.unflatten(0, tuple(leading)) if len(leading) > 1 else scale
