# mypy: allow-untyped-defs
"""Each beam attends over its request's context, its own earlier positions and itself, in one softmax.

A group's heads of all of a request's beams are the rows of matrix products with its one context, which is read once a
tile of rows. A row's own positions are few, and differ from row to row: they come first, as sums of products.

At 8 requests of 1,000 tokens, 256 beams and 16 heads that is 17 GFLOP a layer on 16 MB: bound by the tensor cores.

A tile of the context has one size whatever the batch, and the rows of a program no effect on a row's bits.

Letters: B requests, W beams, H heads, G KV groups, D head width, P earlier positions, C = H * D.
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


def beam_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    past: list[tuple[Tensor, Tensor]],
    ancestors: list[Tensor],
    keys: Tensor,
    values: Tensor,
    first: Tensor,
    lengths: Tensor,
    quantize_to: Granularity | None,
    tiling: Tiling | None = None,
) -> Operand:
    """Compute `Ops.beam_attention`: q [B, W, H, D], k and v [B, W, G, D], keys and values [R, G, D] -> [B*W, C].

    Contiguous, of one 16-bit type; D as `attend` takes it. first and lengths are read on the device, and rows of the
    pool that belong to no request never. One launch; by `group` with D = 128 it quantizes too, else a second one does.
    """
    batch, beams, heads, width = q.shape
    groups = keys.shape[1]
    check_attention(q, k, v, keys, values, *(each for pair in past for each in pair))
    assert all(each.is_contiguous() for each in (first, lengths, *ancestors))
    out, written, scale, fused = empty_result(q, batch * beams, quantize_to)
    tiling = tiling or card_of(q.device).attention
    tiles = triton.cdiv(beams * (heads // groups), tiling.rows)
    _beam_attention[(tiles, groups, batch)](
        q_ptr=q, k_ptrs=(*(left for left, _ in past), k), v_ptrs=(*(left for _, left in past), v),
        ancestor_ptrs=tuple(ancestors), widths=tuple(left.shape[1] for left, _ in past),
        keys_ptr=keys, values_ptr=values, first_ptr=first, lengths_ptr=lengths, out_ptr=written, scale_ptr=scale,
        W=beams, softmax_scale=width**-0.5 * 1.4426950408889634,  # exp(x) = exp2(x * log2(e))
        scale_row=scale.stride(0), scale_group=scale.stride(1), HEADS=heads // groups, G=groups, D=width, P=len(past),
        ROWS=tiling.rows, ITEMS=tiling.items, QUANTIZE=fused, launch_pdl=overlaps(q.device, batch * beams),
        num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    return finished(out, quantize_to)


@triton.jit
def _beam_attention(
    q_ptr, k_ptrs, v_ptrs, ancestor_ptrs, widths, keys_ptr, values_ptr, first_ptr, lengths_ptr, out_ptr, scale_ptr,
    W, softmax_scale, scale_row, scale_group,
    HEADS: tl.constexpr, G: tl.constexpr, D: tl.constexpr, P: tl.constexpr,
    ROWS: tl.constexpr, ITEMS: tl.constexpr, QUANTIZE: tl.constexpr,
):  # fmt: skip
    """Attend with ROWS pairs of a beam and one of a group's HEADS heads, of one request, in each program."""
    wait_for_inputs()
    group, request = tl.program_id(1), tl.program_id(2).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    beam, head = row // HEADS, group * HEADS + row % HEADS
    inside = beam < W
    column = tl.arange(0, D)[None, :]
    at = ((request * W + beam) * (G * HEADS) + head)[:, None] * D + column
    q = tl.load(q_ptr + at, inside[:, None], other=0.0)
    top, total, out = _own(
        q, k_ptrs, v_ptrs, ancestor_ptrs, widths, request, beam, inside, group, W, softmax_scale, G, D, P
    )
    tile = tl.arange(0, ITEMS)[:, None] * (G * D) + column
    context = (tl.load(first_ptr + request).to(tl.int64) * G + group) * D
    keys_ptr += context
    values_ptr += context
    length = tl.load(lengths_ptr + request).to(tl.int32)
    full = length // ITEMS * ITEMS
    for item in range(0, full, ITEMS):
        skip = item * (G * D)
        top, total, out = attend(
            q, keys_ptr + skip + tile, values_ptr + skip + tile, ITEMS, ITEMS, softmax_scale, top, total, out,
            ITEMS, False, False,
        )  # fmt: skip
    if full < length:
        skip = full * (G * D)
        top, total, out = attend(
            q, keys_ptr + skip + tile, values_ptr + skip + tile, length - full, length - full, softmax_scale, top,
            total, out, ITEMS, False, True,
        )  # fmt: skip
    store_heads(
        out / total[:, None], at, (request * W + beam)[:, None], head[:, None], inside[:, None], out_ptr, scale_ptr,
        scale_row, scale_group, q_ptr.dtype.element_ty, QUANTIZE,
    )  # fmt: skip


@triton.jit
def _own(
    q, k_ptrs, v_ptrs, ancestor_ptrs, widths, request, beam, inside, group, W, softmax_scale,
    G: tl.constexpr, D: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Attend over rows' own positions: return the maximum and the sum [ROWS] of a softmax, and its output [ROWS, D].

    k_ptrs, v_ptrs: those of P earlier positions, and of this one.
    """
    column = tl.arange(0, D)[None, :]
    mine = (request * W + beam).to(tl.int64)
    q = q.to(tl.float32) * softmax_scale
    places = ()
    for p in tl.static_range(P):
        ancestor = tl.load(ancestor_ptrs[p] + mine, inside, other=0).to(tl.int64)
        places += (((request * widths[p] + ancestor) * G + group)[:, None] * D + column,)  # type: ignore[assignment]
    places += ((mine * G + group)[:, None] * D + column,)  # type: ignore[assignment]
    scores = ()
    for p in tl.static_range(P + 1):
        k = tl.load(k_ptrs[p] + places[p], inside[:, None], other=0.0)
        scores += (tl.sum(q * k.to(tl.float32), 1),)  # type: ignore[assignment]
    top = scores[0]  # type: ignore[misc]
    for p in tl.static_range(P):
        top = tl.maximum(top, scores[p + 1])
    total = tl.zeros_like(top)
    out = tl.zeros_like(q)
    for p in tl.static_range(P + 1):
        weight = tl.exp2(scores[p] - top)
        total += weight
        out += weight[:, None] * tl.load(v_ptrs[p] + places[p], inside[:, None], other=0.0).to(tl.float32)
    return top, total, out
