"""Three model families side by side: what their matrices and inputs look like, what FP8 does to their answers, and
which of the paper's claims that bears out.

Claims are judged from recorded rows alone (`benchmarks.rows.families`), so that a page can be rendered from a file of
them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from benchmarks.rows.families import Auc, Effect, FamilyRow, Summary
from octorec.kernels.fp8 import Granularity, dequantize, quantize
from octorec.models.layers import Linear
from octorec.numerics.activations import SCHEMES, ActivationStats
from octorec.numerics.stats import TensorStats

PAPER = Path(__file__).parent / "paper.yaml"
MEASURES = ("absmax", "mean_abs", "variance")  # of a Distribution, as the paper's figures show them
SEVERE = 0.05  # of a metric, relative: the margin of the demo's verdict
QUIET = 0.1  # variance that the paper's LLM and OneRec-V2 stay below


@dataclass(frozen=True)
class Family:
    """One model of the comparison.

    kind: ranker, OneRec-V2 or LLM. trained False: an initialised network, which is no evidence of anything.
    effects: the one that claims are judged by comes first. memory_bound and gain: as `intensity.Roofline` has them.
    """

    name: str
    kind: str
    source: str
    trained: bool
    weights: Sequence[TensorStats]
    inputs: Sequence[ActivationStats] = ()
    effects: Sequence[Effect] = ()
    memory_bound: float | None = None
    gain: float | None = None
    notes: Sequence[str] = ()

    @property
    def label(self) -> str:
        return self.name if self.trained else f"{self.name} (initialised, untrained: no evidence)"

    @property
    def matrices(self) -> list[TensorStats]:
        """Operands of products; tables that are looked up, vectors and heads are left out."""
        left_out = ("embedding", "head", "norm")
        return [stats for stats in self.weights if stats.scales and stats.role not in left_out]

    def row(self, aucs: Mapping[str, Auc] | None = None) -> FamilyRow:
        """The row for results: maxima, medians and minima over the matrices, and every effect."""
        others = [stats for stats in self.weights if stats.distribution and stats not in self.matrices]
        return FamilyRow(
            family=self.name,
            kind=self.kind,
            source=self.source,
            trained=self.trained,
            matrices=len(self.matrices),
            quiet=sum(stats.distribution.variance < QUIET for stats in self.matrices if stats.distribution),
            weights=_summary(self.matrices),
            other_tensors=_summary(others),
            inputs=_summary(self.inputs),
            sqnr_weights=_lowest(self.matrices, ("tensor", "channel", "block")),
            sqnr_inputs=_lowest(self.inputs, ("tensor", "token", "group")),
            output_error={scheme: _worst_error(self.inputs, scheme) for scheme in SCHEMES},
            effects=tuple(self.effects),
            memory_bound=self.memory_bound,
            gain=self.gain,
            notes=tuple(self.notes),
            aucs=None if aucs is None else dict(aucs),
        )


def _summary(found: Sequence[TensorStats] | Sequence[ActivationStats]) -> Summary | None:
    """Largest and median of each of MEASURES over the tensors, and the name that has the largest."""
    known = [(stats.name, stats.distribution) for stats in found if stats.distribution is not None]
    if not known:
        return None
    out: dict[str, Any] = {}
    for measure in MEASURES:
        values = np.array([getattr(distribution, measure) for _, distribution in known])
        out |= {f"{measure}_max": float(values.max()), f"{measure}_median": float(np.median(values))}
        out[f"{measure}_of"] = known[int(values.argmax())][0]
    return Summary(**out)


def _lowest(found: Sequence[TensorStats] | Sequence[ActivationStats], kinds: Sequence[str]) -> dict[str, float | None]:
    """The lowest SQNR in dB by granularity; None where nothing was lost or measured."""
    out = {}
    for kind in kinds:
        values = [stats.sqnr[kind] for stats in found if kind in stats.sqnr and np.isfinite(stats.sqnr[kind])]
        out[kind] = min(values, default=None)
    return out


def _worst_error(found: Sequence[ActivationStats], scheme: str) -> float | None:
    """The largest relative error of a product's output with both operands quantized."""
    return max((stats.errors[scheme].both for stats in found if scheme in stats.errors), default=None)


@contextmanager
def rounded(
    model: nn.Module, weights: Granularity | None, activations: Granularity | None, chosen: Callable[[str], bool]
) -> Iterator[None]:
    """Let the products of `model` whose names `chosen` takes run with FP8 operands; None rounds to bfloat16 instead.

    Weights and inputs are rounded and multiplied back to float32, then multiplied: the same values as FP8 operands with
    float32 accumulation. Products are `Linear` and `nn.Linear`. The weights are put back at the end.
    """
    products = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Linear | nn.Linear) and chosen(name)
    }
    assert products, "no product was chosen"
    kept = {name: module.weight.data for name, module in products.items()}
    hooks = []
    for module in products.values():
        assert isinstance(module.weight, nn.Parameter)
        module.weight.data = _round(module.weight.data, weights)
        hooks.append(module.register_forward_pre_hook(lambda _, args: (_round(args[0], activations), *args[1:])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name, module in products.items():
            module.weight.data = kept[name]


def _round(x: Tensor, granularity: Granularity | None) -> Tensor:
    if granularity is None:
        return x.to(torch.bfloat16).to(x.dtype)
    return dequantize(quantize(x.flatten(0, -2), granularity)).view(x.shape).to(x.dtype)


@dataclass(frozen=True)
class Claim:
    """One statement of the paper beside what a family of ours shows. reproduced None: not measured, or undecided."""

    id: str
    family: str
    quantity: str
    states: str
    found: str
    reproduced: bool | None


def paper() -> dict[str, Any]:
    """The paper's statements with their source, from paper.yaml."""
    return yaml.safe_load(PAPER.read_text())


def claims(rows: Sequence[FamilyRow]) -> list[Claim]:
    """Every statement of the paper against every trained family of its kind in `rows`."""
    out = []
    for stated in paper()["claims"]:
        for row in rows:
            if row.kind == stated["family"] and row.trained:
                found, reproduced = _judge(stated, row)
                about = (stated["id"], row.family, stated["quantity"], stated["states"])
                out.append(Claim(*about, found, reproduced))
    return out


def _judge(stated: Mapping[str, Any], row: FamilyRow) -> tuple[str, bool | None]:
    quantity = stated["quantity"]
    if quantity == "effect of FP8":
        return _judge_effect(stated, row)
    if quantity == "memory-bound share":
        share = row.memory_bound
        if share is None:
            return "not measured", None
        return f"{share:.0%} of the time; FP8 gains {row.gain:.2f}x at most", share >= stated["at_least"]
    assert row.weights is not None, "a family has matrices"
    measures = {
        "weight absmax": (row.weights.absmax_max, row.weights.absmax_of),
        "weight variance": (row.weights.variance_max, row.weights.variance_of),
    }
    value, of = measures[quantity]
    found = f"{value:.3g} at most over {row.matrices} matrices ({of})"
    if "below" in stated:
        found += f", median {row.weights.variance_median:.3g}; {row.quiet} are below"
    return found, value >= stated["at_least"] if "at_least" in stated else value < stated["below"]


def _judge_effect(stated: Mapping[str, Any], row: FamilyRow) -> tuple[str, bool | None]:
    """All products in FP8, scales a row. Severe: the interval loses over SEVERE; no loss: less; else undecided."""
    effect = next((e for e in row.effects if e.scheme in ("channel/token", "fp8") and not e.keeps), None)
    if effect is None:
        return "not measured", None
    unit = 1.0 if effect.relative else abs(effect.baseline)
    change, low, high = (value / unit for value in (effect.change, effect.low, effect.high))
    least, most = (-high, -low) if effect.larger_is_better else (low, high)  # of what is lost
    found = (
        f"{effect.metric} {effect.baseline:.4f} → {effect.value:.4f} "
        f"({change:+.1%}, 95 % interval {low:+.1%} .. {high:+.1%})"
    )
    if least <= SEVERE <= most:
        return f"{found}: undecided at {SEVERE:.0%}", None
    return found, (least > SEVERE) == stated["states"].startswith("severe")
