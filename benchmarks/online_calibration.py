"""How often the verdict online errs, and what power it has, from assignment to the word.

    python -m benchmarks.online_calibration --simulations 20000

A run takes unit ids that follow each other, assigns them as the server does (`octorec.evaluate.online.assign`), draws
what they do, and asks `octorec.evaluate.online.judge` for a report whenever the cell says so, with the looks that were
recorded before. Letters: U units of a run.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from scipy.stats import skew

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows import OnlineCellRow, SampleRatioRow
from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.design import CONTROL, Experiment, Metric, Plan, Variant
from octorec.evaluate.online.joined import Column, Joined
from octorec.evaluate.online.judge import judge
from octorec.evaluate.online.past import Past
from octorec.evaluate.online.results import Look
from octorec.evaluate.online.sample_ratio import LEVEL, expected_shares, log_bayes_factor
from octorec.evaluate.online.size import sizes

RESULTS = records.RESULTS / "online_calibration.jsonl"
ALPHA, POWER = 0.05, 0.8  # of the plans; an end errs in ALPHA / 2 at most
POOL = 200_000  # unit ids that runs take theirs from
TREATMENT, ROLES = "treatment", ("guardrail", "goal")

What = Literal["proportion", "rare proportion", "revenue", "covariate", "ratio", "few units"]
When = Literal["once", "planned", "early and late", "missed", "overrun", "ended early"]
MARGINS: dict[What, float] = {
    "proportion": 0.2, "rare proportion": 0.4, "revenue": 0.15, "covariate": 0.02, "ratio": 0.1, "few units": 0.5,
}  # fmt: skip
RATES = {"proportion": 0.3, "rare proportion": 0.03}
PLANNED: dict[When, tuple[float, ...]] = {"once": (1.0,), "planned": (0.25, 0.5, 0.75, 1.0)}
# Shares of the plan at which a report is asked for; the last is the end.
REPORTS: dict[When, tuple[float, ...]] = {
    **PLANNED,
    "early and late": (0.1, 0.3, 0.55, 0.999, 1.0),
    "missed": (0.3, 1.0),
    "overrun": (0.25, 0.5, 0.75, 1.3),
    "ended early": (0.25, 0.5, 0.7),
}


@dataclass(frozen=True)
class Cell:
    """What is measured, the treatment's share of the units, and when it is looked at.

    truth: `same`, where nothing differs, or `margin`, where the treatment loses just what the guardrail allows.
    """

    what: What
    share: Fraction
    when: When
    truth: Literal["same", "margin"]


HALF, TENTH, MOST = Fraction(1, 2), Fraction(1, 10), Fraction(9, 10)
LOOKED_AT: tuple[tuple[What, Fraction, When], ...] = (
    ("proportion", HALF, "once"),
    ("proportion", HALF, "planned"),
    ("proportion", HALF, "early and late"),
    ("proportion", HALF, "missed"),
    ("proportion", HALF, "overrun"),
    ("proportion", HALF, "ended early"),
    ("proportion", TENTH, "planned"),
    ("rare proportion", TENTH, "once"),
    ("revenue", HALF, "planned"),
    ("revenue", TENTH, "once"),
    ("revenue", TENTH, "planned"),
    ("revenue", MOST, "once"),
    ("covariate", HALF, "planned"),
    ("covariate", TENTH, "once"),
    ("ratio", HALF, "once"),
    ("ratio", TENTH, "once"),
    ("few units", HALF, "once"),
)
CELLS = [Cell(what, share, when, truth) for what, share, when in LOOKED_AT for truth in ("same", "margin")]


def draw(what: What, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The numbers of units whose engine is the control's: y, and x or per where the metric has them [U]."""
    if what in RATES:  # brought to 0 and 1 by `lose`
        return {"y": rng.random(count)}
    if what == "revenue":
        return {"y": rng.lognormal(0, 1, count)}
    if what == "covariate":  # means far from 0, and little that the past does not say
        x = rng.normal(10, 2, count)
        return {"y": x + rng.normal(0, 1, count), "x": x}
    if what == "ratio":  # a heavy user clicks on a share of what it is shown
        per = 1.0 + rng.geometric(0.2, count)
        return {"y": rng.binomial(per.astype(int), rng.beta(2, 8, count)).astype(float), "per": per}
    return {"y": rng.normal(1, 3, count)}


def lose(what: What, y: np.ndarray, treated: np.ndarray, loss: float, rng: np.random.Generator) -> np.ndarray:
    """Outcomes where the units `treated` have lost the share `loss` of their mean [U]."""
    if what in RATES:
        return (y < RATES[what] * np.where(treated, 1 - loss, 1.0)).astype(float)
    if what == "ratio":
        return np.where(treated, rng.binomial(y.astype(int), 1 - loss), y)
    if what in ("covariate", "few units"):
        return y - loss * (10.0 if what == "covariate" else 1.0) * treated
    return y * np.where(treated, 1 - loss, 1.0)


@lru_cache
def past(what: What) -> Past:
    """Mean, variance and correlation, of a million units."""
    rng = np.random.default_rng(7)
    drawn = draw(what, 1_000_000, rng)
    y = lose(what, drawn["y"], np.zeros(len(drawn["y"]), bool), 0.0, rng)
    if what == "ratio":
        ratio = y.sum() / drawn["per"].sum()
        left = (y - ratio * drawn["per"]) / drawn["per"].mean()
        return Past(len(y), float(ratio), float(left.var()), 0.0, float(skew(left)))
    known = float(np.corrcoef(drawn["x"], y)[0, 1]) if "x" in drawn else 0.0
    return Past(len(y), float(y.mean()), float(y.var()), known, 0.0 if known else float(skew(y)))


@lru_cache
def experiment(what: What, share: Fraction, planned: tuple[float, ...]) -> Experiment:
    """An experiment of the size that its guardrail asks for, with a goal on the same numbers."""
    kind: Any = "ratio" if what == "ratio" else "proportion" if what in RATES else "mean"
    covariate = 60.0 if what == "covariate" else None
    per = "shown" if kind == "ratio" else None
    metrics = {
        role: Metric(role, kind, "event", 60.0, role, per, "up", margin, "relative", covariate)  # type: ignore[arg-type]
        for role, margin in zip(ROLES, (MARGINS[what], 0.0), strict=True)
    }
    variants = {CONTROL: Variant(CONTROL, 1 - share), TREATMENT: Variant(TREATMENT, share)}
    first = Experiment("calibration", "salt", "user", variants, metrics, Plan(20, None, planned, ALPHA, POWER))
    size = sizes(first, {role: past(what) for role in metrics})[0].units
    assert size is not None
    plan = Plan(max(size, 400 if what == "few units" else 0), None, planned, ALPHA, POWER)
    return Experiment("calibration", "salt", "user", variants, metrics, plan)


@lru_cache
def assigned(share: Fraction) -> np.ndarray:
    """Whether units 0 to POOL - 1 get the treatment [POOL]."""
    known = experiment("proportion", share, (1.0,))
    return np.array([assign(known, str(unit)).variant == TREATMENT for unit in range(POOL)])


def rates(cell: Cell, simulations: int, seed: int = 0) -> dict[str, float]:
    """Shares of runs, by name, where at some look:

    goal errs: the goal's word is better or worse. guardrail errs: the word is not_inferior though the margin is lost.
    shows: it is not_inferior. coverage: all looks' intervals hold the truth. at the end, coverage: the last one does.
    """
    rng = np.random.default_rng(seed)
    judged = experiment(cell.what, cell.share, PLANNED.get(cell.when, PLANNED["planned"]))
    if cell.truth == "margin":  # where a goal says nothing
        judged = replace(judged, metrics={"guardrail": judged.metrics["guardrail"]})
    assert judged.plan.units is not None
    counts = [round(share * judged.plan.units) for share in REPORTS[cell.when]]
    loss = MARGINS[cell.what] if cell.truth == "margin" else 0.0
    seen = np.zeros((simulations, 4))
    for number in range(simulations):
        start = int(rng.integers(POOL - counts[-1]))
        treated = assigned(cell.share)[start : start + counts[-1]]
        drawn = draw(cell.what, counts[-1], rng)
        y = lose(cell.what, drawn["y"], treated, loss, rng)
        seen[number] = _seen(_looks(judged, treated, {**drawn, "y": y}, counts), -loss)
    goal, shows, every, last = seen.mean(0).tolist()
    name = "goal errs" if cell.truth == "same" else "guardrail errs"
    found = {name: goal if cell.truth == "same" else shows, "coverage": every, "coverage at the end": last}
    return {"units": float(judged.plan.units), **found, **({"power": shows} if cell.truth == "same" else {})}


def _looks(
    judged: Experiment, treated: np.ndarray, numbers: dict[str, np.ndarray], counts: Sequence[int]
) -> Sequence[Look]:
    looks: Sequence[Look] = ()
    whole = treated.astype(int)
    stages = [SimpleNamespace(shares={name: one.share for name, one in judged.variants.items()})]
    for count in counts:
        variant, zeros = whole[:count], np.zeros(count, int)
        column = Column(mature=np.ones(count, bool), **{key: values[:count] for key, values in numbers.items()})
        units = np.bincount(variant, minlength=2)[None]
        rows = Joined(zeros, variant, zeros, zeros, dict.fromkeys(judged.metrics, column), units, {}, {})
        looks = judge(judged, rows, stages, looks, 1.0, 0.0, 0.0, final=count == counts[-1]).looks
    return looks


def _seen(looks: Sequence[Look], truth: float) -> tuple[bool, bool, bool, bool]:
    """Whether the goal has a word, the guardrail is not inferior, all looks cover the truth, and the last one does."""
    guardrails, goals = ([one for look in looks for one in look.effects if one.metric == role] for role in ROLES)
    covered = [one.low <= truth <= one.high for one in guardrails]
    goal = any(one.outcome != "inconclusive" for one in goals)
    return goal, any(one.outcome == "not_inferior" for one in guardrails), all(covered), covered[-1]


def ratio_rate(share: Fraction, simulations: int, seed: int = 0) -> float:
    """The share of sound experiments that the sample-ratio check ever finds broken, asked every 200 of 20,000 units."""
    rng = np.random.default_rng(seed)
    steps = np.diff(np.append(0, np.cumsum(assigned(share))[199::200]))
    shares = expected_shares([1 - share, share])
    found = 0
    for _ in range(simulations):
        treated = np.cumsum(rng.choice(steps, 100))
        counts = np.stack([200 * np.arange(1, 101) - treated, treated], 1)
        found += bool((log_bayes_factor(counts, shares) > -np.log(LEVEL)).any())
    return found / simulations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--skip", type=int, default=0, help="cells that are measured already, the first so many")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers) as pool:
        cells = CELLS[options.skip :]
        found = pool.map(rates, cells, [options.simulations] * len(cells))
        for cell, one in zip(cells, found, strict=True):
            about = {**vars(cell), "share": str(cell.share), "simulations": options.simulations}
            found_rates = {name: round(value, 5) for name, value in one.items()}
            row = records.typed("rates", {**about, **found_rates}, OnlineCellRow)
            records.append(options.out, row)
            print(records.as_json(row), flush=True)
    for share in (HALF, TENTH):
        rate = round(ratio_rate(share, options.simulations), 5)
        ratio = SampleRatioRow(what="sample ratio", share=str(share), simulations=options.simulations, errs=rate)
        records.append(options.out, ratio)
        print(records.as_json(ratio), flush=True)


if __name__ == "__main__":
    run(main)
