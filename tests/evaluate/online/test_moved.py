"""A change of shares leaves units out by their buckets, so that those who come often are not left out alone."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
from logged import DAY, HALVES, START, experiment, exposure, outcome, table

from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.buckets import bucket
from octorec.evaluate.online.join import MOVED, join
from octorec.evaluate.online.joined import IN_TWO, Joined
from octorec.evaluate.online.moved import moved
from octorec.evaluate.online.rows import EXPOSURES, OUTCOMES

MORE = {"control": Fraction(4, 5), "b": Fraction(1, 5)}  # buckets 5,000 to 7,999 go from b to the control
CHANGE = DAY / 2
STAGES = [
    SimpleNamespace(number=0, since=START, shares=HALVES),
    SimpleNamespace(number=1, since=START + CHANGE, shares=MORE),
]
UNITS = [f"u{number}" for number in range(400)]


def drawn(unit: str) -> int:
    return bucket(experiment().salt, "variant", unit)


def in_stage_0(unit: str) -> str:
    return assign(experiment(), unit).variant


def in_stage_1(unit: str) -> str:
    return "control" if drawn(unit) < 8000 else "b"


def joined_of(exposures: list[dict], outcomes: list[dict]) -> Joined:
    given = table(exposures, EXPOSURES), table(outcomes, OUTCOMES)
    return join(experiment(), STAGES, *given, START + 10 * DAY)


def test_units_of_the_buckets_that_moved_are_left_out_whether_they_come_back_or_not() -> None:
    rows = [exposure(unit, n, in_stage_0(unit)) for n, unit in enumerate(UNITS)]
    back = [exposure(unit, CHANGE + n, in_stage_1(unit), stage=1) for n, unit in enumerate(UNITS) if n % 3 == 0]
    gone = {unit for unit in UNITS if 5000 <= drawn(unit) < 8000}
    found = joined_of([*rows, *back], [outcome(unit, n + 1) for n, unit in enumerate(UNITS)])
    assert set(found.unit) == set(UNITS) - gone
    assert (found.counts[MOVED], found.counts.get(IN_TWO, 0)) == (len(gone), 0)
    assert found.assigned.sum() == len(UNITS)
    assert set(found.stage) == {0}


def test_a_unit_whose_windows_passed_before_the_change_stays_also_where_it_comes_back() -> None:
    unit = next(unit for unit in UNITS if 5000 <= drawn(unit) < 8000)
    early, late = exposure(unit, CHANGE - DAY, "b"), exposure(unit, CHANGE + 5, "control", stage=1)
    found = joined_of([early, late], [outcome(unit, CHANGE - DAY + 1)])
    assert (found.unit.tolist(), found.columns["click"].y.tolist()) == ([unit], [1.0])
    assert found.counts.get(IN_TWO) is None
    within = exposure(unit, CHANGE - 3, "control")  # no change of shares explains it
    assert joined_of([early, within], [outcome(unit, 1)]).counts[IN_TWO] == 1


def test_new_units_of_the_later_stage_and_stages_of_the_same_shares_move_nobody() -> None:
    later = [exposure(unit, CHANGE + n, in_stage_1(unit), stage=1) for n, unit in enumerate(UNITS)]
    assert len(joined_of(later, [outcome("u1", CHANGE)]).unit) == len(UNITS)
    same = [STAGES[0], SimpleNamespace(number=1, since=START + 1, shares=HALVES)]
    first, stage = np.full(len(UNITS), START * 10**6), np.zeros(len(UNITS), int)
    assert not moved(experiment(), same, UNITS, stage, first).any()
    there_and_back = [*STAGES, SimpleNamespace(number=2, since=START + CHANGE + 1, shares=HALVES)]
    found = moved(experiment(), there_and_back, UNITS, stage, first)
    assert found.tolist() == [5000 <= drawn(unit) < 8000 for unit in UNITS]


def test_a_loss_is_not_hidden_by_leaving_out_those_who_come_often() -> None:
    """Every second unit comes often and clicks ten times; they alone are seen after the change, by the new shares."""
    often = UNITS[::2]
    rows = [exposure(unit, n, in_stage_0(unit)) for n, unit in enumerate(UNITS)]
    rows += [exposure(unit, CHANGE + n, in_stage_1(unit), stage=1) for n, unit in enumerate(often)]
    clicks = [outcome(unit, n + 1, value=10.0 if unit in often else 1.0) for n, unit in enumerate(UNITS)]
    found = joined_of(rows, clicks)
    share = [np.mean(found.columns["click"].y[found.variant == variant] == 10.0) for variant in (0, 1)]
    assert abs(share[0] - share[1]) < 0.15  # 0.21 if those seen in both were left out alone
