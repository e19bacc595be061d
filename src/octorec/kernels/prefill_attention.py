# mypy: allow-untyped-defs
"""Tokens of prompts attend to themselves and those before them, of packed prompts of any lengths, in one launch.

A program finds its request and its rows by the spans, which it reads on the device: the grid depends on room alone. The
longest rows of a request come first, as they take longest. Only tiles on the diagonal are masked.

A tile of keys has one size, and tiles begin with the context: so a token's bits depend neither on its neighbours nor on
how many tokens of its prompt are new.

On cards with warp groups `prefill_attention_hopper` serves heads of 128, unless a tiling is asked for.

Letters: T rows of q, R rows of the pool, B requests, H heads, G KV groups, D head width, C = H * D.
"""

import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.attend import attend, check_attention, empty_result, finished, store_heads
from octorec.kernels.device import card_of
from octorec.kernels.fp8 import Granularity
from octorec.kernels.ops import Operand, Spans
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.products import Tiling


def prefill_attention(
    q: Tensor, keys: Tensor, values: Tensor, spans: Spans, quantize_to: Granularity | None, tiling: Tiling | None = None
) -> Operand:
    """Compute `Ops.prefill_attention`: q [T, H, D], keys and values [R, G, D] -> [T, C].

    Contiguous, of one 16-bit type; D as `attend` takes it. Rows of padding are zeros. One launch; by `group` with D =
    128 it quantizes too, else a second one does.
    """
    rows, heads, width = q.shape
    groups, batch = keys.shape[1], len(spans.lengths)
    check_attention(q, keys, values)
    assert all(each.is_contiguous() for each in spans)
    out, written, scale, fused = empty_result(q, rows, quantize_to)
    card = card_of(q.device)
    if tiling is None and width == 128 and card.warp_groups:
        from octorec.kernels.prefill_attention_hopper import prefill_attention_hopper

        prefill_attention_hopper(q, keys, values, spans, written, scale, fused)
        return finished(out, quantize_to)
    tiling = tiling or card.attention
    tiles = triton.cdiv(rows, tiling.rows) + batch + 1  # of each request, and of padding, the last one may be short
    _prefill_attention[(heads, tiles)](
        q_ptr=q, keys_ptr=keys, values_ptr=values, queries_ptr=spans.queries, first_ptr=spans.first,
        lengths_ptr=spans.lengths, out_ptr=written, scale_ptr=scale, T=rows, B=batch,
        softmax_scale=width**-0.5 * 1.4426950408889634,  # exp(x) = exp2(x * log2(e))
        scale_row=scale.stride(0), scale_group=scale.stride(1), H=heads, G=groups, D=width,
        MOST=triton.next_power_of_2(batch), ROWS=tiling.rows, ITEMS=tiling.items, QUANTIZE=fused,
        launch_pdl=overlaps(q.device, rows), num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    return finished(out, quantize_to)


@triton.jit
def _prefill_attention(
    q_ptr, keys_ptr, values_ptr, queries_ptr, first_ptr, lengths_ptr, out_ptr, scale_ptr, T, B,
    softmax_scale, scale_row, scale_group,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, MOST: tl.constexpr,
    ROWS: tl.constexpr, ITEMS: tl.constexpr, QUANTIZE: tl.constexpr,
):  # fmt: skip
    """Attend with ROWS tokens of one request and one head in each program."""
    wait_for_inputs()
    head = tl.program_id(0)
    request, begin, end = _place(tl.program_id(1), queries_ptr, T, B, MOST, ROWS)
    row = begin + tl.arange(0, ROWS)
    column = tl.arange(0, D)[None, :]
    inside = (row < end)[:, None]
    at = (row.to(tl.int64) * H + head)[:, None] * D + column
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    out = tl.zeros((ROWS, D), tl.float32)
    if request < B:
        q = tl.load(q_ptr + at, inside, other=0.0)
        length = tl.load(lengths_ptr + request).to(tl.int32)
        before = length - (tl.load(queries_ptr + request + 1).to(tl.int32) - begin)  # tokens before the first row's
        group = head * G // H
        context = (tl.load(first_ptr + request).to(tl.int64) * G + group) * D
        tile = tl.arange(0, ITEMS)[:, None] * (G * D) + column
        keys_ptr += context
        values_ptr += context
        full = (before + 1) // ITEMS * ITEMS  # what every row sees
        for item in range(0, full, ITEMS):
            skip = item * (G * D)
            top, total, out = attend(
                q, keys_ptr + skip + tile, values_ptr + skip + tile, ITEMS, ITEMS, softmax_scale, top, total, out,
                ITEMS, False, False,
            )  # fmt: skip
        seen = (before + 1 + tl.arange(0, ROWS))[:, None]  # tokens that a row sees
        for item in tl.range(full, before + end - begin, ITEMS, num_stages=1):
            skip = item * (G * D)
            top, total, out = attend(
                q, keys_ptr + skip + tile, values_ptr + skip + tile, length - item, seen - item, softmax_scale, top,
                total, out, ITEMS, False, True,
            )  # fmt: skip
    else:
        total += 1
    store_heads(
        out / total[:, None], at, row[:, None], head, inside, out_ptr, scale_ptr, scale_row, scale_group,
        q_ptr.dtype.element_ty, QUANTIZE,
    )  # fmt: skip


@triton.jit
def _place(tile, queries_ptr, T, B, MOST: tl.constexpr, ROWS: tl.constexpr):
    """Return the request of a tile of rows, its first row, and the one behind its last.

    Rows behind all requests' are those of a request B. Beyond the tiles there are the two rows are the same.
    """
    each = tl.arange(0, MOST)
    start = tl.load(queries_ptr + each, each < B, other=0).to(tl.int32)
    stop = tl.load(queries_ptr + each + 1, each < B, other=0).to(tl.int32)
    tiles = (stop - start + ROWS - 1) // ROWS
    behind = tl.cumsum(tiles, 0)  # tiles up to a request's last
    request = tl.sum((behind <= tile).to(tl.int32) * (each < B).to(tl.int32), 0)
    mine = each == request
    if request < B:
        begin = tl.sum(tl.where(mine, start, 0), 0)
        end = tl.sum(tl.where(mine, stop, 0), 0)
        begin += (tl.sum(tl.where(mine, behind, 0), 0) - 1 - tile) * ROWS  # the last tile first
    else:
        end = T
        begin = tl.max(stop, 0) + (tile - tl.max(behind, 0)) * ROWS
    return request, begin, tl.minimum(end, begin + ROWS)
