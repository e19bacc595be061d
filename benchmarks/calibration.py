"""How often the verdict's intervals err, and what power they have, on populations whose truth is known.

    python -m benchmarks.calibration --simulations 20000

A population is a set of users whose sums are known. A trial draws as many users from it with replacement, as counts of
users with equal sums, and asks the code that decides (`octorec.evaluate.paired.Sums`) whether its interval leaves out
the population's own ratio. Letters: U users of a population.
"""

import argparse
import math
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows import NllRow, PopulationRow
from octorec.evaluate.likelihood import threshold
from octorec.evaluate.paired import JOINT, Paired, Sums, mean, relative

RESULTS = records.RESULTS / "calibration.jsonl"
ALPHA = 0.025  # of each end
IDEAL = 0.9  # power of an interval that needs no caution, at the distance below
DISTANCE = 1.959964 + 1.281552  # standard errors

Who = Literal["each hit alone", "whole users", "the users with most"]


@dataclass(frozen=True)
class Population:
    """losses: expected in a sample. who loses: each hit by itself; a user's hits together; only users with most hits.

    balanced: as much is gained as lost, so that the ratio is 0. kind: a relative difference (ratio) or a mean one.
    """

    losses: int
    targets: int
    who: Who
    balanced: bool
    kind: Literal["ratio", "mean"]


@dataclass(frozen=True)
class Nll:
    """Differences of NLL, one a user: their shape and how many users a sample has."""

    shape: Literal["normal", "heavy tails", "rare large losses"]
    users: int


RATES = {20: 0.05, 100: 0.1, 1000: 0.3}  # share of hits that are lost
WHO_LOSES: dict[int, tuple[Who, ...]] = {  # by targets a user
    1: ("each hit alone",),
    10: ("each hit alone", "whole users", "the users with most"),
}
POPULATIONS = [
    Population(losses, targets, who, balanced, kind)
    for losses in RATES
    for targets, whos in WHO_LOSES.items()
    for who in whos
    for balanced in (False, True)
    for kind in ("ratio", "mean")
]
NLLS = [Nll(shape, users) for shape in ("normal", "heavy tails", "rare large losses") for users in (1000, 10_000)]


def metrics(population: Population, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Paired]]:
    """The users of a population: each target's user, and recall and NDCG."""
    hits = 0.2 * population.targets  # a user
    count, rate = math.ceil(population.losses / RATES[population.losses] / hits), RATES[population.losses]
    shape = (count, population.targets)
    chance = rng.beta(2, 8, (count, 1)) if population.targets > 1 else np.full((count, 1), 0.2)
    before = rng.random(shape) < chance
    lost = before & _lost(population.who, before, rate, rng)
    room = (~before).sum()
    gained = ~before & (rng.random(shape) < lost.sum() / room) if population.balanced else np.zeros(shape, bool)
    after = (before & ~lost) | gained
    gain = 1 / np.log2(rng.integers(0, 10, (2, *shape)) + 2.0)
    gain[1] = np.where(rng.random(shape) < 0.1, gain[1], gain[0])  # some change places
    make = relative if population.kind == "ratio" else _bounded_mean
    pairs = {"recall": (before * 1.0, after * 1.0), "ndcg": (before * gain[0], after * gain[1])}
    found = {name: make(*(side.ravel() for side in sides)) for name, sides in pairs.items()}
    return np.repeat(np.arange(count), population.targets), found


def nll_metrics(nll: Nll, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Paired]]:
    """The users of a population of NLL, one target each."""
    draws = {
        "normal": lambda: rng.normal(0.001, 0.2, nll.users),
        "heavy tails": lambda: 0.1 * rng.standard_t(3, nll.users),
        "rare large losses": lambda: rng.normal(0, 0.05, nll.users) + rng.exponential(1, nll.users)
        * (rng.random(nll.users) < 0.03),
    }  # fmt: skip
    after = draws[nll.shape]()
    return np.arange(nll.users), {"nll": mean(np.zeros(nll.users), after)}


def error_rates(population: Population | Nll, simulations: int, seed: int = 0) -> dict[str, float]:
    """Shares of samples whose interval errs, and the power at DISTANCE standard errors, by name; `users` of a sample.

    not_inferior errs: every metric's low end lies above its truth. inferior errs: some metric's joint high end lies
    below it: what `evaluate.verdict.decide` would get wrong at a margin that is the truth.
    """
    rng = np.random.default_rng(seed)
    users, pairs = nll_metrics(population, rng) if isinstance(population, Nll) else metrics(population, rng)
    count = int(users[-1]) + 1
    judges = [Judge(users, count, pair) for pair in pairs.values()]
    seen = np.zeros((len(judges), simulations, 4), bool)
    for trial in range(simulations):
        drawn = np.bincount(rng.integers(count, size=count), minlength=count)
        for number, judge in enumerate(judges):
            seen[number, trial] = judge(drawn)
    out = {"users": float(count)}
    for name, (low, high, _, power) in zip(pairs, seen.mean(1), strict=True):
        out |= {f"{name}: low errs": low, f"{name}: high errs": high, f"{name}: power": power}
    return {**out, "not_inferior errs": seen[:, :, 0].all(0).mean(), "inferior errs": seen[:, :, 2].any(0).mean()}


class Judge:
    """Says of a sample whether its interval leaves out the population's ratio: low, high, joint high end; and power."""

    def __init__(self, users: np.ndarray, count: int, metric: Paired):
        self.bounded = metric.lose is not None
        columns = [metric.difference, metric.weight, *((metric.lose, metric.gain) if self.bounded else ())]
        sums = np.stack([np.bincount(users, column, count) for column in columns], 1)  # type: ignore[arg-type]
        self.rows, self.row_of = np.unique(sums.round(9), axis=0, return_inverse=True)
        whole = self.sample(np.ones(count))
        self.truth = float(whole.counts @ whole.difference) / float(whole.counts @ whole.weight)
        self.far = self.truth - DISTANCE * whole.spread(self.truth)

    def sample(self, drawn: np.ndarray) -> Sums:
        """The sums of users drawn so often [users]."""
        counts = np.bincount(self.row_of, drawn, len(self.rows))
        there = counts > 0
        columns = self.rows[there].T
        rooms = (columns[2], columns[3], columns[1]) if self.bounded else None
        return Sums(columns[0], columns[1], counts[there], rooms)

    def __call__(self, drawn: np.ndarray) -> tuple[bool, bool, bool, bool]:
        sample = self.sample(drawn)
        weighing = int(sample.counts[sample.weight > 0].sum())
        need, joint = threshold(weighing, ALPHA), threshold(weighing, ALPHA / JOINT)
        below = sample.below(self.truth)
        return sample.above(self.truth) >= need, below >= need, below >= joint, sample.above(self.far) >= need


def _lost(who: Who, before: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Which targets the candidate loses where they are hits [users, targets]; `rate` of all hits on average."""
    count = len(before)
    if who == "each hit alone":
        return rng.random(before.shape) < rate
    if who == "whole users":
        return np.repeat(rng.random((count, 1)) < rate, before.shape[1], 1)
    hits = before.sum(1)
    most = np.argsort(-hits, kind="stable")
    fewest = most[: int(np.searchsorted(hits[most].cumsum(), 2 * rate * hits.sum())) + 1]  # half of these lose all
    chosen = np.zeros((count, 1), bool)
    chosen[rng.permutation(fewest)[: (len(fewest) + 1) // 2]] = True
    return np.repeat(chosen, before.shape[1], 1)


def _bounded_mean(before: np.ndarray, after: np.ndarray) -> Paired:
    return mean(before, after, bounded=True)


def row_of(cell: Population | Nll, simulations: int, rates: Mapping[str, float]) -> PopulationRow | NllRow:
    """The row of a population, whose rates are those of `error_rates`."""
    found = {name: round(float(rate), 5) for name, rate in rates.items()}
    raw = {**vars(cell), "simulations": simulations, **found}
    if isinstance(cell, Population):
        return records.typed("error rates", raw, PopulationRow)
    return records.typed("error rates", raw, NllRow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    cells: list[Population | Nll] = [*POPULATIONS, *NLLS]
    with ProcessPoolExecutor(options.workers) as pool:
        found = pool.map(error_rates, cells, [options.simulations] * len(cells))
        for cell, rates in zip(cells, found, strict=True):
            row = row_of(cell, options.simulations, rates)
            records.append(options.out, row)
            print(records.as_json(row), flush=True)


if __name__ == "__main__":
    run(main)
