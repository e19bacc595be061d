# mypy: allow-untyped-defs
"""SwiGLU and quantization in one kernel: each row is read once and written once.

Letters: T rows, F width. The products of experts do the same in their epilogue (`gemm`), and share `silu`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.quantize import empty_quantized, row_columns, row_tile, store_row
from octorec.kernels.quantized import Granularity
from octorec.kernels.reference import Operand


def swiglu(gate_up: Tensor, quantize_to: Granularity | None) -> Operand:
    """silu(gate) * up for contiguous gate_up [T, 2F] = [gate | up] -> [T, F], quantized by `token`, `group` or not.

    float32 inside, rounded once to gate_up's type before quantizing.
    """
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    assert gate_up.is_contiguous()
    assert gate_up.shape == (rows, 2 * width)
    hidden: Operand
    if quantize_to is None:
        hidden = out = scale = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device)
    else:
        hidden = empty_quantized((rows, width), quantize_to, gate_up.dtype, gate_up.device)
        out, scale = hidden.values, hidden.scale
    groups, warps = row_tile(width)
    _swiglu[(rows,)](
        gate_up, out, scale, width, *scale.stride(),
        GROUPS=groups, QUANTIZE=quantize_to is not None, PER_GROUP=quantize_to == "group",
        num_warps=warps,
    )  # fmt: skip
    return hidden


@triton.jit
def silu(x):
    """x / (1 + exp(-x)) of float32."""
    return x / (1.0 + tl.exp2(x * -1.4426950408889634))  # log2(e)


@triton.jit
def _swiglu(
    gate_up_ptr, out_ptr, scale_ptr, width, scale_row, scale_group,
    GROUPS: tl.constexpr, QUANTIZE: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """One program a row, held as [GROUPS, 128]."""
    row = tl.program_id(0)
    kind = gate_up_ptr.dtype.element_ty
    column = row_columns(GROUPS)
    inside = column < width
    at = row.to(tl.int64) * (2 * width) + column
    gate = tl.load(gate_up_ptr + at, inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + width + at, inside, other=0.0).to(tl.float32)
    hidden = (silu(gate) * up).to(kind)
    if QUANTIZE:
        store_row(hidden.to(tl.float32), row, out_ptr, scale_ptr, width, scale_row, scale_group, GROUPS, PER_GROUP)
    else:
        tl.store(out_ptr + row.to(tl.int64) * width + column, hidden, inside)
