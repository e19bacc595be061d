# mypy: allow-untyped-defs
"""A beam attends over its own earlier positions, read where they were written.

The levels' q, k, v stay in place; a row finds its ancestors' through the indices. At the model's third level a row
reads five vectors (its own three, its parent's k and v; the first level's are one row a request) and writes one:
memory-bound.

Letters: B requests, W beams, H heads, D head width, C = H * D, P earlier positions, G = ceil(C/128) groups a row.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.attend import check_head_width
from octorec.kernels.cast import empty_quantized
from octorec.kernels.fp8 import Granularity
from octorec.kernels.ops import Operand
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.rows import row_groups, store_quantized


def self_attention(
    qkv: Tensor, past: list[Tensor], ancestors: list[Tensor], quantize_to: Granularity | None
) -> Operand:
    """Compute `Ops.self_attention`: qkv [B, W, 3, H, D], past[p] [B, W_p, 3, H, D], ancestors[p] [B, W] -> [B*W, C].

    Contiguous, of one 16-bit type or float32; D as `attend` takes it. One launch, a program a row: all heads of a row
    are at hand, so that a scale a token costs no second pass. Scores, softmax and sums are float32.
    """
    batch, beams, _, heads, width = qkv.shape
    check_head_width(width)
    assert all(t.is_contiguous() for t in (qkv, *past, *ancestors))
    rows, columns = batch * beams, heads * width
    out: Operand
    if quantize_to is None:
        out = values = scale = torch.empty(rows, columns, dtype=qkv.dtype, device=qkv.device)
    else:
        out = empty_quantized((rows, columns), quantize_to, qkv.dtype, qkv.device)
        values, scale = out.values, out.scale
    groups = triton.next_power_of_2(row_groups(columns))
    _self_attention[(rows,)](
        qkv_ptr=qkv, past_ptrs=tuple(past), ancestor_ptrs=tuple(ancestors), out_ptr=values, scale_ptr=scale,
        W=beams, past_widths=tuple(level.shape[1] for level in past), C=columns, softmax_scale=width**-0.5,
        scale_row=scale.stride(0), scale_group=scale.stride(1), WIDTH=columns, P=len(past), D=width, GROUPS=groups,
        QUANTIZE=quantize_to is not None, PER_GROUP=quantize_to == "group",
        launch_pdl=overlaps(qkv.device, rows), num_warps=4 if groups <= 16 else 8,
    )  # fmt: skip
    return out


@triton.jit
def _self_attention(
    qkv_ptr, past_ptrs, ancestor_ptrs, out_ptr, scale_ptr, W, past_widths, C, softmax_scale, scale_row, scale_group,
    WIDTH: tl.constexpr, P: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr,
    QUANTIZE: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """Attend with one row in each program, held as [heads, D] with heads up to GROUPS * 128 / D.

    All is loaded before any is used.

    C = WIDTH comes a second time as a number that the compiler does not know, or it would load less at once.
    """
    wait_for_inputs()
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, GROUPS * 128 // D)[:, None] * D + tl.arange(0, D)[None, :]
    inside = column < C
    own = qkv_ptr + row * 3 * C + column
    q = tl.load(own, inside, other=0.0)
    keys = (tl.load(own + C, inside, other=0.0),)
    values = (tl.load(own + 2 * C, inside, other=0.0),)
    for p in tl.static_range(P):
        ancestor = (row // W) * past_widths[p] + tl.load(ancestor_ptrs[p] + row).to(tl.int64)
        earlier = past_ptrs[p] + ancestor * 3 * C + column
        keys += (tl.load(earlier + C, inside, other=0.0),)  # type: ignore[assignment]
        values += (tl.load(earlier + 2 * C, inside, other=0.0),)  # type: ignore[assignment]

    q = q.to(tl.float32) * softmax_scale
    scores = (tl.sum(q * keys[0].to(tl.float32), 1, keep_dims=True),)  # [heads, 1] each
    top = scores[0]
    for p in tl.static_range(P):
        scores += (tl.sum(q * keys[p + 1].to(tl.float32), 1, keep_dims=True),)  # type: ignore[assignment]
        top = tl.maximum(top, scores[p + 1])
    total = tl.zeros_like(top)
    out = tl.zeros_like(q)
    for p in tl.static_range(P + 1):
        weight = tl.exp(scores[p] - top)
        total += weight
        out += weight * values[p].to(tl.float32)
    out = (out / total).to(qkv_ptr.dtype.element_ty)
    if QUANTIZE:
        x = tl.reshape(out.to(tl.float32), (GROUPS, 128))
        scale_ptr += row * scale_row
        store_quantized((x,), out_ptr + row * C, scale_ptr, scale_group, WIDTH, 1, GROUPS, PER_GROUP)
    else:
        tl.store(out_ptr + row * C + column, out, inside)
