"""Experiments and joined units made of numbers alone."""

from collections.abc import Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np

from octorec.evaluate.online.design import Experiment, Metric, Plan, Variant
from octorec.evaluate.online.joined import Column, Joined

HALVES = {"control": Fraction(1, 2), "wide": Fraction(1, 2)}


def metric(name: str = "clicks", **changes: Any) -> Metric:
    given: dict[str, Any] = {"kind": "mean", "event": "click", "window_s": 60.0, "role": "guardrail", "margin": 0.05}
    return Metric(name, **(given | changes))


def experiment(metrics: Sequence[Metric], shares: dict[str, Fraction] | None = None, **plan: Any) -> Experiment:
    variants = {name: Variant(name, share) for name, share in (shares or HALVES).items()}
    named = {one.name: one for one in metrics}
    return Experiment("test", "salt", "user", variants, named, Plan(**({"units": 1000} | plan)))


def stage(shares: dict[str, Fraction] | None = None) -> Any:
    return SimpleNamespace(shares=shares or HALVES)


def joined(
    variant: np.ndarray,
    columns: dict[str, Column],
    stages: np.ndarray | None = None,
    counts: dict[str, int] | None = None,
    ended: dict[str, dict[str, int]] | None = None,
) -> Joined:
    """Units of `variant` [U]; all of them assigned, in stage 0 unless `stages` says otherwise."""
    stages = np.zeros(len(variant), int) if stages is None else stages
    assigned = np.zeros((int(stages.max(initial=0)) + 1, max(2, int(variant.max(initial=0)) + 1)), int)
    np.add.at(assigned, (stages, variant), 1)
    units = np.arange(len(variant)).astype(str)
    return Joined(units, variant, stages, np.zeros(len(variant)), columns, assigned, counts or {}, ended or {})


def column(y: np.ndarray, **more: Any) -> Column:
    return Column(**({"y": y.astype(float), "mature": np.ones(len(y), bool)} | more))
