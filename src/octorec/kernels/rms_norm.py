# mypy: allow-untyped-defs
"""One kernel computes RMSNorm and quantization: each row is read once and written once.

Letters: T rows, C width, G = ceil(C/128) groups a row. Tensors are contiguous, 16 bit or float32; sums are float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.cast import empty_quantized
from octorec.kernels.fp8 import Granularity
from octorec.kernels.ops import Operand
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.rows import load_tiles, row_tiles, store_quantized, store_tiles


def rms_norm(x: Tensor, weight: Tensor, eps: float, quantize_to: Granularity | None = None) -> Operand:
    """Return x / sqrt(mean(x^2) + eps) * weight over the last dimension: x [..., C], weight [C].

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
    rows = x.numel() // width
    _rms_norm[(rows,)](
        x, weight, out, scale, eps, *scale.stride()[:2], WIDTH=width, TILES=tiles, GROUPS=groups,
        QUANTIZE=quantize_to is not None, PER_GROUP=quantize_to == "group",
        launch_pdl=overlaps(x.device, rows), num_warps=warps,
    )  # fmt: skip
    return normed


@triton.jit
def _rms_norm(
    x_ptr, weight_ptr, out_ptr, scale_ptr, eps, scale_row, scale_group,
    WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr,
    QUANTIZE: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """Norm one row in each program, held as TILES tiles [GROUPS, 128], which are added up before their lanes are.

    Weights are loaded last, when the row needs fewer registers.
    """
    wait_for_inputs()
    row = tl.program_id(0).to(tl.int64)
    out_ptr += row * WIDTH
    x = load_tiles(x_ptr + row * WIDTH, WIDTH, TILES, GROUPS)
    squares = x[0] * x[0]
    for t in tl.static_range(1, TILES):
        squares += x[t] * x[t]
    mean = tl.sum(tl.sum(squares, 1, keep_dims=True), 0, keep_dims=True) / WIDTH  # [1, 1]
    factor = tl.where(mean < float("inf"), tl.rsqrt(mean + eps), float("nan"))  # a sum that overflows is no 0
    weight = load_tiles(weight_ptr, WIDTH, TILES, GROUPS)
    normed = ()
    for t in tl.static_range(TILES):
        normed += ((x[t] * factor * weight[t]).to(x_ptr.dtype.element_ty),)  # type: ignore[assignment]
    if QUANTIZE:
        scale_ptr += row * scale_row
        store_quantized(normed, out_ptr, scale_ptr, scale_group, WIDTH, TILES, GROUPS, PER_GROUP)
    else:
        store_tiles(normed, out_ptr, WIDTH, TILES, GROUPS)
