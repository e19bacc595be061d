"""Other choices than the recipe's, where no kernel exists for them: values are rounded to FP8 and back around products
in the model's own type. What each costs is measured the same way, product by product.

Letters as in `kernels.ops`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels.fp8 import Granularity, grouped, ungrouped
from octorec.kernels.ops import Operand, Ops, Routing, Variant
from octorec.models.layers import Experts, Linear, MoE
from octorec.models.onerec import OneRecV2

Values = Literal["e4m3", "e5m2"]
TYPES = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
PARTS = {"qkv_proj": 3, "gate_up_proj": 2}  # matrices that lie in one product, each with scales of its own


@dataclass(frozen=True)
class Scheme:
    weights: Granularity
    activations: Granularity
    values: Values = "e4m3"


CHANNEL, BLOCK, TENSOR = Scheme("channel", "token"), Scheme("block", "group"), Scheme("tensor", "tensor")


@dataclass(frozen=True)
class Simulation:
    """Which products are quantized and how; None: they stay as they are. linear: attention and dense FFN."""

    linear: Scheme | None = None
    experts: Scheme | None = None
    router: Scheme | None = None
    head: Scheme | None = None


SIMULATIONS = {
    "fp8": Simulation(CHANNEL, BLOCK),
    "fp8-channel": Simulation(CHANNEL, CHANNEL),
    "fp8-block": Simulation(BLOCK, BLOCK),
    "experts-tensor": Simulation(CHANNEL, TENSOR),
    "tensor": Simulation(TENSOR, TENSOR),
    "router-and-heads": Simulation(CHANNEL, BLOCK, CHANNEL, CHANNEL),
    "e5m2": Simulation(Scheme("channel", "token", "e5m2"), Scheme("block", "group", "e5m2")),
    "e5m2-tensor-everywhere": Simulation(*[Scheme("tensor", "tensor", "e5m2")] * 4),
}


def rounded(x: Tensor, granularity: Granularity, values: Values = "e4m3", parts: int = 1) -> Tensor:
    """`x` [..., N, K] through FP8 and back, in its own type; `parts` of its rows have scales of their own."""
    if parts > 1:
        return torch.cat([rounded(part, granularity, values) for part in x.chunk(parts, -2)], -2)
    groups = grouped(x.float(), granularity)  # [..., n, rows, k, columns]
    largest = torch.finfo(TYPES[values]).max
    scale = groups.abs().amax((-3, -1), keepdim=True) / largest
    scale = torch.where(scale > 0, scale, 1.0)
    back = (groups / scale).clamp(-largest, largest).to(TYPES[values]).float() * scale
    return ungrouped(back, x).to(x.dtype)


def simulate(model: OneRecV2, simulation: Simulation, found: dict[str, list[float]] | None = None) -> None:
    """Let `model`, in 16 bit or float32, compute as `simulation` says from now on.

    found: measure instead. The model then goes on computing exactly, and each product's SQNR in dB is put there under
    its name, once a call.
    """
    for name, module in model.named_modules():
        if isinstance(module, Experts):
            _give(module, simulation.experts, name, found, parts=2)
        elif isinstance(module, MoE):
            _give(module, simulation.router, f"{name}.router", found)
        elif isinstance(module, Linear) and name.startswith("blocks."):
            parts = PARTS.get(name.rpartition(".")[2], 1)
            _give(module, simulation.linear, name, found, parts)
    _give(model, simulation.head, "head", found)


def _give(module: Any, scheme: Scheme | None, name: str, found: dict[str, list[float]] | None, parts: int = 1) -> None:
    if scheme is not None:
        module.ops = SimulatedOps(module.ops, scheme, parts, None if found is None else found.setdefault(name, []))


class SimulatedOps(Variant):
    """The operations of one module: its product simulated, everything else as it was."""

    def __init__(self, base: Ops, scheme: Scheme, parts: int, found: list[float] | None):
        super().__init__(base)
        self.scheme, self.parts, self.found = scheme, parts, found

    def linear(self, x: Operand, weight: Operand, into: Tensor | None = None) -> Tensor:
        assert isinstance(x, Tensor)
        assert isinstance(weight, Tensor)
        out = self._run(lambda a, w: F.linear(a(x), w(weight)))
        return out if into is None else into + out

    def head(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._run(lambda a, w: self.base.head(a(x), w(weight)))

    def route(self, x: Tensor, gate: Tensor, bias: Tensor, top_k: int, n_shared: int) -> Routing:
        if self.found is not None:
            self._run(lambda a, w: a(x).float() @ w(gate).float().T)
            return self.base.route(x, gate, bias, top_k, n_shared)
        return self.base.route(self._activations(x), self._weights(gate), bias, top_k, n_shared)

    def moe(
        self, x: Tensor, routing: Routing, gate_up: Operand, down: Operand, quantize_to: Granularity | None,
        into: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        assert isinstance(gate_up, Tensor)
        assert isinstance(down, Tensor)
        out = self._run(lambda a, w: every_expert(x, routing, gate_up, down, a, w))
        return out if into is None else into + out

    def _run(self, product: Callable[..., Tensor]) -> Tensor:
        """`product` of what turns activations and weights into what it multiplies."""
        if self.found is None:
            return product(self._activations, self._weights)
        exact = product(lambda x: x, lambda w, parts=1: w)
        noise = (product(self._activations, self._weights) - exact).double().square().sum()
        self.found.append(float(10 * (exact.double().square().sum() / noise).log10()))
        return exact

    def _activations(self, x: Tensor) -> Tensor:
        return rounded(x, self.scheme.activations, self.scheme.values)

    def _weights(self, weight: Tensor, parts: int | None = None) -> Tensor:
        return rounded(weight, self.scheme.weights, self.scheme.values, self.parts if parts is None else parts)


def every_expert(
    x: Tensor, routing: Routing, gate_up: Tensor, down: Tensor,
    activations: Callable[[Tensor], Tensor], weights: Callable[..., Tensor],
) -> Tensor:  # fmt: skip
    """`Ops.moe` as two products over all experts, so that shapes are static; x [T, C] -> [T, C]."""
    n_expert, width = len(gate_up), down.shape[1]
    gates = x.new_zeros(len(x), n_expert, dtype=torch.float32).scatter(1, routing.experts, routing.weights)  # [T, E]
    hidden = F.linear(activations(x), weights(gate_up).flatten(0, 1)).unflatten(1, (n_expert, -1))  # [T, E, 2F]
    gate, up = hidden.float().chunk(2, -1)
    hidden = (F.silu(gate) * up * (gates > 0)[..., None]).to(x.dtype)  # [T, E, F]
    hidden = activations(hidden.flatten(0, 1)).unflatten(0, (-1, n_expert)) * gates[..., None].to(x.dtype)
    return F.linear(hidden.flatten(1), weights(down, 1).transpose(0, 1).reshape(width, -1))
