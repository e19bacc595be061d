# mypy: allow-untyped-defs
"""RMSNorm and quantization in one kernel: each row is read once and written once.

Letters: T rows, C width, G = ceil(C/128) groups a row. Tensors are contiguous, 16 bit or float32; sums are float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.launch import begin, launch
from octorec.kernels.quantize import empty_quantized, load_row, row_columns, row_tile, store_row
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
    groups, warps = row_tile(width)
    _rms_norm[(x.numel() // width,)](
        x, weight, out, scale, width, eps, *scale.stride()[:2], GROUPS=groups, QUANTIZE=quantize_to is not None,
        PER_GROUP=quantize_to == "group", **launch(x.device), num_warps=warps,
    )  # fmt: skip
    return normed


@triton.jit
def _rms_norm(
    x_ptr, weight_ptr, out_ptr, scale_ptr, width, eps, scale_row, scale_group,
    GROUPS: tl.constexpr, QUANTIZE: tl.constexpr, PER_GROUP: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One program a row, held as [GROUPS, 128]."""
    begin(PDL)
    row = tl.program_id(0)
    column = row_columns(GROUPS)
    inside = column < width
    x = load_row(x_ptr, row, width, GROUPS)
    mean = tl.sum(tl.sum(x * x, 1, keep_dims=True), 0, keep_dims=True) / width  # [1, 1]
    weight = tl.load(weight_ptr + column, inside, other=0.0).to(tl.float32)
    normed = (x * tl.rsqrt(mean + eps) * weight).to(x_ptr.dtype.element_ty)
    if QUANTIZE:
        store_row(normed.to(tl.float32), row, out_ptr, scale_ptr, width, scale_row, scale_group, GROUPS, PER_GROUP)
    else:
        tl.store(out_ptr + row.to(tl.int64) * width + column, normed, inside)
