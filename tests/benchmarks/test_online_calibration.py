"""The verdict online errs as often as it says, from assignment to the word, on every cell of the list."""

import math
import sys
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks import online_calibration
from benchmarks.online_calibration import (
    ALPHA,
    CELLS,
    HALF,
    POWER,
    TENTH,
    Cell,
    assigned,
    lose,
    past,
    rates,
    ratio_rate,
)
from benchmarks.records import read
from benchmarks.rows import FILES
from octorec.evaluate.online.sample_ratio import LEVEL

RUNS = 2000


def above(rate: float, runs: int = RUNS) -> float:
    """What a rate may be by chance in that number of runs."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


def problems(cell: Cell, found: dict[str, float]) -> list[str]:
    """What a cell promises and does not keep."""
    kept = {
        "goal errs": found.get("goal errs", 0.0) <= above(ALPHA),
        "goal errs as often as planned": cell.when != "once" or cell.what not in ("proportion", "few units")
        or abs(found.get("goal errs", ALPHA) - ALPHA) <= above(ALPHA) - ALPHA,
        "guardrail errs": found.get("guardrail errs", 0.0) <= above(ALPHA / 2),
        "coverage": 1 - found["coverage"] <= above(ALPHA),
        "power": cell.when not in ("once", "planned") or cell.what == "few units"
        or abs(found.get("power", POWER) - POWER) <= 0.03,
    }  # fmt: skip
    return [f"{cell}: {name}: {found}" for name, right in kept.items() if not right]


@pytest.mark.slow
def test_no_word_errs_more_often_than_the_plan_says() -> None:
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(rates, CELLS, [RUNS] * len(CELLS)))
    wrong = [problem for cell, one in zip(CELLS, found, strict=True) for problem in problems(cell, one)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("share", [HALF, TENTH])
def test_a_sound_sample_ratio_is_hardly_ever_broken(share: Fraction) -> None:
    assert ratio_rate(share, RUNS) <= above(LEVEL)


def test_a_few_runs_have_every_rate() -> None:
    for cell in CELLS[:2]:
        found = rates(cell, 20)
        assert found["units"] > 1000
        assert all(0 <= value <= 1 for name, value in found.items() if name != "units")
        assert ("power" in found) == (cell.truth == "same")


def test_units_are_assigned_as_the_server_does() -> None:
    treated = assigned(TENTH)
    assert treated.mean() == pytest.approx(0.1, abs=0.003)


@pytest.mark.parametrize("what", ["proportion", "rare proportion", "revenue", "covariate", "ratio", "few units"])
def test_the_treatment_loses_the_share_it_is_to_lose(what: online_calibration.What) -> None:
    rng = np.random.default_rng(0)
    drawn = online_calibration.draw(what, 400_000, rng)
    y = lose(what, drawn["y"], np.ones(400_000, bool), 0.25, rng)
    mean = y.mean() if what != "ratio" else y.sum() / drawn["per"].sum()
    assert mean == pytest.approx(0.75 * past(what).mean, abs=0.02 * max(1.0, past(what).mean))


def test_the_command_records_a_row_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(online_calibration, "CELLS", CELLS[:2])
    monkeypatch.setattr(sys, "argv", ["online", "--simulations", "3", "--workers", "2", "--out", str(out)])
    online_calibration.main()
    rows = read(out, *FILES["online_calibration.jsonl"])
    assert len(rows) == 4
    assert all(row.simulations == 3 for row in rows)
