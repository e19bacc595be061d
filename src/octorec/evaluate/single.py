"""Evaluate one checkpoint: its metrics with intervals, beside the floors. There is no verdict without another one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octorec.data.interactions import Interactions
from octorec.data.splits import Example
from octorec.evaluate.capped import CapsEffect
from octorec.evaluate.compare import Floor, compared_floors, evaluate_baselines
from octorec.evaluate.cutoffs import Lengths
from octorec.evaluate.origin import Origin
from octorec.evaluate.paired import Estimate, estimate, mean
from octorec.evaluate.predictions import Engine, Predictions, predict
from octorec.evaluate.unknown import NOTHING, Unknown


@dataclass(frozen=True)
class Evaluation:
    """An Evaluation is one checkpoint's metrics on held-out targets.

    k: items a list. targets: rows to predict, each with one target; or with several, `answers` in all. metrics: mean of
    `recall@10` and the like, and of `nll` over the targets that the catalog has, in nats. The rest is as in
    `compare.Comparison`.
    """

    k: int
    cutoffs: tuple[int, ...]
    users: int
    targets: int
    not_in_catalog: int
    in_history: int | None
    metrics: dict[str, Estimate]
    origin: Origin | None = None
    unknown: Unknown = NOTHING
    exclude_seen: bool = False
    floors: Mapping[str, Floor] = field(default_factory=dict)
    answers: int | None = None
    caps: CapsEffect | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "k": self.k,
            "cutoffs": list(self.cutoffs),
            "users": self.users,
            "targets": self.targets,
            **({} if self.answers is None else {"answers": self.answers}),
            "targets_not_in_catalog": self.not_in_catalog,
            "exclude_seen": self.exclude_seen,
            "targets_in_history": self.in_history,
            "unknown_items": self.unknown.to_dict(),
            "metrics": {name: value.to_dict() for name, value in self.metrics.items()},
            "floors": {name: floor.to_dict() for name, floor in self.floors.items()},
            **({} if self.caps is None else {"under_caps": self.caps.to_dict()}),
            **(self.origin.to_dict() if self.origin else {}),
        }


def evaluate(
    engine: Engine, examples: Sequence[Example], k: Lengths, train: Interactions | None = None, **how: Any
) -> Evaluation:
    """Ask an engine for every example. train: what the floors learn from; None: no floors. how: as `predict` has it."""
    predictions = predict(engine, examples, k, **how)
    floors = evaluate_baselines(train, examples, k, predictions.exclude_seen) if train else {}
    return evaluation_of(predictions, floors)


def evaluation_of(predictions: Predictions, floors: Mapping[str, Predictions]) -> Evaluation:
    """Return the metrics of predictions, and of floors on the same rows."""
    cuts = predictions.cutoffs
    pairs = {name: mean(np.zeros_like(values), values, bounded=True) for name, values in predictions.values().items()}
    if predictions.log_probs is not None:
        nll = np.where(predictions.scored, -predictions.log_probs.astype(np.float64).sum(1), np.nan)
        pairs["nll"] = mean(np.zeros_like(nll), nll)
    return Evaluation(
        k=predictions.k,
        cutoffs=cuts,
        users=len(set(predictions.user_ids)),
        targets=len(predictions),
        not_in_catalog=int((~predictions.known).sum()),
        in_history=predictions.in_history,
        metrics=estimate(predictions.user_ids, pairs),
        unknown=predictions.unknown,
        exclude_seen=predictions.exclude_seen,
        floors=compared_floors(predictions, floors, cuts),
        answers=None if predictions.others is None else predictions.n_targets,
        caps=predictions.caps,
    )
