"""The operations on a GPU: name for name, and signature for signature, those of `kernels.reference`.

A value of the `ops` argument that models take. Each operation goes to its own Triton kernel, imported at the first
call, so that this module can be imported where triton cannot. What a kernel cannot do is an InputError that says what
to do; nothing falls back to the references by itself. The operations that are one library call stay one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels import reference
from octorec.kernels.device import check_device
from octorec.kernels.quantized import Granularity, values_of
from octorec.kernels.reference import Beams, NodeFilter, Operand, Routing, TrieLevel

causal_attention = reference.causal_attention  # torch's own fused kernel, and for training only


def linear(x: Operand, weight: Operand, residual: Tensor | None = None) -> Tensor:
    if isinstance(x, Tensor) and isinstance(weight, Tensor):
        return F.linear(x, weight) if residual is None else residual.addmm_(x, weight.T)  # a copy would cost a pass
    from octorec.kernels.linear import linear

    check_device(values_of(x))
    return linear(x, weight, residual)


def head(x: Tensor, weight: Tensor) -> Tensor:
    if x.is_cuda and x.dtype != torch.float32:
        return torch.mm(x, weight.T, out_dtype=torch.float32)
    return reference.head(x, weight)


def rms_norm(x: Tensor, weight: Tensor, eps: float, quantize_to: Granularity | None = None) -> Operand:
    from octorec.kernels.rms_norm import rms_norm

    check_device(x)
    return rms_norm(x, weight, eps, quantize_to)


def swiglu(gate_up: Tensor, quantize_to: Granularity | None) -> Operand:
    from octorec.kernels.swiglu import swiglu

    check_device(gate_up)
    return swiglu(gate_up, quantize_to)


def cross_attention(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, quantize_to: Granularity | None
) -> Operand:
    from octorec.kernels.cross_attention import cross_attention

    check_device(q)
    return cross_attention(q, keys, values, lengths, quantize_to)


def self_attention(
    qkv: Tensor, past: list[Tensor], ancestors: list[Tensor], quantize_to: Granularity | None
) -> Operand:
    from octorec.kernels.self_attention import self_attention

    check_device(qkv)
    return self_attention(qkv, past, ancestors, quantize_to)


def route(x: Tensor, gate: Tensor, bias: Tensor, top_k: int, n_shared: int) -> Routing:
    from octorec.kernels.route import route

    check_device(x)
    return route(x, gate, bias, top_k, n_shared)


def moe(
    x: Tensor,
    routing: Routing,
    gate_up: Operand,
    down: Operand,
    quantize_to: Granularity | None,
    residual: Tensor | None = None,
) -> Tensor:
    from octorec.kernels.moe import moe

    check_device(x)
    return moe(x, routing, gate_up, down, quantize_to, residual)


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
    from octorec.kernels.beam_step import beam_step

    check_device(logits)
    return beam_step(logits, scores, nodes, level, widths, out_width, node_filter, ranked)


def maybe_quantize(x: Tensor, granularity: Granularity | None) -> Operand:
    if granularity is None:
        return x
    from octorec.kernels.quantize import quantize

    check_device(x)
    return quantize(x, granularity)
