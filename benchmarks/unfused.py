"""The operations as stock PyTorch has them, a kernel a step: an `Ops` without a kernel of our own.

What a good engineer writes without a kernel of their own (as `stock` does): SDPA, torch's grouped and row-wise FP8
products, torch.topk, caches gathered by index, casts apart. The yardstick of `kernels`, and where `ablation` begins.

Letters as in `kernels.ops`.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.stock import quantize_rows
from benchmarks.stock_qwen import beam_attention as attended_beams
from octorec.kernels import fused, reference, stock
from octorec.kernels.fp8 import GROUP, Granularity, Quantized
from octorec.kernels.ops import DEAD, Beams, NodeFilter, Operand, Routing, TrieLevel

check_device, check_sizes, check_beams = reference.check_device, reference.check_sizes, reference.check_beams
head, causal_attention = fused.head, fused.causal_attention  # each is one library call
rope, prefill_attention = stock.rope, stock.prefill_attention
log_norm = stock.log_norm
NEVER = float("-inf")


def maybe_quantize(x: Tensor, granularity: Granularity | None) -> Operand:
    """Quantize with a scale a `token`, or a `group` where groups are whole."""
    if granularity is None:
        return x
    assert granularity in ("token", "group")
    values, scale = quantize_rows(x.unflatten(-1, (-1, GROUP if granularity == "group" else x.shape[-1])))
    return Quantized(values.flatten(-2), scale.squeeze(-1), granularity, x.dtype)


def linear(x: Operand, weight: Operand, into: Tensor | None = None) -> Tensor:
    if isinstance(x, Quantized) and isinstance(weight, Quantized):
        scales = {"scale_a": x.scale, "scale_b": weight.scale.T}
        out = torch._scaled_mm(x.values, weight.values.T, **scales, out_dtype=x.dtype, use_fast_accum=True)
    else:
        assert isinstance(x, Tensor)
        assert isinstance(weight, Tensor)
        out = F.linear(x, weight)
    return out if into is None else into + out


def rms_norm(x: Tensor, weight: Tensor, eps: float, quantize_to: Granularity | None = None) -> Operand:
    return maybe_quantize(F.rms_norm(x, weight.shape, weight, eps), quantize_to)


def swiglu(gate_up: Tensor, quantize_to: Granularity | None) -> Operand:
    gate, up = gate_up.chunk(2, -1)
    return maybe_quantize(F.silu(gate) * up, quantize_to)


def cross_attention(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, quantize_to: Granularity | None
) -> Operand:
    """Attention over contexts that are all full, with a KV group a head: torch's fastest attention takes no mask."""
    assert q.shape[2] == keys.shape[2]
    out = F.scaled_dot_product_attention(q.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2))
    return maybe_quantize(out.transpose(1, 2).flatten(2).flatten(0, 1), quantize_to)


def self_attention(
    qkv: Tensor, past: list[Tensor], ancestors: list[Tensor], quantize_to: Granularity | None
) -> Operand:
    rows = torch.arange(len(qkv), device=qkv.device)[:, None]
    earlier = [level[rows, beam, 1:] for level, beam in zip(past, ancestors, strict=True)]  # [B, W, 2, H, D]
    k, v = torch.stack([*earlier, qkv[:, :, 1:]], 2).unbind(3)  # [B, W, positions, H, D]
    scores = (qkv[:, :, None, 0] * k).sum(-1, dtype=torch.float32) * qkv.shape[-1] ** -0.5
    out = (scores.softmax(2).to(qkv.dtype)[..., None] * v).sum(2)
    return maybe_quantize(out.flatten(2).flatten(0, 1), quantize_to)


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
    """Contexts of one length, which the host reads, are gathered for flash attention; others are not made faster."""
    if len({*lengths.tolist()}) > 1:
        return stock.beam_attention(q, k, v, past, ancestors, keys, values, first, lengths, quantize_to)
    at = first.long()[:, None] + torch.arange(int(lengths[0]), device=q.device)  # [B, S]
    rows = torch.arange(len(q), device=q.device)[:, None]
    earlier = [(left_k[rows, at], left_v[rows, at]) for (left_k, left_v), at in zip(past, ancestors, strict=True)]
    context = keys[at].transpose(1, 2), values[at].transpose(1, 2)  # [B, G, S, D]
    out = attended_beams(q, [*earlier, (k, v)], context)
    return maybe_quantize(out.flatten(0, 1), quantize_to)


def route(x: Tensor, gate: Tensor, bias: Tensor, top_k: int, n_shared: int) -> Routing:
    scores = F.linear(x, gate).float().sigmoid()
    chosen = (scores + bias).topk(top_k).indices
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(1, keepdim=True)
    shared = torch.arange(len(gate), len(gate) + n_shared, device=x.device).expand(len(x), -1)
    return Routing(torch.cat([chosen, shared], 1), torch.cat([weights, weights.new_ones(shared.shape)], 1))


def moe(
    x: Tensor,
    routing: Routing,
    gate_up: Operand,
    down: Operand,
    quantize_to: Granularity | None,
    into: Tensor | None = None,
) -> Tensor:
    """Experts in 16 bit, or in FP8 by `channel`: torch's grouped product takes no blocks on Hopper."""
    per_row, flat = routing.experts.shape[1], routing.experts.flatten()
    order = flat.argsort(stable=True)
    counts = torch.zeros(_experts(gate_up), dtype=torch.int32, device=x.device)
    ends = counts.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32)).cumsum(0, dtype=torch.int32)
    hidden = swiglu(_grouped(x[order // per_row], gate_up, ends), None)
    assert isinstance(hidden, Tensor)
    parts = _grouped(hidden, down, ends) * routing.weights.flatten()[order].to(x.dtype)[:, None]
    out = torch.zeros_like(parts)
    out[order] = parts
    out = out.view(len(x), per_row, -1).sum(1)
    return out if into is None else into + out


def _experts(weight: Operand) -> int:
    return len(weight.values if isinstance(weight, Quantized) else weight)


def _grouped(x: Tensor, weight: Operand, ends: Tensor) -> Tensor:
    """Rows x [P, K], expert by expert, times their expert's weight [E, N, K] transposed -> [P, N]."""
    if isinstance(weight, Tensor):
        return torch._grouped_mm(x, weight.mT, offs=ends)
    assert weight.granularity == "channel"
    values, scale = quantize_rows(x)
    scales = scale.squeeze(-1), weight.scale.squeeze(-1)
    weights = weight.values.mT
    return torch._scaled_grouped_mm(values, weights, *scales, offs=ends, out_dtype=x.dtype, use_fast_accum=True)


def beam_step(
    logits: Tensor,
    scores: Tensor,
    nodes: Tensor,
    level: TrieLevel,
    widths: Tensor,
    out_width: int,
    node_filter: NodeFilter | None = None,
    ranked: bool = False,
) -> Beams:
    """A mask of the beams' children, scattered code by code; equal totals may come in any order.

    It does not look for what it drops: `dropped` is inf, the bound that always holds.
    """
    dead = nodes == DEAD
    start = level.child_start[nodes.masked_fill(dead, 0)].long()  # [B, W]
    count = (level.child_start[nodes.masked_fill(dead, 0) + 1] - start).masked_fill(dead, 0)
    vocabulary = logits.shape[2]
    slot = start[..., None] + torch.arange(most_children(level.child_start, vocabulary), device=nodes.device)
    child = slot.clamp(max=len(level.child_code) - 1)
    ok = (slot < (start + count)[..., None]) & (level.child_live[child] > 0)
    if node_filter is not None:
        ok &= ~_forbidden(child, level, node_filter)
    codes = level.child_code[child].long()  # [B, W, children]
    mask = logits.new_full((*nodes.shape, vocabulary + 1), NEVER)  # the last column takes what is no child
    mask.scatter_(2, torch.where(ok, codes, vocabulary), torch.where(ok, 0.0, NEVER))
    total = (F.log_softmax(logits, -1) + scores[..., None] + mask[..., :vocabulary]).flatten(1)
    best = total.topk(min(out_width, total.shape[1]))
    rank = torch.arange(best.values.shape[1], device=nodes.device)
    gone = (rank >= widths[:, None]) | (best.values == NEVER)
    index = best.indices.masked_fill(gone, total.shape[1])
    order = rank.expand_as(index) if ranked else index.argsort(dim=1)  # the last level by score
    return _beams(best.values, index, order, codes, child, ok, vocabulary, out_width)


def _beams(
    values: Tensor, index: Tensor, order: Tensor, codes: Tensor, child: Tensor, ok: Tensor, vocabulary: int, width: int
) -> Beams:
    """The chosen flat indices [B, w], dead ones beyond the last, in `order`, as beams [B, width]."""
    rows = torch.arange(len(index), device=index.device)[:, None]
    index, values = index.gather(1, order), values.gather(1, order)
    gone = index == ok.shape[1] * vocabulary
    index = index.masked_fill(gone, 0)
    parents, chosen = index // vocabulary, index % vocabulary
    place = ((codes[rows, parents] == chosen[..., None]) & ok[rows, parents]).int().argmax(-1, keepdim=True)
    nodes = child[rows, parents].gather(2, place).squeeze(2)
    found = (values.masked_fill(gone, NEVER), nodes.masked_fill(gone, DEAD), parents, chosen)
    missing = width - index.shape[1]
    padded = [F.pad(t, (0, missing), value=v) for t, v in zip(found, (NEVER, DEAD, 0, 0), strict=True)]
    scores, nodes, parents, codes = padded
    return Beams(scores, nodes, parents, codes, values.new_full((len(values),), float("inf")))


def _forbidden(child: Tensor, level: TrieLevel, node_filter: NodeFilter) -> Tensor:
    """Which of the children [B, W, children] the requests' exclusions and allow-lists forbid."""
    place = torch.arange(len(node_filter.banned), device=child.device)
    request = torch.searchsorted(node_filter.first, place, right=True) - 1
    banned = (request * 2**32 + node_filter.banned).sort().values  # by request, then node
    keys = torch.arange(len(child), device=child.device)[:, None, None] * 2**32 + child
    at = torch.searchsorted(banned, keys.flatten()).clamp(max=len(banned) - 1)
    forbidden = (banned[at] == keys.flatten()).view_as(child)
    if level.child_sets is not None:
        allowed = (level.child_sets[child] & node_filter.allowed_sets[:, None, None]).ne(0).any(-1)
        forbidden |= ~allowed & node_filter.restricted[:, None, None]
    return forbidden


@lru_cache(maxsize=8)
def most_children(child_start: Tensor, vocabulary: int) -> int:
    """The most children of any node; cached, as it waits for the device. Longer steps are the room between two sets."""
    counts = child_start.diff()
    return int(counts[counts <= vocabulary].max())
