# mypy: allow-untyped-defs
"""Attend with a request's beams over its one context: the beams are the rows of a matrix product.

Online softmax over tiles of the context, scores and sums in float32, both products on the tensor cores. Where keys are
values (S_kv = 1) a tile is read once and serves both products. Tiles have one size whatever the batch, and a row's
result does not depend on the rows beside it.

On cards with warp groups, heads of 128 whose keys are values take `cross_attention_hopper`, unless a tiling is given.

At the model's shape that is 4 * T * S * C operations on 4 * T * C bytes and a small context: bound by the tensor cores.

Letters: B requests, W beams, T = B * W rows, S context items, H heads, G KV groups, D head width, C = H * D.
"""

import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.attend import attend, check_attention, empty_result, finished, store_heads
from octorec.kernels.device import card_of
from octorec.kernels.fp8 import Granularity
from octorec.kernels.ops import Operand
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.products import Tiling


def cross_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    quantize_to: Granularity | None,
    tiling: Tiling | None = None,
) -> Operand:
    """Compute `Ops.cross_attention`: q [B, W, H, D], keys and values [B, S, G, D], lengths [B] in 1..S -> [B*W, C].

    Contiguous, of one 16-bit type; D as `self_attention` takes it. Keys that are values (the same tensor) are read
    once. Lengths are read on the device, and items beyond them never.
    Weights are rounded to the 16-bit type before the second product. One launch, a program for each tile of rows, head
    and request; by `group` with D = 128 it quantizes too, else a second launch does.
    """
    batch, beams, heads, width = q.shape
    groups = keys.shape[2]
    check_attention(q, keys, values)
    out, written, scale, fused = empty_result(q, batch * beams, quantize_to)
    card = card_of(q.device)
    if tiling is None and keys is values and width == 128 and card.warp_groups:
        from octorec.kernels.cross_attention_hopper import cross_attention_hopper

        cross_attention_hopper(q, keys, lengths, written, scale, fused)
    else:
        tiling = tiling or card.attention
        _cross_attention[(triton.cdiv(beams, tiling.rows), heads, batch)](
            q_ptr=q, keys_ptr=keys, values_ptr=values, lengths_ptr=lengths, out_ptr=written, scale_ptr=scale,
            W=beams, S=keys.shape[1], H=heads, G=groups, softmax_scale=width**-0.5,
            scale_row=scale.stride(0), scale_group=scale.stride(1),
            D=width, ROWS=tiling.rows, ITEMS=tiling.items, SHARED=keys is values,
            QUANTIZE=fused, launch_pdl=overlaps(q.device, batch * beams),
            num_warps=tiling.warps, num_stages=tiling.stages,
        )  # fmt: skip
    return finished(out, quantize_to)


@triton.jit
def _cross_attention(
    q_ptr, keys_ptr, values_ptr, lengths_ptr, out_ptr, scale_ptr, W, S, H, G, softmax_scale, scale_row, scale_group,
    D: tl.constexpr, ROWS: tl.constexpr, ITEMS: tl.constexpr, SHARED: tl.constexpr, QUANTIZE: tl.constexpr,
):  # fmt: skip
    """Attend with ROWS beams of a request and one head in each program."""
    wait_for_inputs()
    head, request = tl.program_id(1), tl.program_id(2).to(tl.int64)
    beam = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (beam < W)[:, None]
    at = ((request * W + beam) * H + head)[:, None] * D + tl.arange(0, D)[None, :]
    q = tl.load(q_ptr + at, inside, other=0.0)
    tile = tl.arange(0, ITEMS)[:, None] * (G * D) + tl.arange(0, D)[None, :]
    context = request * S * G * D + head * G // H * D
    keys_ptr += context + tile
    values_ptr += context + tile
    length = tl.load(lengths_ptr + request).to(tl.int32)

    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    out = tl.zeros((ROWS, D), tl.float32)
    scale = softmax_scale * 1.4426950408889634  # exp(x) = exp2(x * log2(e))
    full = length // ITEMS * ITEMS
    if full < length:  # first, so that it is read together with q
        top, total, out = attend(
            q, keys_ptr + full * (G * D), values_ptr + full * (G * D), length - full, length - full, scale, top, total,
            out, ITEMS, SHARED, True,
        )  # fmt: skip
    for first in range(0, full, ITEMS):
        top, total, out = attend(
            q, keys_ptr + first * (G * D), values_ptr + first * (G * D), ITEMS, ITEMS, scale, top, total, out,
            ITEMS, SHARED, False,
        )  # fmt: skip
    row = (request * W + beam)[:, None]
    store_heads(
        out / total[:, None], at, row, head, inside, out_ptr, scale_ptr, scale_row, scale_group,
        q_ptr.dtype.element_ty, QUANTIZE,
    )  # fmt: skip
