"""Operations of language models as stock PyTorch computes them, with static shapes and without waiting for the host.

They are what a CUDA graph can hold; `fused`, `training.gpu_ops` and `benchmarks.unfused` import them. The scores
of a batch's beams are in memory all at once.

Letters as in `kernels.ops`; R = H / G heads a group.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels import reference
from octorec.kernels.fp8 import Granularity
from octorec.kernels.ops import Operand

rope = reference.rope


def prefill_attention(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, quantize_to: Granularity | None
) -> Operand:
    """Padding comes after all that counts, so that the causal mask alone hides it from every other row."""
    q, keys, values = (t.transpose(1, 2) for t in (q, keys, values))  # [B, H or G, S, D]
    out = F.scaled_dot_product_attention(q, keys, values, is_causal=True, enable_gqa=q.shape[1] != keys.shape[1])
    return reference.maybe_quantize(out.transpose(1, 2).flatten(2).flatten(0, 1), quantize_to)


def beam_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    past: list[tuple[Tensor, Tensor]],
    ancestors: list[Tensor],
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    quantize_to: Granularity | None,
) -> Operand:
    """Heads of a group are rows of one product over its context; the two softmaxes share their maximum and sum."""
    batch, beams, _, width = q.shape
    groups = keys.shape[2]
    rows = torch.arange(batch, device=q.device)[:, None]
    earlier = [(left_k[rows, at], left_v[rows, at]) for (left_k, left_v), at in zip(past, ancestors, strict=True)]
    own_k, own_v = (torch.stack(t, 3).float() for t in zip(*earlier, (k, v), strict=True))  # [B, W, G, positions, D]
    mine = q.float().unflatten(2, (groups, -1)) * width**-0.5  # [B, W, G, R, D]
    near = mine @ own_k.mT  # [B, W, G, R, positions]
    by_group = mine.permute(0, 2, 1, 3, 4).flatten(2, 3)  # [B, G, W*R, D]
    far = by_group @ keys.float().permute(0, 2, 3, 1)  # [B, G, W*R, S]
    outside = torch.arange(keys.shape[1], device=q.device) >= lengths[:, None]  # [B, S]
    far = far.masked_fill(outside[:, None, None], float("-inf"))
    top = torch.maximum(far.amax(-1, keepdim=True), _by_group(near.amax(-1, keepdim=True)))  # [B, G, W*R, 1]
    far, near = (far - top).exp(), (near - _by_beam(top, beams)).exp()
    total = far.sum(-1, keepdim=True) + _by_group(near.sum(-1, keepdim=True))
    out = (far @ values.float().transpose(1, 2) + _by_group(near @ own_v)) / total  # [B, G, W*R, D]
    return reference.maybe_quantize(_by_beam(out, beams).flatten(2).flatten(0, 1).to(q.dtype), quantize_to)


def _by_group(x: Tensor) -> Tensor:
    """Turn [B, W, G, R, n] into [B, G, W*R, n]."""
    return x.transpose(1, 2).flatten(2, 3)


def _by_beam(x: Tensor, beams: int) -> Tensor:
    """Turn [B, G, W*R, n] into [B, W, G, R, n]."""
    return x.unflatten(2, (beams, -1)).transpose(1, 2)
