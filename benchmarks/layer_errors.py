"""How far each layer's kernels are from float64, at the model's dimensions, on random weights.

Three errors, each relative in the root of the sum of squares, and never one for another:

| error | of | against |
| --- | --- | --- |
| `error` | what the kernel gives | float64 on the same operands, quantized where the kernel's are |
| `rounding` | that float64 result, rounded to the type that the kernel gives it in | itself |
| `quantization` | that float64 result | float64 on the operands before they were quantized |

Letters as in `kernels.ops`.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import kernel_inputs as inputs
from benchmarks.kernel_checks import relative_error
from benchmarks.kernel_inputs import normal
from benchmarks.rows import LayerCheck
from octorec.kernels import reference
from octorec.kernels.fp8 import Granularity, Quantized, dequantize, quantize
from octorec.kernels.ops import Operand, Ops, Routing
from octorec.models.onerec_config import OneRecConfig

BATCH, BEAMS, CONTEXT = 4, 256, 512
STD = 0.02  # of weights


def bound(got: Operand, rounding: float, quantization: float) -> float:
    """The largest `error` that is allowed.

    float32 sums: 2e-5. FP8 results: a twentieth more than their own rounding, as 16-bit neighbours before the cast are
    allowed. 16 bit: three roundings (operations round in between), and a tenth of the quantization error, which is what
    fast sums may add.
    """
    if isinstance(got, Quantized):
        return 1.05 * rounding
    return 2e-5 if got.dtype == torch.float32 else 3 * rounding + 0.1 * quantization


def layer_errors(config: OneRecConfig, ops: Ops) -> Iterator[LayerCheck]:
    """Each sublayer of a dense and of a MoE block, and the head: in 16 bit, and in FP8 as the recipe `fp8` says."""
    torch.manual_seed(0)
    rows, width = BATCH * BEAMS, config.d_model
    yield from _norm(ops, rows, width)
    yield from _product(ops, "cross q_proj", rows, width, width)
    yield from _cross_attention(ops, config)
    yield from _product(ops, "cross o_proj + residual", rows, width, width, adds=True)
    yield from _product(ops, "self qkv_proj", rows, 3 * width, width)
    yield from _self_attention(ops, config)
    yield from _product(ops, "self o_proj + residual", rows, width, width, adds=True)
    yield from _product(ops, "dense gate_up_proj", rows, 2 * config.ffn_width, width)
    yield from _swiglu(ops, rows, config.ffn_width)
    yield from _product(ops, "dense down_proj + residual", rows, width, config.ffn_width, adds=True)
    yield from _router(ops, rows, config)
    yield from _moe(ops, rows, config)
    x, weight = normal(rows, width), normal(config.codebook_sizes[0], width, std=STD)
    yield _row("head", "bf16", ops.head(x, weight), x.double() @ weight.double().T)


def _row(layer: str, precision: str, got: Operand, exact: Tensor, unquantized: Tensor | None = None) -> LayerCheck:
    rounded = exact.to(got.dtype)
    if isinstance(got, Quantized):
        rounded = dequantize(quantize(rounded, got.granularity))
    rounding = relative_error(rounded, exact)
    quantization = 0.0 if unquantized is None else relative_error(exact, unquantized)
    error, allowed = relative_error(got, exact), bound(got, rounding, quantization)
    return LayerCheck(
        layer=layer,
        precision=precision,
        error=error,
        rounding=rounding,
        quantization=quantization,
        bound=allowed,
        held=error <= allowed,
    )


def _norm(ops: Ops, rows: int, width: int) -> Iterator[LayerCheck]:
    x, weight = normal(rows, width), normal(width)
    exact = F.rms_norm(x.double(), (width,), weight.double(), 1e-6)
    yield _row("norm", "bf16", ops.rms_norm(x, weight, 1e-6), exact)
    yield _row("norm + cast", "fp8", ops.rms_norm(x, weight, 1e-6, "token"), exact)


def _swiglu(ops: Ops, rows: int, width: int) -> Iterator[LayerCheck]:
    x = normal(rows, 2 * width)
    gate, up = x.double().chunk(2, -1)
    yield _row("SwiGLU", "bf16", ops.swiglu(x, None), F.silu(gate) * up)
    yield _row("SwiGLU + cast", "fp8", ops.swiglu(x, "token"), F.silu(gate) * up)


def _product(ops: Ops, layer: str, rows: int, n: int, k: int, adds: bool = False) -> Iterator[LayerCheck]:
    x, weight = normal(rows, k), normal(n, k, std=STD)
    residual = normal(rows, n, std=0.1) if adds else None

    def run(x: Operand, weight: Operand) -> tuple[Tensor, Tensor]:
        exact = _dense(x).double() @ _dense(weight).double().T
        got = ops.linear(x, weight, None if residual is None else residual.clone())
        return got, exact if residual is None else exact + residual

    plain, unquantized = run(x, weight)
    yield _row(layer, "bf16", plain, unquantized)
    yield _row(layer, "fp8", *run(quantize(x, "token"), quantize(weight, "channel")), unquantized)


def _cross_attention(ops: Ops, config: OneRecConfig) -> Iterator[LayerCheck]:
    q, keys, values, _ = inputs.random_cross(BATCH, BEAMS, CONTEXT, config.n_head, config.d_head)
    lengths = torch.randint(1, CONTEXT + 1, (BATCH,), device=q.device)
    q64, kv64 = q.double().transpose(1, 2), keys.double().transpose(1, 2)  # [B, H, W, D], [B, H, S, D]
    outside = torch.arange(CONTEXT, device=q.device) >= lengths[:, None, None, None]
    scores = (q64 @ kv64.mT * config.d_head**-0.5).masked_fill(outside, float("-inf"))
    exact = (scores.softmax(-1) @ kv64).transpose(1, 2).flatten(2).flatten(0, 1)
    yield _row("cross-attention", "bf16", ops.cross_attention(q, keys, values, lengths, None), exact)
    yield _row("cross-attention + cast", "fp8", ops.cross_attention(q, keys, values, lengths, "token"), exact)


def _self_attention(ops: Ops, config: OneRecConfig) -> Iterator[LayerCheck]:
    qkv, past, ancestors = inputs.random_self(BATCH, BEAMS, config.n_head, config.d_head, (1, BEAMS))
    exact = _exact_self_attention(qkv, past, ancestors)
    yield _row("self-attention", "bf16", ops.self_attention(qkv, past, ancestors, None), exact)
    yield _row("self-attention + cast", "fp8", ops.self_attention(qkv, past, ancestors, "token"), exact)


def _exact_self_attention(qkv: Tensor, past: list[Tensor], ancestors: list[Tensor]) -> Tensor:
    """Self-attention in float64 throughout, where the reference computes in float32."""
    rows = torch.arange(len(qkv), device=qkv.device)[:, None]
    levels = [level[rows, beam].double() for level, beam in zip(past, ancestors, strict=True)] + [qkv.double()]
    scores = torch.stack([(levels[-1][:, :, 0] * level[:, :, 1]).sum(-1) for level in levels])  # [positions, B, W, H]
    weights = (scores * qkv.shape[-1] ** -0.5).softmax(0)[..., None]
    out = sum(weight * level[:, :, 2] for weight, level in zip(weights, levels, strict=True))
    assert isinstance(out, Tensor)
    return out.flatten(2).flatten(0, 1)


def _router(ops: Ops, rows: int, config: OneRecConfig) -> Iterator[LayerCheck]:
    """The weight of every expert for every row: another choice than float64's would show as a large error."""
    x, gate = normal(rows, config.d_model), normal(config.n_expert, config.d_model, std=STD)
    bias = normal(config.n_expert, std=0.1, dtype=torch.float32)
    scores = (x.double() @ gate.double().T).sigmoid()
    chosen = (scores + bias).topk(config.top_k).indices
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(1, keepdim=True)
    got = ops.route(x, gate, bias, config.top_k, 0)
    table = torch.zeros_like(scores)
    given = table.float().scatter(1, got.experts, got.weights)
    yield _row("router", "bf16", given, table.scatter(1, chosen, weights))


def _moe(ops: Ops, rows: int, config: OneRecConfig) -> Iterator[LayerCheck]:
    width, hidden, experts = config.d_model, config.expert_width, config.n_expert + config.n_shared
    x, residual = normal(rows, width), normal(rows, width, std=0.1)
    gate_up, down = normal(experts, 2 * hidden, width, std=STD), normal(experts, width, hidden, std=STD)
    even = torch.ones(config.n_expert)
    routing = inputs.random_routing(rows, config.n_expert, config.top_k, config.n_shared, even)

    def run(gate_up: Operand, down: Operand, granularity: Granularity | None) -> tuple[Tensor, Tensor]:
        exact = residual + exact_moe(x, routing, gate_up, down, granularity)
        return ops.moe(x, routing, gate_up, down, granularity, residual.clone()), exact

    plain, unquantized = run(gate_up, down, None)
    yield _row("MoE + residual", "bf16", plain, unquantized)
    blocks = quantize(gate_up, "block"), quantize(down, "block")
    yield _row("MoE + residual", "fp8", *run(*blocks, "group"), unquantized)


def exact_moe(x: Tensor, routing: Routing, gate_up: Operand, down: Operand, granularity: Granularity | None) -> Tensor:
    """`reference.moe` in float64; the hidden rows are an operand, and so rounded and quantized where the kernel's are.

    Without the rounding of gate and up, one in thirty hidden values goes to a neighbour in E4M3, 9 % away: an error of
    1.4 %, of the comparison and not of the kernel.
    """
    out = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    up, down = _dense(gate_up), _dense(down)
    for expert in range(len(up)):
        rows, slot = (routing.experts == expert).nonzero(as_tuple=True)
        if len(rows) == 0:
            continue
        given = _dense(reference.maybe_quantize(x[rows], granularity)).double()
        product = given @ up[expert].double().T
        gate, linear = (product if granularity is None else product.to(x.dtype).double()).chunk(2, -1)
        hidden = F.silu(gate) * linear
        if granularity is not None:
            hidden = dequantize(quantize(hidden.to(x.dtype), granularity)).double()
        out.index_add_(0, rows, hidden @ down[expert].double().T * routing.weights[rows, slot, None].double())
    return out


def _dense(operand: Operand) -> Tensor:
    return dequantize(operand) if isinstance(operand, Quantized) else operand
