# mypy: allow-untyped-defs
"""One kernel computes SwiGLU and quantization: each row is read once and written once.

Letters: T rows, F width. The products of experts do the same in their epilogue (`gemm`), and share `silu`.
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


def swiglu(gate_up: Tensor, quantize_to: Granularity | None) -> Operand:
    """Return silu(gate) * up for contiguous gate_up [T, 2F] = [gate | up] -> [T, F], quantized by
    `token`, `group` or not.

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
    tiles, groups, warps = row_tiles(width)
    _swiglu[(rows,)](
        gate_up, out, scale, *scale.stride(), WIDTH=width, TILES=tiles, GROUPS=groups,
        QUANTIZE=quantize_to is not None, PER_GROUP=quantize_to == "group",
        launch_pdl=overlaps(gate_up.device, rows), num_warps=warps,
    )  # fmt: skip
    return hidden


@triton.jit
def silu(x):
    """Return x / (1 + exp(-x)) of float32."""
    return x / (1.0 + tl.exp2(x * -1.4426950408889634))  # log2(e)


@triton.jit
def _swiglu(
    gate_up_ptr, out_ptr, scale_ptr, scale_row, scale_group,
    WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr, QUANTIZE: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """Compute one row in each program."""
    wait_for_inputs()
    row = tl.program_id(0).to(tl.int64)
    gate_ptr = gate_up_ptr + row * (2 * WIDTH)
    gate = load_tiles(gate_ptr, WIDTH, TILES, GROUPS)
    up = load_tiles(gate_ptr + WIDTH, WIDTH, TILES, GROUPS)
    hidden = ()
    for t in tl.static_range(TILES):
        hidden += ((silu(gate[t]) * up[t]).to(gate_up_ptr.dtype.element_ty),)  # type: ignore[assignment]
    out_ptr += row * WIDTH
    if QUANTIZE:
        scale_ptr += row * scale_row
        store_quantized(hidden, out_ptr, scale_ptr, scale_group, WIDTH, TILES, GROUPS, PER_GROUP)
    else:
        store_tiles(hidden, out_ptr, WIDTH, TILES, GROUPS)
