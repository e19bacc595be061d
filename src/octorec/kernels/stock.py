"""Operations of language models as stock PyTorch computes them.

`training.gpu_ops` and `benchmarks.unfused` take them, and `fused` some. All but `prefill_attention` have static shapes
and do not wait for the host: a CUDA graph can hold them. The scores of a batch's beams are in memory all at once.

Letters as in `kernels.ops`, but R = H / G heads a group.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels import reference
from octorec.kernels.fp8 import Granularity
from octorec.kernels.ops import Operand, Spans

rope = reference.rope


def prefill_attention(
    q: Tensor, keys: Tensor, values: Tensor, spans: Spans, quantize_to: Granularity | None
) -> Operand:
    """Requests are computed one by one; where each lies is read on the host."""
    out, queries = torch.zeros_like(q), spans.queries.tolist()
    for begin, end, first, length in zip(
        queries, queries[1:], spans.first.tolist(), spans.lengths.tolist(), strict=False
    ):
        of = (q[begin:end], keys[first : first + length], values[first : first + length])
        mine, k, v = (t.transpose(0, 1)[None] for t in of)  # [1, H or G, tokens, D]
        gqa, fresh = mine.shape[1] != k.shape[1], end - begin == length
        seen = None if fresh else torch.ones(end - begin, length, dtype=torch.bool, device=q.device)
        seen = seen if seen is None else seen.tril(length - (end - begin))
        found = F.scaled_dot_product_attention(mine, k, v, seen, is_causal=fresh, enable_gqa=gqa)
        out[begin:end] = found[0].transpose(0, 1)
    return reference.maybe_quantize(out.flatten(1), quantize_to)


def flash_attention(q: Tensor, keys: Tensor, values: Tensor, spans: Spans, quantize_to: Granularity | None) -> Operand:
    """Compute `prefill_attention` of all requests in one call of FlashAttention as torch has it, on a GPU.

    The longest of requests and contexts are read on the host. Rows of padding are not written.
    """
    most = int(spans.queries.diff().max()), int(spans.lengths.max())
    start = F.pad(spans.first, (0, 1))  # nobody reads the last one: how long contexts are is said apart
    out = torch.ops.aten._flash_attention_forward(
        q, keys, values, spans.queries, start, *most, 0.0, True, False, seqused_k=spans.lengths
    )[0]
    return reference.maybe_quantize(out.flatten(1), quantize_to)


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
) -> Operand:
    """Heads of a group are rows of one product over the whole pool; the two softmaxes share their maximum and sum."""
    batch, beams, _, width = q.shape
    groups = keys.shape[1]
    rows = torch.arange(batch, device=q.device)[:, None]
    earlier = [(left_k[rows, at], left_v[rows, at]) for (left_k, left_v), at in zip(past, ancestors, strict=True)]
    own_k, own_v = (torch.stack(t, 3).float() for t in zip(*earlier, (k, v), strict=True))  # [B, W, G, positions, D]
    mine = q.float().unflatten(2, (groups, -1)) * width**-0.5  # [B, W, G, R, D]
    near = mine @ own_k.mT  # [B, W, G, R, positions]
    by_group = mine.permute(0, 2, 1, 3, 4).flatten(2, 3)  # [B, G, W*R, D]
    far = by_group @ keys.float().permute(1, 2, 0)  # [B, G, W*R, rows of the pool]
    row = torch.arange(len(keys), device=q.device)
    outside = (row < first[:, None]) | (row >= (first + lengths)[:, None])
    far = far.masked_fill(outside[:, None, None], float("-inf"))
    top = torch.maximum(far.amax(-1, keepdim=True), _by_group(near.amax(-1, keepdim=True)))  # [B, G, W*R, 1]
    far, near = (far - top).exp(), (near - _by_beam(top, beams)).exp()
    total = far.sum(-1, keepdim=True) + _by_group(near.sum(-1, keepdim=True))
    out = (far @ values.float().transpose(0, 1) + _by_group(near @ own_v)) / total  # [B, G, W*R, D]
    return reference.maybe_quantize(_by_beam(out, beams).flatten(2).flatten(0, 1).to(q.dtype), quantize_to)


def head(x: Tensor, weight: Tensor) -> Tensor:
    """Compute the logits: cuBLAS multiplies 16 bit into float32 in one call; elsewhere the reference does."""
    if x.is_cuda and x.dtype != torch.float32:
        return torch.mm(x, weight.T, out_dtype=torch.float32)
    return reference.head(x, weight)


def log_norm(x: Tensor, weight: Tensor) -> Tensor:
    """Logits of a piece of the vocabulary are there at a time."""
    pieces = weight.split(reference.VOCABULARY_PIECE)
    return torch.stack([head(x, rows).logsumexp(-1) for rows in pieces], -1).logsumexp(-1)


def _by_group(x: Tensor) -> Tensor:
    """Turn [B, W, G, R, n] into [B, G, W*R, n]."""
    return x.transpose(1, 2).flatten(2, 3)


def _by_beam(x: Tensor, beams: int) -> Tensor:
    """Turn [B, G, W*R, n] into [B, W, G, R, n]."""
    return x.unflatten(2, (beams, -1)).transpose(1, 2)
