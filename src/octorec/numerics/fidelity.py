"""Measure how faithfully an FP8 checkpoint's layers repeat their 16-bit parent's, each on the input that the parent's
has.

Weights are judged row by row, by what no rounding to E4M3 can exceed, and so for any width K and any number of rows:

- A rounded value is at most half a step of E4M3 from w / scale. So the squared errors of a row sum up to at most the
  squared half steps of its values; over many values that differ, to a third of it. Scales that are 5 % off leave 1.8
  times it. A limit in dB cannot tell the two apart where K is small: of 524,288 honest rows of 64 values the worst has
  27.8 dB, of 2,048 rows of 32 it has 28.0, and the mean row has 31.5.
- Half a step is at most a sixteenth of a value (24.1 dB). A row that keeps less has a scale that is too large for it.

A product of rounded weights and rounded activations keeps about 28.5 dB, more where its terms add up in one direction.
Experts are judged as a whole: gate times up has the errors of two such products, and down rounds twice more, which for
small values leaves 23.7 dB.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from octorec.kernels.fp8 import Quantized, dequantize, expand_scale
from octorec.kernels.ops import Ops
from octorec.models.model import Inputs, Model
from octorec.numerics.roles import role
from octorec.quant.modules import FP8Experts, FP8Linear

WEIGHT_DB = 24.0  # least SQNR of every row of a weight
HALF_STEPS = 1.15  # most for a row: 1, and the error of a parent in bfloat16 (1/16 of a half step)
OUTPUT_DB = 25.0  # least SQNR of a layer's output
EXPERTS_DB = 20.5  # least SQNR of the output of a block's experts
EDGE_DB = 25.0
SLICE = 2**22  # values that are looked at in float64 at a time


@dataclass(frozen=True)
class LayerFidelity:
    """A LayerFidelity is the SQNR in dB of one layer; -inf where something is not finite, inf where nothing is lost.

    output: of what it computes for real requests. weight: of its matrices. worst_row: of the row (output channel) that
    lost most. half_steps: no SQNR, but a row's squared error over the sum of its values' squared half steps of E4M3,
    the largest of all rows; above 1 it is not from rounding.
    """

    name: str
    role: str
    output: float
    weight: float
    worst_row: float
    half_steps: float = 0.0

    @property
    def safe(self) -> bool:
        least = EXPERTS_DB if self.role == "expert" else OUTPUT_DB
        return self.output >= least and self.worst_row >= WEIGHT_DB and self.half_steps <= HALF_STEPS

    def row(self) -> dict[str, Any]:
        """Return the values for JSON: what is infinite becomes None."""
        steps = self.half_steps if math.isfinite(self.half_steps) else None
        numbers = {name: getattr(self, name) for name in ("output", "weight", "worst_row")}
        shown = {f"{name}_sqnr_db": value if math.isfinite(value) else None for name, value in numbers.items()}
        return {"name": self.name, "role": self.role, **shown, "half_steps": steps, "safe": self.safe}


@torch.inference_mode()
def layer_fidelity(parent: Model, child: Model, inputs: Inputs, codes: Tensor) -> list[LayerFidelity]:
    """Measure every FP8 layer of `child`, while `parent` (the same model in 16 bit or float32) runs on `inputs` and the
    true `codes` [B, L].

    Both are on one device.
    """
    assert isinstance(parent, nn.Module)
    assert isinstance(child, nn.Module)
    twins = dict(child.named_modules())
    found: list[LayerFidelity] = []

    def compare(name: str, twin: FP8Linear | FP8Experts) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            pairs = _weights(module, twin)
            rows = torch.cat([row_sqnr(exact, dequantize(stored)).flatten() for exact, stored in pairs])
            steps = torch.cat([half_steps(exact, stored).flatten() for exact, stored in pairs])
            whole = min(sqnr(exact, dequantize(stored)) for exact, stored in pairs)
            worst = float(rows.min()) if not rows.isnan().any() else -math.inf
            most = float(steps.max()) if not steps.isnan().any() else math.inf
            added = len(inputs) > 1 and inputs[-1] is not None
            alone = (*inputs[:-1], torch.zeros_like(inputs[-1])) if added else inputs  # without the residual
            lost = sqnr(module.forward(*alone), twin(*alone))
            found.append(LayerFidelity(name, role(f"{name}.weight"), lost, whole, worst, most))

        return hook

    hooks = []
    for name, module in parent.named_modules():
        twin = twins[name]
        if isinstance(twin, FP8Linear | FP8Experts):
            hooks.append(module.register_forward_hook(compare(name, twin)))
    try:
        parent.forced(inputs, codes)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def edges_hold(ops: Ops, device: str = "cpu", dtype: torch.dtype = torch.float32) -> bool:
    """Tell whether rows of zeros, of the largest numbers, of one lone value and of numbers too small for an exact scale
    come back from `ops`' quantization finite, and as close as a rounding is.
    """
    finfo = torch.finfo(dtype)
    width = torch.arange(1, 257, device=device) / 256
    tiny = [finfo.tiny, 2e-42, 1e-42, 7e-43]  # values whose scales are subnormal
    rows = [torch.zeros_like(width), width * finfo.max, torch.eye(1, 256, device=device)[0], *(width * t for t in tiny)]
    x = torch.stack(rows).to(dtype)
    for granularity in ("token", "group"):
        quantized = ops.maybe_quantize(x, granularity)
        assert isinstance(quantized, Quantized)
        back = dequantize(quantized)
        exact = x.float()
        if not back.isfinite().all() or (back[0] != 0).any():
            return False
        if sqnr(exact[1] / finfo.max, back[1] / finfo.max) < EDGE_DB or not torch.equal(back[2], exact[2]):
            return False
        if sqnr(exact[3] / finfo.tiny, back[3] / finfo.tiny) < EDGE_DB:
            return False
    return True


def sqnr(exact: Tensor, actual: Tensor) -> float:
    """Return 10 log10(sum exact^2 / sum (actual - exact)^2)."""
    exact, actual = exact.double(), actual.double()
    noise = float((actual - exact).square().sum())
    signal = float(exact.square().sum())
    if not math.isfinite(noise):
        return -math.inf
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _weights(module: nn.Module, twin: FP8Linear | FP8Experts) -> list[tuple[Tensor, Quantized]]:
    """Return each matrix [..., N, K] of a layer and what its twin stores of it."""
    names = ["weight"] if isinstance(twin, FP8Linear) else ["gate_up_proj", "down_proj"]
    out = []
    for name in names:
        stored = Quantized(getattr(twin, name), getattr(twin, f"{name}_scale"), twin.granularity, torch.float32)
        out.append((getattr(module, name).float(), stored))
    return out


def row_sqnr(exact: Tensor, actual: Tensor) -> Tensor:
    """Return the dB of each row [..., N]; a row of zeros that stays zeros is infinitely good."""
    signal = exact.double().square().sum(-1)
    noise = (actual.double() - exact.double()).square().sum(-1)
    return torch.where(noise == 0, math.inf, 10 * (signal / noise).log10())


def half_steps(exact: Tensor, stored: Quantized) -> Tensor:
    """Return for each row of a matrix [..., N, K] the sum of its squared errors over that of its
    squared half steps, [..., N].

    E4M3 has steps of 2^(e-3) for values in [2^e, 2^(e+1)), and of 2^-9 below 2^-6. exact: the matrix before rounding.
    """
    scale = expand_scale(stored.scale, stored.granularity, exact.shape)  # [..., 1 or N, 1 or K]
    scale = scale.expand(*exact.shape[:-1], scale.shape[-1]).flatten(0, -2)
    rows = max(1, SLICE // exact.shape[-1])
    parts = zip(
        *(part.split(rows) for part in (exact.flatten(0, -2), stored.values.flatten(0, -2), scale)), strict=True
    )
    return torch.cat([_half_steps(*part) for part in parts]).view(exact.shape[:-1])


def _half_steps(exact: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    """Return half_steps of some rows [R, K]; scale [R, 1 or K].

    It computes in float64, which holds the squares of all that float32 holds.
    """
    scale = scale.double()
    y = exact.double() / scale
    half = torch.exp2((torch.frexp(y).exponent - 1).clamp(min=-6, max=8).double() - 4)
    error = values.double() - y
    return (error * scale).square().sum(-1) / (half * scale).square().sum(-1)
