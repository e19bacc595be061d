"""Compare two checkpoints on the same targets: metrics, paired intervals, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octorec.data.interactions import Interactions
from octorec.data.splits import Example
from octorec.engine.request import UNKNOWN_ITEMS
from octorec.engine.widths import BeamWidth
from octorec.errors import InputError, MismatchError
from octorec.evaluate.baselines import MarkovChain, Popularity
from octorec.evaluate.capped import CapsEffect
from octorec.evaluate.cutoffs import K, Lengths, cutoffs, decisive, lengths
from octorec.evaluate.margin import MARGIN, check_margin
from octorec.evaluate.metrics import overlap
from octorec.evaluate.origin import Origin
from octorec.evaluate.paired import Estimate, estimate, mean, relative
from octorec.evaluate.predictions import BATCH, Engine, Predictions, of_examples, predict, require_examples
from octorec.evaluate.unknown import NOTHING, Unknown
from octorec.evaluate.verdict import Verdict, decide
from octorec.progress import Progress, part, silent

SIDES = "baseline", "candidate"


@dataclass(frozen=True)
class Agreement:
    """An Agreement says how alike two engines answer. overlap: mean share of a top-k list that both hold. identical:
    share of lists that are equal as sets. max_drift, mean_drift: |difference| of teacher-forced log-probabilities, one
    a level, in nats.
    """

    overlap: float
    identical: float
    max_drift: float
    mean_drift: float

    @classmethod
    def of(cls, shared: np.ndarray, drift: np.ndarray) -> "Agreement":
        """Sum up what was compared.

        shared [n]: `metrics.overlap`. drift [m, levels]: differences of log-probabilities.
        """
        return cls(float(shared.mean()), float((shared == 1).mean()), float(drift.max()), float(drift.mean()))


@dataclass(frozen=True)
class Floor:
    """A Floor is what needs no model, on the same targets. values: its metrics, as the baseline has them. lead: mean
    difference of the recall that gives the verdict, baseline - floor; above 0 the baseline beats it.
    """

    values: dict[str, float]
    lead: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {**self.values, "lead": self.lead.to_dict()}


@dataclass(frozen=True)
class Comparison:
    """A Comparison sets a candidate beside its baseline.

    k: items a list, whose recall and NDCG give the verdict. cutoffs: where the lists are cut for the metrics.
    targets: rows to predict, each with one target; or with several, `answers` in all.
    baseline, candidate: `recall@10` and the like and `nll` (mean over the targets both know, in nats).
    differences: relative difference of each metric of lists. nll: mean difference, candidate - baseline.
    not_in_catalog: targets that each side's catalog lacks, counted as misses. exclude_seen: whether the lists hold no
    item of the history. in_history: targets that stand in their own history: with exclude_seen misses for both; None
    where rows bring prompts.
    origin: where the targets come from, where that was looked up. unknown: what each side left out of the histories.
    floors: by name, `popularity` and `markov`; none where nothing was given to learn them from. caps: what they did to
    each side's lists.
    """

    k: int
    cutoffs: tuple[int, ...]
    users: int
    targets: int
    not_in_catalog: tuple[int, int]
    in_history: int | None
    baseline: dict[str, float]
    candidate: dict[str, float]
    differences: dict[str, Estimate]
    nll: Estimate
    agreement: Agreement
    verdict: Verdict
    origin: Origin | None = None
    unknown: tuple[Unknown, Unknown] = (NOTHING, NOTHING)
    exclude_seen: bool = False
    floors: Mapping[str, Floor] = field(default_factory=dict)
    answers: int | None = None  # None: as many as targets
    caps: tuple[CapsEffect | None, CapsEffect | None] = (None, None)

    @property
    def said_caps(self) -> list[CapsEffect]:
        """Return what caps did to the baseline's and the candidate's lists; nothing without caps."""
        return [one for one in self.caps if one is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "k": self.k,
            "cutoffs": list(self.cutoffs),
            "users": self.users,
            "targets": self.targets,
            **({} if self.answers is None else {"answers": self.answers}),
            "targets_not_in_catalog": dict(zip(("baseline", "candidate"), self.not_in_catalog, strict=True)),
            "exclude_seen": self.exclude_seen,
            "targets_in_history": self.in_history,
            "unknown_items": {
                name: one.to_dict() for name, one in zip(("baseline", "candidate"), self.unknown, strict=True)
            },
            "baseline": self.baseline,
            "candidate": self.candidate,
            "relative_difference": {name: value.to_dict() for name, value in self.differences.items()},
            "nll_difference": self.nll.to_dict(),
            "floors": {name: floor.to_dict() for name, floor in self.floors.items()},
            "agreement": vars(self.agreement),
            "verdict": self.verdict.to_dict(),
            **(
                {"under_caps": dict(zip(SIDES, map(CapsEffect.to_dict, caps), strict=True))}
                if (caps := self.said_caps)
                else {}
            ),
            **(self.origin.to_dict() if self.origin else {}),
        }


def compare(
    baseline: Engine,
    candidate: Engine,
    examples: Sequence[Example],
    k: Lengths = K,
    margin: float = MARGIN,
    beam_width: BeamWidth | None = None,
    users: Mapping[str, Mapping[str, Any]] | None = None,
    batch: int = BATCH,
    progress: Progress = silent,
    unknown_items: str = UNKNOWN_ITEMS,
    exclude_seen: bool | None = None,
    train: Interactions | None = None,
    domain: str = "",
    task: str | None = None,
    caps: Mapping[str, Any] | None = None,
) -> Comparison:
    """Ask both engines for every example and judge the candidate; see `predict` and `compare_predictions`.

    k: items a list, or several lengths: metrics are given at each, and the largest gives the verdict. train: what the
    floors learn from. domain, task: of the prompts of a model that reads them. caps: fields of `Request` that cap the
    lists of both.
    """
    check_margin(margin)
    require_examples(examples)
    total = 2 * len(examples)
    what, how = (examples, k, beam_width, users, batch), (unknown_items, exclude_seen, domain, task, caps)
    before = predict(baseline, *what, part(progress, 0, total), *how)
    after = predict(candidate, *what, part(progress, len(examples), total), *how)
    floors = evaluate_baselines(train, examples, k, before.exclude_seen) if train else None
    return compare_predictions(before, after, margin, floors)


def compare_predictions(
    baseline: Predictions,
    candidate: Predictions,
    margin: float = MARGIN,
    floors: Mapping[str, Predictions] | None = None,
) -> Comparison:
    """Compare two engines' answers to the same examples; recall and NDCG of the whole lists give the verdict. floors:
    by name, as `evaluate_baselines` gives them, shown beside the two."""
    check_margin(margin)
    _require_same_targets(baseline, candidate)
    _, nll = _log_prob_differences(baseline, candidate)
    cuts = cutoffs((*baseline.asked, *candidate.asked, baseline.k))
    before, after = {**baseline.values(cuts), "nll": nll[0]}, {**candidate.values(cuts), "nll": nll[1]}
    estimates = user_differences(baseline.user_ids, before, after)
    nll_estimate = estimates.pop("nll")
    return Comparison(
        k=baseline.k,
        cutoffs=cuts,
        users=len(set(baseline.user_ids)),
        targets=len(baseline),
        not_in_catalog=(int((~baseline.known).sum()), int((~candidate.known).sum())),
        in_history=baseline.in_history,
        baseline={name: float(np.nanmean(values)) for name, values in before.items()},
        candidate={name: float(np.nanmean(values)) for name, values in after.items()},
        differences=estimates,
        nll=nll_estimate,
        agreement=agreement_of(baseline, candidate),
        verdict=decide({name: estimates[name] for name in decisive(baseline.k)}, margin),
        unknown=(baseline.unknown, candidate.unknown),
        exclude_seen=baseline.exclude_seen,
        floors=compared_floors(baseline, floors or {}, cuts),
        answers=None if baseline.others is None else baseline.n_targets,
        caps=(baseline.caps, candidate.caps),
    )


def compared_floors(
    predictions: Predictions, floors: Mapping[str, Predictions], cuts: Sequence[int]
) -> dict[str, Floor]:
    """Return the metrics of floors at `cuts`, by item, each with how far `predictions` lead it."""
    return {name: _floor(floor, predictions, cuts) for name, floor in floors.items()}


def _floor(floor: Predictions, baseline: Predictions, cuts: Sequence[int]) -> Floor:
    values = {name: float(of_targets.mean()) for name, of_targets in floor.values(cuts).items()}
    return Floor(values, difference(baseline, floor))


def user_differences(
    user_ids: np.ndarray, before: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> dict[str, Estimate]:
    """Return the difference of every metric of two systems on the same targets [n], clustered by user: relative ones,
    and NLL's mean one.
    """
    pairs = {n: (mean if n == "nll" else relative)(values, after[n]) for n, values in before.items()}
    return estimate(user_ids, pairs)


def agreement_of(first: Predictions, second: Predictions) -> Agreement:
    """Return how alike two engines answered the same examples."""
    _require_same_targets(first, second)
    drift, _ = _log_prob_differences(first, second)
    return Agreement.of(overlap(first.ranked, second.ranked), drift)


def evaluate_baselines(
    train: Interactions, examples: Sequence[Example], k: Lengths = K, exclude_seen: bool = False
) -> dict[str, Predictions]:
    """Return the floors' answers to `examples`, learned from `train` alone; `known` then means that the
    target occurs in `train`.

    exclude_seen: whether the lists hold no item of the history: as in what is compared with them.
    """
    require_examples(examples)
    markov = MarkovChain.fit(train)
    items = set(markov.popularity.item_ids)
    known = np.array([not items.isdisjoint(example.targets) for example in examples])
    floors: dict[str, Popularity | MarkovChain] = {"popularity": markov.popularity, "markov": markov}
    asked = lengths(k)
    ranked = {name: floor.rank(examples, asked[-1], exclude_seen) for name, floor in floors.items()}
    how: dict[str, Any] = {"asked": asked, "exclude_seen": exclude_seen}
    return {name: of_examples(examples, found, known, **how) for name, found in ranked.items()}


def difference(predictions: Predictions, floor: Predictions, metric: str | None = None) -> Estimate:
    """Return the mean difference of `metric` (None: recall of the whole lists) between an engine and a floor. The
    engine beats the floor when the low end is above 0.
    """
    _require_same_targets(floor, predictions)
    metric = decisive(floor.k)[0] if metric is None else metric
    before, after = floor.values(predictions.cutoffs), predictions.values()
    if metric not in after:
        raise InputError("metric", metric, f"allowed: {', '.join(after)}")
    pair = mean(before[metric], after[metric], bounded=True)
    return estimate(predictions.user_ids, {metric: pair})[metric]


def _require_same_targets(baseline: Predictions, candidate: Predictions) -> None:
    for name in ("user_ids", "targets", "others"):
        if not np.array_equal(getattr(baseline, name), getattr(candidate, name)):
            raise MismatchError(f"predictions: {name}", len(candidate), f"must be the baseline's {len(baseline)}")
    if baseline.k != candidate.k:
        raise MismatchError("predictions: k", candidate.k, f"the baseline's is {baseline.k}")
    if baseline.exclude_seen != candidate.exclude_seen:
        allowed = f"the baseline's is {baseline.exclude_seen}: such lists cannot be compared"
        raise MismatchError("predictions: exclude_seen", candidate.exclude_seen, allowed)


def _log_prob_differences(baseline: Predictions, candidate: Predictions) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return |difference| a level of the targets both know [m, levels], and both sides' NLL [n], NaN elsewhere."""
    sides = [baseline.log_probs, candidate.log_probs]
    if sides[0] is None or sides[1] is None:
        raise InputError("predictions: log_probs", None, "needed on both sides: a floor has none, see `difference`")
    if sides[0].shape != sides[1].shape:
        allowed = f"the baseline has {sides[0].shape[1]}: both need one catalog"
        raise MismatchError("predictions: levels", sides[1].shape[1], allowed)
    both = baseline.scored & candidate.scored
    if not both.any():
        raise MismatchError("predictions: targets", len(both), "no target is in both catalogs")
    wide = [side.astype(np.float64) for side in sides if side is not None]
    broken = np.flatnonzero(both & ~(np.isfinite(wide[0]) & np.isfinite(wide[1])).all(1))
    if len(broken):
        user, target = baseline.user_ids[broken[0]], baseline.targets[broken[0]]
        raise InputError("predictions: log_probs", f"NaN or infinity for {target} of user {user}", "must be finite")
    nll = [np.where(both, -side.sum(1), np.nan) for side in wide]
    return np.abs(wide[1] - wide[0])[both], nll
