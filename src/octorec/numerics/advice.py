"""Is FP8 safe, layer by layer and for the model? The advice is to quantize, use blocks, or keep in 16 bit, with reason
and numbers.

The rules and the reasons of their thresholds are in docs/numerics.md. Letters: N and K of a weight [N, K].
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from octorec.kernels.fp8 import GROUP
from octorec.numerics.activations import ActivationStats
from octorec.numerics.roles import MATRIX_ROLES
from octorec.numerics.scale_groups import ScaleStats
from octorec.numerics.stats import TensorStats, finite
from octorec.quant.products import ACTIVATIONS, unit, width_faults

Decision = Literal["channel", "block", "keep"]
ModelDecision = Literal["quantize", "quantize in part", "keep in 16 bit"]

BELL_SQNR_DB = 31.5  # SQNR of a bell curve in E4M3, whatever its width
MIN_SQNR_DB = BELL_SQNR_DB - 3  # twice a bell curve's noise
MAX_OUTPUT_ERROR = 0.053  # twice the noise of two bell curves multiplied: sqrt(2 * 2) * 10^(-31.5 / 20)
MAX_RANGE = 12.0  # octaves; at 14.8 half of a group has left the full precision of E4M3, at 12 a bell curve's 8 %
MAX_FLUSHED = 0.01  # a bell curve under a channel's scale loses a thousandth of that
MOST, HALF = 0.9, 0.5  # shares of the products' FLOPs for `quantize` and for `quantize in part`
SCHEME_OF = {"channel": "channel/token", "block": "block/group"}
ROLE_REASONS = {
    "norm": "a norm is not multiplied",
    "router": "scores are never 8 bit: a small error changes which expert wins",
    "head": "scores are never 8 bit: a small error changes which item wins",
    "embedding": "looked up, not multiplied",
    "context": "runs once a context item, not once a beam",
}


@dataclass(frozen=True)
class LayerAdvice:
    """A LayerAdvice says what to do with one matrix.

    decision: channel (weights a scale an output channel, activations a scale a token), block (128 x 128 and groups of
    128), or keep. sqnr, range_p99, flushed: of the weights under that decision's scales (of a kept product under
    blocks). output_error: of the product both of whose operands are so quantized, None where it was not measured.
    bytes_16, bytes_8: in 16 bit, and in FP8 with scales. flops: a row of activations, of experts the active share.
    """

    module: str
    role: str
    shape: tuple[int, ...]
    decision: Decision
    reason: str
    sqnr: float | None
    range_p99: float | None
    flushed: float | None
    output_error: float | None
    bytes_16: int
    bytes_8: int
    flops: float

    @property
    def extra_bytes(self) -> int:
        """Return the bytes that keeping it in 16 bit costs in memory, and in memory traffic each time it is read."""
        return self.bytes_16 - self.bytes_8 if self.decision == "keep" else 0

    @property
    def extra_flops(self) -> float:
        """Return the FLOPs that keeping it leaves at 16-bit speed, a row."""
        return self.flops if self.decision == "keep" else 0.0


@dataclass(frozen=True)
class Advice:
    """An Advice is what `octorec analyze` says of a model.

    flops_share: of the FLOPs a row in the matrices of MATRIX_ROLES, those to be computed in FP8.

    bytes_16: of all matrices in 16 bit; bytes_after: of the same when the recipe was applied.
    """

    outcome: ModelDecision
    reason: str
    flops_share: float
    bytes_16: int
    bytes_after: int
    layers: tuple[LayerAdvice, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}


def judge(
    weights: Sequence[TensorStats],
    activations: Sequence[ActivationStats] = (),
    active: Mapping[str, float] | None = None,
) -> Advice:
    """Decide for every matrix whether to quantize it.

    `active`: the fraction of rows that reach a tensor, by its name; 1 where it is not named.
    """
    matrices = [stats for stats in weights if stats.distribution is not None and len(stats.shape) >= 2]
    inputs: dict[str, list[ActivationStats]] = defaultdict(list)
    for seen in activations:
        inputs[unit(seen.name)].append(seen)
    reasons = {_module(stats): reason for stats in matrices if (reason := _reason_to_keep(stats)) is not None}
    shapes = {_module(stats): stats.shape for stats in matrices if _module(stats) not in reasons}
    reasons |= width_faults(shapes, shapes)
    units: dict[str, list[TensorStats]] = defaultdict(list)
    for stats in matrices:
        if _module(stats) not in reasons:
            units[_unit(stats)].append(stats)
    decided = {name: _decide(parts, inputs[name]) for name, parts in units.items()}
    layers = []
    decision: Decision
    for stats in matrices:
        kept = reasons.get(_module(stats))
        decision, reason = ("keep", kept) if kept is not None else decided[_unit(stats)]
        layers.append(_layer(stats, decision, reason, inputs[_unit(stats)], (active or {}).get(stats.name, 1.0)))
    return _model(layers)


def _reason_to_keep(stats: TensorStats) -> str | None:
    """Return why a matrix stays in 16 bit whatever its numbers are."""
    if stats.role not in MATRIX_ROLES:
        return ROLE_REASONS[stats.role]
    if len(stats.shape) > 2 or not stats.name.endswith(".weight"):
        return "a recipe takes 2-D tensors whose names end in .weight"
    return None


def _decide(parts: list[TensorStats], inputs: list[ActivationStats]) -> tuple[Decision, str]:
    """Decide for the matrices of one product together."""
    channel, block = _failures("channel", parts, inputs), _failures("block", parts, inputs)
    if not channel:
        return "channel", "well within E4M3"
    if not block:
        return "block", f"a scale a channel is not enough ({channel[0]})"
    return "keep", f"neither a scale a channel ({channel[0]}) nor blocks ({block[0]}) are enough"


def _failures(decision: Decision, parts: list[TensorStats], inputs: list[ActivationStats]) -> list[str]:
    """Return what speaks against `decision`, the worst of each kind."""
    found = []
    for stats in parts:
        broken = stats.distribution.nan + stats.distribution.inf if stats.distribution else 0
        if broken:
            found.append(f"{_module(stats)} holds {broken:,} NaN or Inf")
        if decision == "block" and len(parts) > 1 and stats.shape[0] % GROUP:
            found.append(f"{_module(stats)} has {stats.shape[0]} rows, and fused parts must begin where a block does")
    for seen in inputs:
        broken = seen.distribution.nan + seen.distribution.inf
        if broken:
            found.append(f"the input of {seen.name} holds {broken:,} NaN or Inf")
    found += _limits([(f"the weights of {_module(stats)}", stats.scales[decision]) for stats in parts])
    found += _limits([(f"the input of {stats.name}", stats.scales[ACTIVATIONS[decision]]) for stats in inputs])
    errors = [(stats.errors[SCHEME_OF[decision]].both, stats.name) for stats in inputs if stats.errors]
    if errors and max(errors)[0] > MAX_OUTPUT_ERROR:
        error, name = max(errors)
        found.append(f"the output of {name} loses {error:.1%}, over {MAX_OUTPUT_ERROR:.1%}")
    return found


def _limits(found: list[tuple[str, ScaleStats]]) -> list[str]:
    """Return which limits the worst of `found` exceed."""
    if not found:
        return []
    out = []
    name, worst = min(found, key=lambda pair: pair[1].sqnr)
    if worst.sqnr < MIN_SQNR_DB:
        out.append(f"{name}: SQNR {worst.sqnr:.1f} dB, under {MIN_SQNR_DB}")
    name, worst = max(found, key=lambda pair: pair[1].range_p99)
    if worst.range_p99 > MAX_RANGE:
        out.append(f"{name}: {worst.range_p99:.1f} octaves inside a group, over {MAX_RANGE:g}")
    name, worst = max(found, key=lambda pair: pair[1].flushed)
    if worst.flushed > MAX_FLUSHED:
        out.append(f"{name}: {worst.flushed:.1%} become zero, over {MAX_FLUSHED:.0%}")
    return out


def _layer(
    stats: TensorStats, decision: Decision, reason: str, inputs: list[ActivationStats], active: float
) -> LayerAdvice:
    looked_at = "block" if decision == "keep" else decision
    scale = stats.scales.get(looked_at)
    errors = [each.errors[SCHEME_OF[looked_at]].both for each in inputs if each.errors]
    count = math.prod(stats.shape)
    rows, columns = count // stats.shape[-1], stats.shape[-1]
    scales = rows if decision == "channel" else -(-rows // GROUP) * -(-columns // GROUP)
    return LayerAdvice(
        module=_module(stats),
        role=stats.role,
        shape=stats.shape,
        decision=decision,
        reason=reason,
        sqnr=finite(scale.sqnr) if scale else None,
        range_p99=scale.range_p99 if scale else None,
        flushed=scale.flushed if scale else None,
        output_error=finite(max(errors)) if errors and stats.role in MATRIX_ROLES else None,
        bytes_16=2 * count,
        bytes_8=count + 4 * scales,
        flops=0.0 if stats.role in ("embedding", "norm") else 2.0 * count * active,
    )


def _model(layers: list[LayerAdvice]) -> Advice:
    products = [layer for layer in layers if layer.role in MATRIX_ROLES]
    flops = sum(layer.flops for layer in products)
    share = sum(layer.flops for layer in products if layer.decision != "keep") / flops if flops else 0.0
    before = sum(layer.bytes_16 for layer in layers)
    after = sum(layer.bytes_16 if layer.decision == "keep" else layer.bytes_8 for layer in layers)
    counts = Counter(layer.decision for layer in layers)
    forced = sum(layer.decision == "keep" for layer in products)
    said = (
        f"{share:.1%} of the products' FLOPs (heads, router and context apart) can be FP8: {counts['channel']:,} "
        f"matrices with a scale a channel, {counts['block']:,} with blocks. {counts['keep']:,} stay in 16 bit, "
        f"{forced:,} of them for their numbers or shapes. "
        f"The matrices shrink from {before / 1e6:,.1f} MB in 16 bit to {after / 1e6:,.1f} MB."
    )
    outcome: ModelDecision = (
        "quantize" if share >= MOST else ("quantize in part" if share >= HALF else "keep in 16 bit")
    )
    return Advice(outcome, said, share, before, after, tuple(layers))


def _module(stats: TensorStats) -> str:
    return stats.name.removesuffix(".weight")


def _unit(stats: TensorStats) -> str:
    return unit(_module(stats))
