"""Every operation is here in plain PyTorch, as `Ops` says; the kernels are tested against these.

On a CPU a row's result does not depend on the rows beside it: every product and sigmoid is one of `kernels.steady`.
Letters as in `kernels.ops`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels import fp8, steady
from octorec.kernels.fp8 import Granularity, Quantized, dequantize, quantize
from octorec.kernels.ops import DEAD, Beams, Kept, NodeFilter, Operand, Routing, Sizes, Spans, TrieLevel

VOCABULARY_PIECE = 2**14  # rows of a vocabulary whose logits are there at a time


def check_device(device: torch.device) -> None:
    """The references run on every device."""


def check_sizes(sizes: Sizes) -> None:
    """The references take every size."""


def check_beams(beams: int, vocabulary: int, out_width: int) -> None:
    """The references take every number of beams."""


def linear(x: Operand, weight: Operand, into: Tensor | None = None) -> Tensor:
    """Operands are multiplied in float32; the sum with `into` is rounded once."""
    if isinstance(x, Quantized):
        assert isinstance(weight, Quantized), "an FP8 input needs an FP8 weight"
        out = steady.product(dequantize(x), dequantize(weight))
        return (out if into is None else out + into.float()).to(x.dtype)
    assert isinstance(weight, Tensor), "an FP8 weight needs an FP8 input"
    return steady.product(x, weight, into)


def head(x: Tensor, weight: Tensor) -> Tensor:
    """Both operands are multiplied in float32."""
    return steady.product(x.float(), weight.float())


def rms_norm(x: Tensor, weight: Tensor, eps: float, quantize_to: Granularity | None = None) -> Operand:
    """The factor of a row comes first, then the weight, then the rounding."""
    x32 = x.float()
    mean = x32.square().mean(-1, keepdim=True)
    factor = torch.rsqrt(mean + eps).masked_fill(mean == math.inf, math.nan)
    normed = x32 * factor * weight.float()
    return maybe_quantize(normed.to(x.dtype), quantize_to)


def swiglu(gate_up: Tensor, quantize_to: Granularity | None) -> Operand:
    """SiLU and the product are computed in float32."""
    gate, up = gate_up.float().chunk(2, -1)
    return maybe_quantize((steady.silu(gate) * up).to(gate_up.dtype), quantize_to)


def cross_attention(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, quantize_to: Granularity | None
) -> Operand:
    """Keys and values are repeated for each head of a group; items beyond a length weigh nothing."""
    heads, groups, width = q.shape[2], keys.shape[2], q.shape[3]
    keys, values = (t.repeat_interleave(heads // groups, 2).transpose(1, 2) for t in (keys, values))  # [B, H, S, D]
    outside = torch.arange(keys.shape[2], device=q.device) >= lengths[:, None]  # [B, S]
    scores = steady.product(q.transpose(1, 2).float(), keys.float()) * width**-0.5  # [B, H, W, S]
    weights = scores.masked_fill(outside[:, None, None], float("-inf")).softmax(-1)
    out = steady.product(weights, values.float().mT).to(q.dtype)
    return maybe_quantize(out.transpose(1, 2).flatten(2).flatten(0, 1), quantize_to)


def self_attention(
    qkv: Tensor, past: list[Tensor], ancestors: list[Tensor], quantize_to: Granularity | None
) -> Operand:
    """Keys and values are gathered by ancestors, and softmax runs over positions."""
    q, k, v = (t[:, :, None].float() for t in qkv.unbind(2))  # [B, W, 1, H, D]
    rows = torch.arange(qkv.shape[0], device=qkv.device)[:, None]
    earlier = [level[rows, index].float() for level, index in zip(past, ancestors, strict=True)]  # [B, W, 3, H, D]
    k = torch.cat([level[:, :, None, 1] for level in earlier] + [k], 2)  # [B, W, positions, H, D]
    v = torch.cat([level[:, :, None, 2] for level in earlier] + [v], 2)
    weights = ((q * k).sum(-1, keepdim=True) * q.shape[-1] ** -0.5).softmax(2)
    out = (weights * v).sum(2).to(qkv.dtype)
    return maybe_quantize(out.flatten(2).flatten(0, 1), quantize_to)


def causal_attention(qkv: Tensor) -> Tensor:
    """Attend by torch's own `scaled_dot_product_attention`."""
    q, k, v = (t.transpose(1, 2) for t in qkv.unbind(2))  # [B, H, L, D]
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return out.transpose(1, 2).flatten(2).flatten(0, 1)


def rope(
    qkv: Tensor,
    turns: Tensor,
    positions: Tensor,
    heads: int,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    kept: Kept | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """A head's norm stays in float32 until the head has turned."""
    groups = (qkv.shape[1] // turns.shape[1] - heads) // 2
    q, k, v = qkv.unflatten(1, (-1, turns.shape[1])).split([heads, groups, groups], 1)  # [T, heads, D]
    cos, sin = turns[positions][:, None].chunk(2, -1)  # [T, 1, D / 2]
    turned = []
    for x, norm in zip((q, k), norms or (None, None), strict=True):
        x32 = x.float() if norm is None else rms_norm(x.float(), norm, eps)
        assert isinstance(x32, Tensor)
        first, second = x32.chunk(2, -1)
        turned.append(torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(qkv.dtype))
    if kept is None:
        return turned[0], turned[1], v.contiguous()
    return turned[0], kept.keys.index_copy_(0, kept.rows, turned[1]), kept.values.index_copy_(0, kept.rows, v)


def prefill_attention(
    q: Tensor, keys: Tensor, values: Tensor, spans: Spans, quantize_to: Granularity | None
) -> Operand:
    """Requests are computed one by one, each at its own length: so a row's bits depend on no other request."""
    out, queries = torch.zeros_like(q), spans.queries.tolist()
    for begin, end, first, length in zip(
        queries, queries[1:], spans.first.tolist(), spans.lengths.tolist(), strict=False
    ):
        k, v = (_by_head(t[first : first + length], q.shape[1]) for t in (keys, values))  # [1, H, length, D]
        scores = _scores(q[begin:end], k)  # [1, H, end - begin, length]
        later = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).triu(length - (end - begin) + 1)
        weights = scores.masked_fill(later, float("-inf")).softmax(-1)
        out[begin:end] = steady.product(weights, v.mT)[0].transpose(0, 1).to(q.dtype)
    return maybe_quantize(out.flatten(1), quantize_to)


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
    """Requests are computed one by one, as in `prefill_attention`; own positions come after the context's."""
    heads, out = q.shape[2], torch.empty_like(q)
    for request, (begin, length) in enumerate(zip(first.tolist(), lengths.tolist(), strict=True)):
        earlier = [tuple(t[request, beams[request]] for t in left) for left, beams in zip(past, ancestors, strict=True)]
        own = [_by_head(t, heads)[0] for pair in (*earlier, (k[request], v[request])) for t in pair]  # [H, W, D] each
        context_k, context_v = (_by_head(t[begin : begin + length], heads) for t in (keys, values))  # [1, H, length, D]
        mine = q[request].float().transpose(0, 1)  # [H, W, D]
        near = [(mine * each).sum(-1, keepdim=True) * q.shape[-1] ** -0.5 for each in own[::2]]
        weights = torch.cat([_scores(q[request], context_k)[0], *near], -1).softmax(-1)  # [H, W, length + positions]
        found = steady.product(weights[None, ..., :length].contiguous(), context_v.mT)[0]  # [H, W, D]
        for place, each in enumerate(own[1::2]):
            found = found + weights[..., length + place, None] * each
        out[request] = found.transpose(0, 1).to(q.dtype)
    return maybe_quantize(out.flatten(2).flatten(0, 1), quantize_to)


def _by_head(rows: Tensor, heads: int) -> Tensor:
    """Give each head its group's keys or values: rows [n, G, D] -> [1, H, n, D] float32."""
    return rows.float().repeat_interleave(heads // rows.shape[1], 1).transpose(0, 1)[None].contiguous()


def _scores(q: Tensor, keys: Tensor) -> Tensor:
    """Return the scores [1, H, n, m] of rows q [n, H, D] for keys [1, H, m, D] float32."""
    return steady.product(q.float().transpose(0, 1)[None].contiguous(), keys) * q.shape[-1] ** -0.5


def log_norm(x: Tensor, weight: Tensor) -> Tensor:
    """The vocabulary is taken in pieces."""
    return torch.stack([head(x, rows).logsumexp(-1) for rows in weight.split(VOCABULARY_PIECE)], -1).logsumexp(-1)


def route(x: Tensor, gate: Tensor, bias: Tensor, top_k: int, n_shared: int) -> Routing:
    """The sort is stable, so that a tie goes to the lower expert."""
    scores = steady.sigmoid(steady.product(x.float(), gate.float()))
    chosen = (scores + bias).sort(dim=-1, descending=True, stable=True).indices[:, :top_k]
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(-1, keepdim=True)
    shared = torch.arange(len(gate), len(gate) + n_shared, device=x.device).expand(len(x), -1)
    ones = weights.new_ones(shared.shape)
    return Routing(torch.cat([chosen, shared], 1), torch.cat([weights, ones], 1))


def moe(
    x: Tensor,
    routing: Routing,
    gate_up: Operand,
    down: Operand,
    quantize_to: Granularity | None,
    into: Tensor | None = None,
) -> Tensor:
    """Experts are taken one by one, each with the rows that chose it."""
    out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for expert in range(fp8.values_of(gate_up).shape[0]):
        rows, slot = (routing.experts == expert).nonzero(as_tuple=True)
        if len(rows) == 0:
            continue
        hidden = linear(maybe_quantize(x[rows], quantize_to), _expert(gate_up, expert))
        part = linear(swiglu(hidden, quantize_to), _expert(down, expert))
        out = out.index_add(0, rows, part.float() * routing.weights[rows, slot, None])
    return (out if into is None else out + into.float()).to(x.dtype)


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
    """All W x V extensions are scored, -inf where the trie or the filter has none; the best are chosen."""
    vocabulary = logits.shape[2]
    log_p = logits.log_softmax(-1).clamp(max=0)
    broken = scores.isnan() | ((nodes != DEAD) & ~log_p.isfinite().all(-1))
    broken = broken.any(1, keepdim=True)  # [B, 1]
    total = log_p + scores[..., None]  # [B, W, V]
    child = _children(nodes, level, vocabulary)  # [B, W, V], -1 where there is none
    alive = (child >= 0) & (level.child_live[child.clamp(min=0)] > 0) & ~broken[..., None]
    if node_filter is not None:
        alive &= ~_filtered(child, nodes, level, node_filter)
    total = total.masked_fill(~alive, float("-inf")).flatten(1)
    index = _best_ascending(total, widths, out_width)  # [B, out_width] flat indices, -1 dead
    dead = index < 0
    at = index.clamp(min=0)
    kept = torch.zeros_like(total, dtype=torch.int32).scatter_add_(1, at, (~dead).int()) > 0
    beams = Beams(
        total.gather(1, at).masked_fill(dead, float("-inf")).masked_fill(broken, float("nan")),
        child.flatten(1).gather(1, at).masked_fill(dead, DEAD),
        at // vocabulary,
        at % vocabulary,
        total.masked_fill(kept, float("-inf")).amax(1).masked_fill(broken[:, 0], float("nan")),
    )
    if not ranked:
        return beams
    order = beams.scores.sort(dim=1, descending=True, stable=True).indices
    scores, nodes, parents, codes = (field.gather(1, order) for field in beams[:-1])
    return Beams(scores, nodes, parents, codes, beams.dropped)


def maybe_quantize(x: Tensor, granularity: Granularity | None) -> Operand:
    """Quantize by the plain cast of `kernels.fp8`."""
    return x if granularity is None else quantize(x, granularity)


def _expert(weight: Operand, expert: int) -> Operand:
    if isinstance(weight, Quantized):
        return Quantized(weight.values[expert], weight.scale[expert], weight.granularity, weight.dtype)
    return weight[expert]


def _children(nodes: Tensor, level: TrieLevel, vocabulary: int) -> Tensor:
    """Return the child of each node by code, [B, W, V] int64, -1 where there is none or the node is dead."""
    dead = nodes == DEAD
    at = nodes.masked_fill(dead, 0)
    start, end = level.child_start[at].long(), level.child_start[at + 1].long()
    slots = start[..., None] + torch.arange(vocabulary, device=nodes.device)
    real = (slots < end[..., None]) & ~dead[..., None]
    code = level.child_code[slots.clamp(max=len(level.child_code) - 1)].long()
    table = slots.new_full((*nodes.shape, vocabulary + 1), -1)  # the last column takes what is not real
    return table.scatter_(2, torch.where(real, code, vocabulary), slots.masked_fill(~real, -1))[..., :vocabulary]


def _filtered(child: Tensor, nodes: Tensor, level: TrieLevel, node_filter: NodeFilter) -> Tensor:
    """Tell which of the candidates [B, W, V] the requests' exclusions and allow-lists forbid."""
    forbidden = torch.zeros_like(child, dtype=torch.bool)
    if level.child_sets is not None:
        sets = level.child_sets[child.clamp(min=0)]  # [B, W, V, words]
        allowed = ((sets & node_filter.allowed_sets[:, None, None]) != 0).any(-1)
        forbidden = ~allowed & node_filter.restricted[:, None, None]
    return forbidden | _banned(nodes, level, node_filter, child.shape)


def _banned(nodes: Tensor, level: TrieLevel, node_filter: NodeFilter, shape: torch.Size) -> Tensor:
    """Tell which of the candidates [B, W, V] are banned nodes."""
    batch, beams, vocabulary = shape
    banned, place = node_filter.banned.long(), torch.arange(len(node_filter.banned), device=nodes.device)
    request = torch.searchsorted(node_filter.first, place, right=True) - 1
    parent = torch.searchsorted(level.child_start.long(), banned, right=True) - 1
    row = torch.arange(batch, device=nodes.device)[:, None] * 2**32  # a request's nodes ascend, and so do all with it
    ours, theirs = (row + nodes).flatten(), request * 2**32 + parent
    beam = torch.searchsorted(ours, theirs).clamp(max=batch * beams - 1)
    hit = (banned != DEAD) & (request < batch) & (ours[beam] == theirs)
    code = level.child_code[banned.clamp(max=len(level.child_code) - 1)].long()
    flat = torch.where(hit, beam * vocabulary + code, batch * beams * vocabulary)
    table = torch.zeros(batch * beams * vocabulary + 1, dtype=torch.bool, device=nodes.device)
    return table.scatter_(0, flat, True)[:-1].view(shape)


def _best_ascending(total: Tensor, widths: Tensor, out_width: int) -> Tensor:
    """Return the flat indices of the `widths[b]` largest of each row of `total` [B, n], ascending, filled up with -1.

    The threshold is the width-th largest value; what equals it is taken from the left until the width is reached.
    """
    n = total.shape[1]
    best = total.topk(min(out_width, n), dim=1).values  # [B, <= out_width] descending
    threshold = best.gather(1, (widths[:, None] - 1).clamp(max=best.shape[1] - 1))
    above = total > threshold
    equal = (total == threshold) & (total > float("-inf"))
    taken = above | (equal & (equal.cumsum(1) <= widths[:, None] - above.sum(1, keepdim=True)))
    rank = taken.cumsum(1) - 1
    index = total.new_full((len(total), out_width + 1), -1, dtype=torch.long)
    place = torch.where(taken, rank, out_width)
    source = torch.arange(n, device=total.device).expand_as(total).masked_fill(~taken, -1)
    return index.scatter_(1, place, source)[:, :out_width]
