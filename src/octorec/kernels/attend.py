# mypy: allow-untyped-defs
"""One step of attention serves all attention kernels: a tile of a context comes into a running softmax.

Scores and sums are float32, both products run on the tensor cores, and weights are rounded to 16 bit before the second.
Letters: D head width; ROWS x ITEMS a tile's queries and keys.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels.cast import empty_quantized, to_e4m3
from octorec.kernels.fp8 import GROUP, Granularity, Quantized
from octorec.kernels.maybe_quantize import quantize
from octorec.kernels.ops import Operand

HEAD_WIDTHS = (16, 32, 64, 128)


def check_head_width(width: int) -> None:
    """Refuse heads that no tile of the attention kernels holds."""
    if width not in HEAD_WIDTHS:
        raise InputError("d_head", width, f"the attention kernels take {', '.join(map(str, HEAD_WIDTHS))}")


def check_attention(q: Tensor, *others: Tensor) -> None:
    """Refuse widths of heads and types that the attention kernels do not take: q [..., H, D], and what it meets."""
    check_head_width(q.shape[-1])
    if q.dtype not in (torch.bfloat16, torch.float16):
        raise InputError("dtype", q.dtype, "attention takes bfloat16 or float16")
    for each in others:
        assert each.dtype == q.dtype
        assert q.shape[-2] % each.shape[-2] == 0
    assert all(each.is_contiguous() for each in (q, *others))


def empty_result(q: Tensor, rows: int, quantize_to: Granularity | None) -> tuple[Operand, Tensor, Tensor, bool]:
    """Return a result [rows, H * D] for q [..., H, D]; what the kernel writes of it, with scales; whether it quantizes.

    It does by `group`, where a head is one; else what it writes is in q's type, and a second launch quantizes.
    """
    heads, width = q.shape[-2:]
    if quantize_to == "group" and width == GROUP:
        out = empty_quantized((rows, heads * width), "group", q.dtype, q.device)
        return out, out.values, out.scale, True
    plain = torch.empty(rows, heads * width, dtype=q.dtype, device=q.device)
    return plain, plain, plain, False


def finished(out: Operand, quantize_to: Granularity | None) -> Operand:
    """Quantize what the kernel left in 16 bit."""
    return out if isinstance(out, Quantized) or quantize_to is None else quantize(out, quantize_to)


@triton.jit
def attend(
    q, keys_ptr, values_ptr, count, seen, scale, top, total, out,
    ITEMS: tl.constexpr, SHARED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Take a tile of `count` items into the running maximum [ROWS], sum [ROWS] and output [ROWS, D].

    seen: how many of the tile's items a row sees: a number, or [ROWS, 1]. Without MASKED it sees all. A row that sees
    none must have seen some before. SHARED: keys are values.
    """
    item = tl.arange(0, ITEMS)
    keys = tl.load(keys_ptr, (item < count)[:, None], other=0.0) if MASKED else tl.load(keys_ptr)
    scores = tl.dot(q, keys.T)  # [ROWS, ITEMS]
    if MASKED:
        scores = tl.where(item[None, :] < seen, scores, float("-inf"))
    higher = tl.maximum(top, tl.max(scores, 1) * scale)
    weights = tl.exp2(scores * scale - higher[:, None])
    shrink = tl.exp2(top - higher)
    total = total * shrink + tl.sum(weights, 1)
    if SHARED:
        values = keys
    elif MASKED:
        values = tl.load(values_ptr, (item < count)[:, None], other=0.0)
    else:
        values = tl.load(values_ptr)
    out = tl.dot(weights.to(values.dtype), values, out * shrink[:, None])
    return higher, total, out


@triton.jit
def store_heads(x, at, row, head, inside, out_ptr, scale_ptr, scale_row, scale_group, KIND, QUANTIZE: tl.constexpr):
    """Write float32 x [ROWS, D], a head a row, to `at`: rounded to KIND, and then by group with QUANTIZE.

    row, head, inside: [ROWS, 1], or a number.
    """
    x = x.to(KIND)
    if QUANTIZE:
        x = x.to(tl.float32)
        absmax = tl.max(tl.abs(x), 1, keep_dims=True)
        values, group_scale = to_e4m3(x, absmax)
        tl.store(out_ptr + at, values, inside)
        tl.store(scale_ptr + row * scale_row + head * scale_group, group_scale, inside)
    else:
        tl.store(out_ptr + at, x, inside)
