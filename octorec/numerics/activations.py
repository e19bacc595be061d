"""Statistics of activations, taken by hooks while the real model answers real requests.

Everything is computed in float32 by the reference operations. Letters as in `kernels.reference`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from octorec.kernels import reference
from octorec.kernels.quantized import Granularity, Quantized, dequantize, quantize
from octorec.models.context import ContextBatch
from octorec.models.layers import Experts, Linear
from octorec.models.onerec import OneRecV2
from octorec.numerics.distribution import Distribution, distribution
from octorec.numerics.stats import finite, flat, role
from octorec.quant.recipe import ActivationGranularity
from octorec.quant.rounding import sqnr_db

SCHEMES: dict[str, tuple[Granularity, Granularity]] = {  # weights, activations
    "channel/token": ("channel", "token"),
    "block/group": ("block", "group"),
    "tensor/tensor": ("tensor", "tensor"),
}


@dataclass(frozen=True)
class OutputError:
    """|y' - y| / |y| of a layer's output when its weights, its activations or both are quantized."""

    weights: float
    activations: float
    both: float


@dataclass(frozen=True)
class ActivationStats:
    """The input [rows, width] of one product, and what FP8 costs its output.

    sqnr: dB by activation granularity. errors: by scheme; empty for what lies between the two products of the experts,
    whose error is in that of the experts as a whole.
    """

    name: str
    role: str
    rows: int
    width: int
    distribution: Distribution
    sqnr: dict[str, float]
    errors: dict[str, OutputError]

    def row(self) -> dict[str, Any]:
        """Flat, for a table or JSON: an infinite SQNR is None."""
        row: dict[str, Any] = {"name": self.name, "role": self.role, "rows": self.rows, "width": self.width}
        row.update(flat(self.distribution))
        row.update({f"sqnr_{name}": finite(self.sqnr.get(name)) for name in get_args(ActivationGranularity)})
        for scheme in SCHEMES:
            error = self.errors.get(scheme)
            parts = {} if error is None else asdict(error)
            row.update({f"error_{scheme}_{part}": parts.get(part) for part in OutputError.__dataclass_fields__})
        return row


@torch.no_grad()
def activation_stats(model: OneRecV2, batch: ContextBatch, codes: Tensor) -> list[ActivationStats]:
    """Of every Linear and Experts that `model`, with plain weights, runs for `batch` and the true `codes` [B, L].

    The heads stay in 16 bit and are left out. Needs about six times the memory of one block's experts.
    Context items beyond a request's length are no data and are left out too.
    """
    found: list[ActivationStats] = []
    items = torch.arange(batch.codes.shape[1], device=codes.device) < batch.lengths[:, None]  # [B, S]
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, Linear | Experts):
            rows = items.flatten() if name == "context.proj" else None
            hooks.append(module.register_forward_pre_hook(_hook(name, rows, found)))
    try:
        model(batch, codes)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _hook(name: str, rows: Tensor | None, found: list[ActivationStats]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """A forward hook that measures a layer's input; `rows` [T] bool: which of its rows are data, None for all."""

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0].float() if rows is None else args[0][rows].float()
        if isinstance(module, Experts):
            routing = reference.Routing(*args[1])
            hidden = _hidden(x, routing, module.gate_up_proj.float())
            found.append(_stats(name, x, _experts_errors(module, x, routing)))
            found.append(_stats(f"{name}.down_proj", hidden, {}))
        elif isinstance(module, Linear):
            found.append(_stats(name, x, _linear_errors(module, x)))

    return look


def _stats(name: str, x: Tensor, errors: dict[str, OutputError]) -> ActivationStats:
    signal = float(x.double().square().sum())
    sqnr = {}
    for kind in get_args(ActivationGranularity):
        noise = float((dequantize(quantize(x, kind)) - x).double().square().sum())
        sqnr[kind] = sqnr_db(signal, noise)
    return ActivationStats(name, role(name), x.shape[0], x.shape[1], distribution(x), sqnr, errors)


def _linear_errors(module: Linear, x: Tensor) -> dict[str, OutputError]:
    weight = module.weight.float()
    exact = reference.linear(x, weight)
    errors = {}
    for scheme, (of_weights, of_activations) in SCHEMES.items():
        w, q = quantize(weight, of_weights), quantize(x, of_activations)
        errors[scheme] = OutputError(
            weights=_relative(reference.linear(x, dequantize(w)), exact),
            activations=_relative(reference.linear(q, _unrounded(weight)), exact),
            both=_relative(reference.linear(q, w), exact),
        )
    return errors


def _experts_errors(module: Experts, x: Tensor, routing: reference.Routing) -> dict[str, OutputError]:
    """Both products at once, each row routed as the model routed it."""
    gate_up, down = module.gate_up_proj.float(), module.down_proj.float()
    exact = reference.moe(x, routing, gate_up, down, None)
    errors = {}
    for scheme, (of_weights, of_activations) in SCHEMES.items():
        q_up, q_down = quantize(gate_up, of_weights), quantize(down, of_weights)
        unrounded = _unrounded(gate_up), _unrounded(down)
        errors[scheme] = OutputError(
            weights=_relative(reference.moe(x, routing, dequantize(q_up), dequantize(q_down), None), exact),
            activations=_relative(reference.moe(x, routing, unrounded[0], unrounded[1], of_activations), exact),
            both=_relative(reference.moe(x, routing, q_up, q_down, of_activations), exact),
        )
    return errors


def _unrounded(weight: Tensor) -> Quantized:
    """`weight` [..., N, K] as an operand of quantized activations: its own float32 values, scale 1."""
    return Quantized(weight, torch.ones(*weight.shape[:-2], 1, 1), "tensor", torch.float32)


def _hidden(x: Tensor, routing: reference.Routing, gate_up: Tensor) -> Tensor:
    """What the experts' second product reads: [T * R, F], expert by expert."""
    parts = []
    for expert, weight in enumerate(gate_up):
        rows = (routing.experts == expert).any(1)
        parts.append(reference.swiglu(reference.linear(x[rows], weight), None))
    return torch.cat([part for part in parts if isinstance(part, Tensor)])


def _relative(found: Tensor, exact: Tensor) -> float:
    norm = float(exact.double().norm())
    return float((found - exact).double().norm()) / norm if norm else 0.0
