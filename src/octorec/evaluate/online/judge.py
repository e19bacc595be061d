"""Judge an experiment: whether it can be trusted, whether a look is due, and what the look says.

A look is due when the units whose windows have all passed reach the next planned share, or the plan's days are over.
What it may spend follows from what was really reached (`bounds`). An end is alone where every guardrail has to clear
its margin, so that the verdict errs no more often than one of them. It is joint where any one may decide: `inferior` of
the guardrails, and both words of the goals, whose error is shared among all of them and the treatments (Bonferroni).
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np

from octorec.evaluate.online.bounds import bounds, spent
from octorec.evaluate.online.contrast import contrast
from octorec.evaluate.online.design import CONTROL, Experiment, Plan
from octorec.evaluate.online.effect import Bounds, effect
from octorec.evaluate.online.joined import IN_TWO, LOST, LOST_OUTCOMES, Joined
from octorec.evaluate.online.power import power_left
from octorec.evaluate.online.results import AbReport, Effect, Look, SampleRatio
from octorec.evaluate.online.sample_ratio import LEVEL, sample_ratio
from octorec.evaluate.verdict import MIN_USERS, Outcome

MOST_IN_TWO = 0.01  # share of units that may have been seen in two variants
MOST_LOST = 0.01  # share of exposures, and of outcomes, that may have been lost
DAY = 86400


class StageShares(Protocol):
    """StageShares are what is read of a stage: the shares of its variants."""

    @property
    def shares(self) -> Mapping[str, Fraction]: ...


def judge(
    experiment: Experiment,
    joined: Joined,
    stages: Sequence[StageShares],
    looks: Sequence[Look],
    lowest_ratio_p: float,
    now: float,
    started: float,
    final: bool = False,
) -> AbReport:
    """Judge an experiment as it stands; the report's looks are `looks`, and one more where one was due.

    looks, lowest_ratio_p: as the record holds them; the caller records the new look and the new p. now, started:
    seconds since 1970. final: a person ends the experiment: this look is the last and spends what a look at its share
    of the plan may, no more, as the person may have seen the looks before. Without units that the last look did not
    have, and after a final look, the last look stands.
    """
    ratio = sample_ratio(tuple(experiment.variants), joined.assigned, [one.shares for one in stages], lowest_ratio_p)
    mature = np.all([column.mature for column in joined.columns.values()], axis=0)
    units = int(mature.sum())
    broken = _broken(experiment, joined, mature, ratio)
    looks = tuple(looks)
    due = _due(experiment.plan, looks, units, (now - started) / DAY, final)
    if due is not None and not broken:
        looks = (*looks, _look(experiment, joined, mature, looks, now, *due))
    ended = bool(looks) and looks[-1].final
    outcome = verdict(experiment, looks[-1].effects) if looks else "inconclusive"
    return AbReport(
        experiment=experiment.name,
        outcome="broken" if broken else outcome,
        broken=broken,
        sample_ratio=ratio,
        looks=looks,
        units=units,
        next_look=None if ended else _next_units(experiment.plan, looks),
        counts=joined.counts,
        ended=joined.ended,
        power={} if ended or broken else power_left(experiment, looks),
    )


def verdict(experiment: Experiment, effects: Sequence[Effect]) -> Outcome:
    """Return the word for all effects together.

    inferior: a guardrail is inferior, or a goal became worse. not_inferior: every guardrail is not inferior and, where
    there are goals, one became better.
    """
    if any(one.outcome == "inferior" for one in effects):
        return "inferior"
    goals = [one for one in effects if experiment.metrics[one.metric].role == "goal"]
    guardrails = [one for one in effects if experiment.metrics[one.metric].role == "guardrail"]
    better = any(one.outcome == "not_inferior" for one in goals) or not goals
    kept = all(one.outcome == "not_inferior" for one in guardrails)
    return "not_inferior" if better and kept else "inconclusive"


def shared_by(experiment: Experiment, role: str) -> int:
    """Return among how many metrics and treatments the error of one role is shared."""
    return len(experiment.treatments) * sum(metric.role == role for metric in experiment.metrics.values())


def _due(plan: Plan, looks: Sequence[Look], units: int, days: float, final: bool) -> tuple[float, float, bool] | None:
    """Return the share of the plan that is reached, the share whose error may be spent, and whether
    this is the last look.

    None where no look is due. What the plan ends may spend all, what a person ends only what was reached.
    """
    last = looks[-1] if looks else None
    if units == 0 or (last is not None and (last.final or units <= last.units)):
        return None
    if plan.units is not None:
        reached, needed = units / plan.units, _next_units(plan, looks)
        due = needed is not None and units >= needed
    else:
        assert plan.days is not None
        reached = days / plan.days
        due = reached >= _next_share(plan, looks)
    over = reached >= 1 or (plan.days is not None and days >= plan.days)
    return (reached, 1.0 if over else reached, over or final) if due or over or final else None


def _next_share(plan: Plan, looks: Sequence[Look]) -> float:
    reached = looks[-1].information if looks else 0.0
    return next((share for share in plan.looks if share > reached + 1e-9), 1.0)


def _next_units(plan: Plan, looks: Sequence[Look]) -> int | None:
    return None if plan.units is None else math.ceil(_next_share(plan, looks) * plan.units - 1e-6)


def _look(
    experiment: Experiment,
    joined: Joined,
    mature: np.ndarray,
    looks: Sequence[Look],
    now: float,
    reached: float,
    spends: float,
    final: bool,
) -> Look:
    units = [*(look.units for look in looks), int(mature.sum())]
    shares = [*(min(look.information, 1.0) for look in looks), spends]
    level = experiment.plan.alpha / 2

    def bound(shared: int) -> float:
        return bounds(units, [spent(share, level / shared) for share in shares])[-1]

    alone = bound(1)
    of_role = {role: Bounds(alone, bound(max(1, shared_by(experiment, role)))) for role in ("guardrail", "goal")}
    places = {name: np.flatnonzero(mature & (joined.variant == n)) for n, name in enumerate(experiment.variants)}
    effects = tuple(
        effect(
            metric, name, contrast(metric, joined.columns[key], joined.stage, places[CONTROL], places[name]),
            of_role[metric.role],
        )
        for key, metric in experiment.metrics.items()
        for name in experiment.treatments
    )  # fmt: skip
    return Look(len(looks) + 1, now, units[-1], reached, 2 * spent(shares[-1], level), alone, final, effects)


def _broken(experiment: Experiment, joined: Joined, mature: np.ndarray, ratio: SampleRatio) -> tuple[str, ...]:
    """Return the reasons why the experiment cannot be trusted, in words."""
    why = []
    if ratio.broken:
        shown = ", ".join(f"{name} {ratio.assigned[name]:,} of {hope:,.0f}" for name, hope in ratio.expected.items())
        why.append(
            f"the variants have other shares of units than planned: {shown} expected (p {ratio.p:.2g} < {LEVEL})"
        )
    total, in_two = sum(ratio.assigned.values()), joined.counts.get(IN_TWO, 0)
    passed = np.bincount(joined.variant[mature], minlength=len(experiment.variants))
    for number, (name, hope) in enumerate(ratio.expected.items()):
        if not ratio.assigned[name] and hope >= MIN_USERS:
            why.append(f"{name} has no unit, of {hope:,.0f} expected")
        elif total and not passed[number] and mature.sum() * hope / total >= MIN_USERS:
            why.append(f"{name} has no unit whose window has passed, where the others have {mature.sum():,}")
    if in_two > MOST_IN_TWO * total:
        why.append(f"{in_two:,} of {total:,} units were seen in two variants, more than {MOST_IN_TWO:.0%}")
    rows = sum(sum(words.values()) for words in joined.ended.values())
    for words, there in ((LOST, rows), (LOST_OUTCOMES, joined.outcomes)):
        lost = joined.counts.get(words, 0)
        if lost > MOST_LOST * (lost + there):
            what = words.removesuffix(" lost")
            why.append(f"{lost:,} of {lost + there:,} {what} were lost, more than {MOST_LOST:.0%}")
    return tuple(why)
