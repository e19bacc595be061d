"""A training on a GPU uses these operations: `kernels.reference` with static shapes and without waiting for the host.

This module is an `Ops`. Under autocast products run in bfloat16; the router and the heads stay
in float32. Nothing waits for the host, so that a step is one CUDA graph.

Letters as in `kernels.ops`.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels import reference
from octorec.kernels.fp8 import Granularity
from octorec.kernels.ops import Operand, Routing
from octorec.training import grouped

check_device, check_sizes, check_beams = reference.check_device, reference.check_sizes, reference.check_beams
swiglu = reference.swiglu
self_attention = reference.self_attention
causal_attention = reference.causal_attention
beam_step = reference.beam_step
maybe_quantize = reference.maybe_quantize


P = ParamSpec("P")
R = TypeVar("R")


def _without_autocast(operation: Callable[P, R]) -> Callable[P, R]:
    """Return `operation` in the types of its operands."""

    @functools.wraps(operation)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return operation(*args, **kwargs)

    return run


head = _without_autocast(reference.head)
route = _without_autocast(reference.route)


def linear(x: Operand, weight: Operand, into: Tensor | None = None) -> Tensor:
    """Compute the reference's product; the residual stream stays in its own type."""
    out = reference.linear(x, weight)
    return out if into is None else into + out


def rms_norm(x: Tensor, weight: Tensor, eps: float, quantize_to: Granularity | None = None) -> Operand:
    return maybe_quantize(F.rms_norm(x, x.shape[-1:], weight.to(x.dtype), eps), quantize_to)


def cross_attention(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, quantize_to: Granularity | None
) -> Operand:
    """Compute as the reference, with the scores' and the weighted sum's operands left in their type."""
    heads, groups, width = q.shape[2], keys.shape[2], q.shape[3]
    if heads != groups:
        keys, values = (t.repeat_interleave(heads // groups, 2) for t in (keys, values))
    outside = torch.arange(keys.shape[1], device=q.device) >= lengths[:, None]  # [B, S]
    q, keys, values = (t.to(q.dtype).transpose(1, 2) for t in (q, keys, values))  # [B, H, W or S, D]
    scores = (q @ keys.mT).float() * width**-0.5  # [B, H, W, S]
    weights = scores.masked_fill(outside[:, None, None], float("-inf")).softmax(-1)
    out = weights.to(q.dtype) @ values
    return maybe_quantize(out.transpose(1, 2).flatten(2).flatten(0, 1), quantize_to)


def moe(
    x: Tensor,
    routing: Routing,
    gate_up: Operand,
    down: Operand,
    quantize_to: Granularity | None,
    into: Tensor | None = None,
) -> Tensor:
    """Compute routed rows alone where torch has a grouped product for these operands, else every row by every expert.

    x [T, C], gate_up [E, 2F, C], down [E, C, F] -> [T, C].
    """
    assert quantize_to is None, "training is in 16 bit or float32"
    assert isinstance(gate_up, Tensor)
    assert isinstance(down, Tensor)
    compute = grouped.moe if grouped.runs_on(x, gate_up, down) else dense_moe
    out = compute(x, routing, gate_up, down)
    return out if into is None else into + out


def dense_moe(x: Tensor, routing: Routing, gate_up: Tensor, down: Tensor) -> Tensor:
    """Compute two products over all experts at once: E / R of the routed work. Rows that were not routed to an expert
    weigh 0 there.
    """
    n_expert, width = len(gate_up), down.shape[1]
    gates = x.new_zeros(len(x), n_expert, dtype=torch.float32).scatter(1, routing.experts, routing.weights)  # [T, E]
    hidden = F.linear(x, gate_up.flatten(0, 1)).unflatten(1, (n_expert, -1))  # [T, E, 2F]
    gate, up = hidden.chunk(2, -1)
    hidden = F.silu(gate) * up * gates[..., None].to(hidden.dtype)  # [T, E, F]
    return F.linear(hidden.flatten(1), down.transpose(0, 1).reshape(width, -1)).to(x.dtype)
