"""The intervals of the verdict err as often as they say, on every population of the list."""

import math
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibration
from benchmarks.calibration import ALPHA, NLLS, POPULATIONS, Judge, Population, error_rates, metrics
from benchmarks.records import read
from benchmarks.rows import FILES

SIMULATIONS = 2000
MOST = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / SIMULATIONS)


@pytest.mark.slow
def test_no_end_errs_more_often_than_it_says() -> None:
    cells = [*POPULATIONS, *NLLS]
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(error_rates, cells, [SIMULATIONS] * len(cells)))
    wrong = [
        (cell, name, rate)
        for cell, rates in zip(cells, found, strict=True)
        for name, rate in rates.items()
        if name.endswith("errs") and rate > MOST
    ]
    assert not wrong, wrong


@pytest.mark.slow
def test_caution_costs_little_power_where_much_is_seen() -> None:
    population = Population(1000, 1, "each hit alone", True, "ratio")
    assert error_rates(population, 500)["recall: power"] > 0.8


def test_the_whole_population_has_its_own_ratio() -> None:
    users, found = metrics(Population(100, 10, "whole users", False, "ratio"), np.random.default_rng(1))
    judge = Judge(users, 500, found["recall"])
    before, difference = found["recall"].weight, found["recall"].difference
    assert judge.truth == pytest.approx(difference.sum() / before.sum())
    assert judge.truth == pytest.approx(-0.1, abs=0.04)
    assert judge(np.ones(500)) == (False, False, False, True)
    assert judge.sample(np.ones(500)).counts.sum() == 500


@pytest.mark.parametrize("population", POPULATIONS, ids=lambda p: f"{p.losses}-{p.targets}-{p.who}-{p.balanced}")
def test_populations_lose_what_they_say(population: Population) -> None:
    _, found = metrics(population, np.random.default_rng(2))
    losses = -np.minimum(found["recall"].difference, 0).sum()
    assert 0.4 * population.losses < losses < 1.7 * population.losses
    assert (found["recall"].difference.sum() > -0.5 * losses) == population.balanced


def test_the_command_records_a_row_a_population(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(sys, "argv", ["calibration", "--simulations", "3", "--workers", "2", "--out", str(out)])
    calibration.main()
    rows = read(out, *FILES["calibration.jsonl"])
    assert len(rows) == len(POPULATIONS) + len(NLLS)
    assert all(row.simulations == 3 for row in rows)
