"""An analysis is what was found in a checkpoint, with rows for tables that people read."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from octorec.numerics.activations import ActivationStats
from octorec.numerics.advice import Advice, LayerAdvice
from octorec.numerics.intensity import Roofline
from octorec.numerics.stats import TensorStats, finite
from octorec.quant.recipe import WeightGranularity

DECISIONS = {"channel": "quantize", "block": "use blocks", "keep": "keep in 16 bit"}


@dataclass(frozen=True)
class Analysis:
    """An Analysis is what was found in a checkpoint. notes: what one should know about it in words.

    recipe: the advice as a recipe's text, None where there is nothing to quantize or all of it is quantized already.
    """

    checkpoint: str
    family: str
    weights: tuple[TensorStats, ...]
    activations: tuple[ActivationStats, ...]
    advice: Advice
    recipe: str | None
    speed: Roofline
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON: rows without their histograms."""
        return {
            "checkpoint": self.checkpoint,
            "family": self.family,
            "notes": list(self.notes),
            "verdict": self.advice.to_dict(),
            "speed": self.speed.to_dict(),
            "weights": [_without_octaves(stats.row()) for stats in self.weights],
            "activations": [_without_octaves(stats.row()) for stats in self.activations],
        }

    def weight_rows(self) -> list[dict[str, Any]]:
        """Return rows for Parquet: a tensor's statistics and what was decided of it."""
        decided = {layer.module: layer for layer in self.advice.layers}
        rows = []
        for stats in self.weights:
            layer = decided.get(stats.name.removesuffix(".weight"))
            fields = ("decision", "reason", "output_error", "extra_bytes", "extra_flops")
            rows.append({**stats.row(), **{name: getattr(layer, name) if layer else None for name in fields}})
        return rows


def folded(weights: Sequence[TensorStats]) -> list[dict[str, Any]]:
    """Return a row for each tensor; the experts of a block are one."""
    groups: dict[str, list[TensorStats]] = defaultdict(list)
    for stats in sorted(weights, key=lambda stats: natural(stats.name)):
        groups[re.sub(r"experts\.\d+\.", "experts.*.", stats.name)].append(stats)
    return [_row(name if len(group) > 1 else group[0].name, group) for name, group in groups.items()]


def folded_advice(layers: Sequence[LayerAdvice]) -> list[dict[str, Any]]:
    """Return a row for matrices whose names differ in numbers alone, with one decision and one kind of reason; it has
    the worst of each measure.

    `blocks.*.ffn.up_proj` are all of that name; where they differ in decision, the blocks are listed.
    """
    groups: dict[tuple[str, str], list[LayerAdvice]] = defaultdict(list)
    for layer in sorted(layers, key=lambda layer: natural(layer.module)):
        groups[pattern(layer.module), layer.decision].append(layer)
    split = {name for name, _ in groups if sum(name == other for other, _ in groups) > 1}
    return [_advice_row(name, group, name in split) for (name, _), group in groups.items()]


def _advice_row(name: str, group: list[LayerAdvice], split: bool) -> dict[str, Any]:
    if len(group) == 1:
        name = group[0].module
    elif split:
        name = spans([layer.module for layer in group])
    kept = group[0].decision == "keep"
    return {
        "layer": name,
        "matrices": len(group),
        "role": group[0].role,
        "decision": DECISIONS[group[0].decision],
        "reason": group[0].reason,
        "SQNR": min((layer.sqnr for layer in group if layer.sqnr is not None), default=None),
        "octaves": max((layer.range_p99 for layer in group if layer.range_p99 is not None), default=None),
        "flushed": max((layer.flushed for layer in group if layer.flushed is not None), default=None),
        "output error": max((layer.output_error for layer in group if layer.output_error is not None), default=None),
        "MB more": sum(layer.extra_bytes for layer in group) / 1e6 if kept else None,
        "MFLOP a row": sum(layer.extra_flops for layer in group) / 1e6 if kept else None,
    }


def pattern(name: str) -> str:
    """Return `name` with a star for each number: alike for all blocks and experts."""
    return re.sub(r"\d+", "*", name)


def spans(names: Sequence[str]) -> str:
    """Return names that differ in numbers alone as one, the first of their numbers as spans:
    `blocks.(0-2,5).ffn.up_proj`.
    """
    numbers = sorted({int(found[0]) for name in names if (found := re.search(r"[0-9]{1,9}", name))})
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    said = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
    return pattern(names[0]).replace("*", f"({said})", 1)


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key that orders block 2 before block 10."""
    return [(int(part), "") if re.fullmatch("[0-9]{1,9}", part) else (-1, part) for part in re.split("([0-9]+)", name)]


def _row(name: str, group: list[TensorStats]) -> dict[str, Any]:
    found = [stats.distribution for stats in group if stats.distribution is not None]
    count = sum(d.count for d in found)
    mean = sum(d.mean * d.count for d in found) / max(count, 1)
    squares = sum((d.variance + (d.mean - mean) ** 2) * d.count for d in found)
    shape = " x ".join(str(size) for size in group[0].shape)
    channel = [stats.scales["channel"] for stats in group if stats.scales]
    row: dict[str, Any] = {
        "tensor": name,
        "role": group[0].role,
        "shape": f"{len(group)} x ({shape})" if len(group) > 1 else shape,
        "type": group[0].dtype,
        "absmax": max((d.absmax for d in found), default=None),
        "mean |w|": sum(d.mean_abs * d.count for d in found) / count if count else None,
        "variance": squares / count if count else None,
        "p99.9": max((d.p999 for d in found), default=None),
        "NaN/Inf": sum(d.nan + d.inf for d in found),
        "10x channels": max((s.outlier_channels for s in group if s.outlier_channels is not None), default=None),
        "octaves": max((each.range_p99 for each in channel), default=None),
        "flushed": max((each.flushed for each in channel), default=None),
    }
    for kind in get_args(WeightGranularity):
        row[f"SQNR {kind}"] = finite(min((stats.sqnr[kind] for stats in group if stats.sqnr), default=None))
    return row


def values(weights: Sequence[TensorStats]) -> int:
    """Return the number of values of all tensors."""
    return sum(math.prod(stats.shape) for stats in weights)


def _without_octaves(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "octaves"}
