# mypy: allow-untyped-defs
"""Residual add, RMSNorm and quantization in one kernel: each row is read once and written once.

Letters: T rows, C width, G = ceil(C/128) groups a row. Tensors are contiguous, 16 bit or float32; sums are float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.quantize import empty_quantized, load_row, row_columns, row_tile, store_row
from octorec.kernels.quantized import Granularity
from octorec.kernels.reference import Operand


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in x's type: x [..., C], weight [C]."""
    _, out = add_rms_norm(x.reshape(-1, x.shape[-1]).contiguous(), None, weight, eps, None)
    assert isinstance(out, Tensor)
    return out.view(x.shape)


def add_rms_norm(
    residual: Tensor, delta: Tensor | None, weight: Tensor, eps: float, quantize_to: Granularity | None
) -> tuple[Tensor, Operand]:
    """residual + delta, and its RMSNorm, quantized by `token` or `group` or not at all: all [T, C], weight [C].

    The norm is taken of the rounded sum, and rounded to the residual's type before it is quantized, so that FP8 and
    16 bit see the same numbers. Without a delta the residual comes back as it is.
    """
    rows, width = residual.shape
    assert residual.is_contiguous()
    assert weight.shape == (width,)
    assert delta is None or (delta.is_contiguous() and delta.shape == residual.shape and delta.dtype == residual.dtype)
    total = residual if delta is None else torch.empty_like(residual)
    normed: Operand
    if quantize_to is None:
        normed = out = scale = torch.empty_like(residual)
    else:
        normed = empty_quantized(residual.shape, quantize_to, residual.dtype, residual.device)
        out, scale = normed.values, normed.scale
    groups, warps = row_tile(width)
    _add_rms_norm[(rows,)](
        residual, residual if delta is None else delta, weight, total, out, scale, width, eps, *scale.stride(),
        GROUPS=groups, ADD=delta is not None, QUANTIZE=quantize_to is not None, PER_GROUP=quantize_to == "group",
        num_warps=warps,
    )  # fmt: skip
    return total, normed


@triton.jit
def _add_rms_norm(
    residual_ptr, delta_ptr, weight_ptr, total_ptr, out_ptr, scale_ptr, width, eps, scale_row, scale_group,
    GROUPS: tl.constexpr, ADD: tl.constexpr, QUANTIZE: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """One program a row, held as [GROUPS, 128]."""
    row = tl.program_id(0)
    kind = residual_ptr.dtype.element_ty
    column = row_columns(GROUPS)
    inside = column < width
    at = row.to(tl.int64) * width + column
    x = load_row(residual_ptr, row, width, GROUPS)
    if ADD:
        total = (x + load_row(delta_ptr, row, width, GROUPS)).to(kind)
        tl.store(total_ptr + at, total, inside)
        x = total.to(tl.float32)
    mean = tl.sum(tl.sum(x * x, 1, keep_dims=True), 0, keep_dims=True) / width  # [1, 1]
    weight = tl.load(weight_ptr + column, inside, other=0.0).to(tl.float32)
    normed = (x * tl.rsqrt(mean + eps) * weight).to(kind)
    if QUANTIZE:
        store_row(normed.to(tl.float32), row, out_ptr, scale_ptr, width, scale_row, scale_group, GROUPS, PER_GROUP)
    else:
        tl.store(out_ptr + at, normed, inside)
