"""Statistics of activations are taken by hooks while the real model answers real requests.

Everything is computed in float32 by the reference operations. Letters are those of `kernels.ops`.
`activation_stats` is for the models of our families; `watch` is for any module made of `nn.Linear` or our own layers.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from octorec.kernels import reference
from octorec.kernels.fp8 import Granularity, Quantized, dequantize, quantize
from octorec.kernels.ops import Routing
from octorec.models.layers import Experts, Linear
from octorec.models.model import Inputs, Model
from octorec.numerics.checkpoint_files import StoredTensor
from octorec.numerics.distribution import Distribution
from octorec.numerics.roles import role
from octorec.numerics.scale_groups import ScaleStats, outlier_share
from octorec.numerics.stats import finite, flat, flat_scales, measure

SCHEMES: dict[str, tuple[Granularity, Granularity]] = {  # name -> granularity of weights, of activations
    "channel/token": ("channel", "token"),
    "block/group": ("block", "group"),
    "tensor/tensor": ("tensor", "tensor"),
}
GROUPED: tuple[Granularity, ...] = ("token", "group")  # granularities of activations
SCALINGS = ("token", "group", "tensor", "unscaled")


@dataclass(frozen=True)
class OutputError:
    """An OutputError is |y' - y| / |y| of a layer's output when its weights, its activations or both are quantized."""

    weights: float
    activations: float
    both: float


@dataclass(frozen=True)
class ActivationStats:
    """ActivationStats describe the input [rows, width] of one product, and what FP8 costs its output.

    scales: what each of SCALINGS does to it. outlier_channels: share of its features (columns) whose absmax is over 10
    times the median feature's. errors: by scheme; empty for what lies between the two products of the experts, whose
    error is in that of the experts as a whole.
    """

    name: str
    role: str
    rows: int
    width: int
    distribution: Distribution
    scales: dict[str, ScaleStats]
    outlier_channels: float
    errors: dict[str, OutputError]

    @property
    def sqnr(self) -> dict[str, float]:
        """Return dB by granularity, infinite where nothing is lost."""
        return {name: stats.sqnr for name, stats in self.scales.items()}

    def row(self) -> dict[str, Any]:
        """Return a flat row for a table or JSON: what is infinite or does not exist is None."""
        row: dict[str, Any] = {"name": self.name, "role": self.role, "rows": self.rows, "width": self.width}
        row.update(flat(self.distribution))
        row["outlier_channels"] = self.outlier_channels
        row.update(flat_scales(self.scales, SCALINGS))
        for scheme in SCHEMES:
            error = self.errors.get(scheme)
            parts = {} if error is None else asdict(error)
            row.update({f"error_{scheme}_{part}": finite(parts.get(part)) for part in OutputError.__dataclass_fields__})
        return row


def activation_stats(model: Model, inputs: Inputs, codes: Tensor) -> list[ActivationStats]:
    """Measure the input of every Linear and Experts that `model`, with plain weights, runs for `inputs`
    and the true `codes` [B, L].

    The heads stay in 16 bit and are left out. Needs about six times the memory of one block's experts.
    What the model calls padding is left out too.
    """
    assert isinstance(model, nn.Module)
    return watch(model, lambda: model.forced(inputs, codes), model.data_rows(inputs))


@torch.no_grad()
def watch(
    model: nn.Module, run: Callable[[], object], rows: Mapping[str, Tensor] | None = None
) -> list[ActivationStats]:
    """Measure the input of each `nn.Linear`, `Linear` and `Experts` that `run()` sends through `model`, in that order.

    rows: for a module's name, which of its input's rows [T] bool are data; all of them where it is not named. A module
    that runs twice is there twice.
    """
    found: list[ActivationStats] = []
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Linear | Experts):
            hooks.append(module.register_forward_pre_hook(_hook(name, (rows or {}).get(name), found)))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _hook(name: str, rows: Tensor | None, stats: list[ActivationStats]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """Return a forward hook that measures a layer's input; `rows` [T] bool: which of its rows are
    data, None for all.
    """

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0].flatten(0, -2)
        x = x.float() if rows is None else x[rows].float()
        if isinstance(module, Experts):
            routing = Routing(*args[1])
            hidden = _hidden(x, routing, module.gate_up_proj.float())
            stats.append(_stats(name, x, _experts_errors(module, x, routing)))
            stats.append(_stats(f"{name}.down_proj", hidden, {}))
        else:
            assert isinstance(module.weight, Tensor)
            stats.append(_stats(name, x, _linear_errors(module.weight.float(), x)))

    return look


def _stats(name: str, x: Tensor, errors: dict[str, OutputError]) -> ActivationStats:
    measured = measure(StoredTensor(name, x.contiguous()), GROUPED)
    outliers = outlier_share(x.abs().amax(0).numpy()) if len(x) else 0.0
    rows, width = x.shape
    return ActivationStats(name, role(name), rows, width, measured.distribution, measured.scales, outliers, errors)


def _linear_errors(weight: Tensor, x: Tensor) -> dict[str, OutputError]:
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


def _experts_errors(module: Experts, x: Tensor, routing: Routing) -> dict[str, OutputError]:
    """Measure both products at once, each row routed as the model routed it."""
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
    """Return `weight` [..., N, K] as an operand of quantized activations: its own float32 values, scale 1."""
    return Quantized(weight, torch.ones(*weight.shape[:-2], 1, 1), "tensor", torch.float32)


def _hidden(x: Tensor, routing: Routing, gate_up: Tensor) -> Tensor:
    """Return what the experts' second product reads: [T * R, F], expert by expert."""
    parts = []
    for expert, weight in enumerate(gate_up):
        rows = (routing.experts == expert).any(1)
        parts.append(reference.swiglu(reference.linear(x[rows], weight), None))
    return torch.cat([part for part in parts if isinstance(part, Tensor)])


def _relative(actual: Tensor, exact: Tensor) -> float:
    """Return |actual - exact| / |exact|: infinite where either is not finite, or where `exact` is 0 and
    `actual` is not.
    """
    noise, norm = float((actual.double() - exact.double()).norm()), float(exact.double().norm())
    if not math.isfinite(noise) or not math.isfinite(norm):
        return math.inf
    return noise / norm if norm else (math.inf if noise else 0.0)
