"""Which outcomes count for whom: first exposure, window, covariate, and all that is left out by name."""

import time

import numpy as np
import pyarrow as pa
import pytest
from logged import DAY, STAGES, START, experiment, exposure, joined, outcome, table

from octorec.errors import InputError
from octorec.evaluate.online import attribute, join
from octorec.evaluate.online.rows import EXPOSURES, OUTCOMES

GIVEN = {"given": 3}


def y(found: object, metric: str = "click") -> dict[str, float]:
    return dict(zip(found.unit.tolist(), found.columns[metric].y.tolist(), strict=True))


def named(found: object) -> dict[str, int]:
    """The counts; the few outcomes of these tests do not reach up to now."""
    return {words: count for words, count in found.counts.items() if words != join.OLD}


def test_empty_logs_join_to_nothing() -> None:
    found = joined([], [])
    assert len(found.unit) == len(found.columns["click"].y) == len(found.first) == 0
    assert found.assigned.tolist() == [[0, 0], [0, 0]]
    assert named(found) == GIVEN
    assert found.ended == {"control": {}, "b": {}}


def test_exposures_without_outcomes_are_units_of_zeros() -> None:
    found = joined([exposure("u"), exposure("v", variant="b")], [])
    assert y(found) == {"u": 0, "v": 0}
    assert found.variant.tolist() == [0, 1]


def test_outcomes_of_nobody_are_named() -> None:
    assert joined([], [outcome("u", 1)]).counts == {**GIVEN, attribute.NEVER: 1}


def test_a_unit_is_of_its_first_exposure_whatever_the_order_of_rows() -> None:
    rows = [exposure("u", 50, stage=1), exposure("u", 7), exposure("u", 90, stage=1)]
    found = joined(rows, [outcome("u", 7 + DAY - 1), outcome("u", 50 + DAY - 1)])
    assert (found.first.tolist(), found.stage.tolist()) == ([START + 7], [0])
    assert y(found) == {"u": 1}
    assert found.assigned.tolist() == [[1, 0], [0, 0]]
    assert found.ended == {"control": {"answered": 3}, "b": {}}


def test_the_window_holds_its_first_instant_and_not_its_last() -> None:
    times = (-1e-6, 0, DAY - 1e-6, DAY)
    found = joined([exposure("u", 5)], [outcome("u", 5 + time, value=10.0**n) for n, time in enumerate(times)])
    assert y(found) == {"u": 110}
    assert named(found) == {**GIVEN, join.BEFORE: 1, join.LATE: 1}


def test_a_unit_matures_when_its_whole_window_has_passed() -> None:
    for now, mature in ((DAY + 5 - 1e-6, False), (DAY + 5, True)):
        assert joined([exposure("u", 5)], [], now=now).columns["click"].mature.tolist() == [mature]


def test_units_whose_window_is_open_are_no_failures() -> None:
    exposures = [exposure(f"u{n}", (n % 2) * 7 * DAY) for n in range(10)]  # half of them yesterday
    outcomes = [outcome(f"u{n}", ((n % 2) * 7 + 6) * DAY, "buy") for n in range(10)]
    buy = {"kind": "proportion", "window": "7d"}
    column = joined(exposures, outcomes, now=8 * DAY, buy=buy).columns["buy"]
    assert column.mature.sum() == 5
    assert column.y[column.mature].mean() == 1
    assert column.y[~column.mature].sum() == 0


def test_units_whose_window_ends_after_the_last_outcome_are_named() -> None:
    exposures = [exposure(f"u{hour}", hour * 3600) for hour in range(10)]
    outcomes = [outcome("u0", 5 * 3600 + DAY)]  # a file that was written then
    assert joined(exposures, outcomes).counts == {**GIVEN, join.OLD: 4, join.LATE: 1}
    assert join.OLD not in joined(exposures, outcomes, now=5 * 3600 + DAY).counts


def test_a_variant_that_refuses_or_fails_its_heavy_units_keeps_them() -> None:
    ends = ("refused", "failed", "by_control", "short", "answered")
    rows = [
        exposure(f"{variant}{n}", variant=variant, ended=end)
        for variant in ("control", "b")
        for n, end in enumerate(ends if variant == "b" else ["answered"] * 5)
    ]
    found = joined(rows, [outcome(f"b{n}", 1) for n in range(2, 5)] + [outcome(f"control{n}", 1) for n in range(5)])
    assert found.assigned.sum(0).tolist() == [5, 5]
    assert found.ended == {"control": {"answered": 5}, "b": dict.fromkeys(ends, 1)}
    values = found.columns["click"].y
    assert [values[found.variant == variant].mean() for variant in (0, 1)] == [1, 0.6]


def test_a_unit_in_two_variants_is_assigned_by_its_first_exposure_and_counts_nowhere_else() -> None:
    rows = [exposure("u", 9, "control"), exposure("u", 3, "b"), exposure("v", 5, "b")]
    found = joined(rows, [outcome("u", 10), outcome("v", 10)])
    assert found.unit.tolist() == ["v"]
    assert found.assigned.tolist() == [[0, 2], [0, 0]]
    assert named(found) == {**GIVEN, join.IN_TWO: 1, attribute.OF_TWO: 1}


def test_hold_out_and_testers_never_enter() -> None:
    rows = [
        exposure("u"),
        exposure("h", group="hold_out"),
        exposure("t", group="tester"),
        exposure("u", 2, "b", group="tester"),
    ]
    found = joined(rows, [outcome(unit, 1) for unit in "uht"])
    assert y(found) == {"u": 1}
    assert found.assigned.sum() == 1
    assert found.ended == {"control": {"answered": 1}, "b": {}}
    assert named(found) == {**GIVEN, attribute.OF_HELD_OUT: 2, join.BOTH: 1}


def test_an_outcome_finds_its_unit_by_the_request() -> None:
    rows = [
        exposure("u", request_id="r"),
        exposure("u", 3, request_id="r2"),
        exposure("v", request_id="s"),
        exposure("h", group="hold_out"),
    ]
    outcomes = [outcome(None, 5, request_id="r2"), outcome("u", 6, request_id="r"), outcome(None, 5, request_id="h-0")]
    found = joined(rows, outcomes)
    assert y(found) == {"u": 2, "v": 0}
    assert named(found) == {**GIVEN, attribute.OF_HELD_OUT: 1}


def test_requests_that_are_unknown_or_say_something_else_are_named() -> None:
    rows = [exposure("u", request_id="r"), exposure("v", request_id="r"), exposure("v", 2, request_id="s")]
    outcomes = [
        outcome(None, 5, request_id="r"),  # of two units
        outcome(None, 5, request_id="x"),  # of none
        outcome("u", 5, request_id="s"),  # of another unit
        outcome("w", 5, request_id="s"),
        outcome("u", 5, request_id="r"),  # the unit says which of the two
        outcome("u", 5, request_id="x"),
        outcome("w", 5),
    ]
    found = joined(rows, outcomes)
    assert named(found) == {**GIVEN, attribute.SHARED: 1, attribute.UNKNOWN: 1, attribute.OTHERS: 2, attribute.NEVER: 1}
    assert y(found) == {"u": 2, "v": 0}


def test_a_covariate_ends_before_the_first_exposure_and_a_unit_without_a_past_has_0() -> None:
    rows = [exposure("u", 100), exposure("v", 100)]
    outcomes = [outcome("u", time, value=10.0**n) for n, time in enumerate((89.9, 90, 99.9, 100))]
    found = joined(rows, outcomes, click={"covariate": "10s"})
    assert found.columns["click"].x.tolist() == [110, 0]
    assert y(found) == {"u": 1000, "v": 0}
    assert named(found) == {**GIVEN, join.COVARIATE: 2, join.BEFORE: 1}


def test_proportions_means_and_ratios_count_as_the_file_says() -> None:
    metrics = {
        "mean": {"event": "pay"},
        "share": {"event": "pay", "kind": "proportion", "covariate": "1d"},
        "price": {"event": "pay", "kind": "ratio", "per": "order"},
    }
    outcomes = [
        outcome("u", -5, "pay", 7), outcome("u", -4, "pay", 7),
        outcome("u", 1, "pay", 3), outcome("u", 2, "pay", -1), outcome("u", 2, "order"), outcome("u", 3, "order"),
        outcome("v", 1, "pay", 0),
    ]  # fmt: skip
    found = joined([exposure("u"), exposure("v")], outcomes, **metrics)
    columns = found.columns
    assert columns["mean"].y.tolist() == [2, 0]
    assert columns["mean"].x is None
    assert columns["share"].y.tolist() == [1, 0]
    assert columns["share"].x.tolist() == [1, 0]
    assert columns["price"].y.tolist() == [2, 0]
    assert columns["price"].per.tolist() == [2, 0]
    assert named(found) == {**GIVEN, join.COVARIATE: 2, join.NONE_ABOVE: 2}


def test_an_outcome_is_late_where_no_metrics_window_has_it() -> None:
    metrics = {"short": {"event": "e", "window": "1h"}, "long": {"event": "e", "window": "2h"}}
    found = joined([exposure("u")], [outcome("u", hours * 3600, "e") for hours in (0.5, 1.5, 2.5)], **metrics)
    assert (y(found, "short"), y(found, "long")) == ({"u": 1}, {"u": 2})
    assert named(found) == {**GIVEN, join.LATE: 1}


def test_what_is_later_than_now_is_left_out_by_name() -> None:
    rows = [exposure("u"), exposure("u", 60, "b"), exposure("v", 61)]
    found = joined(rows, [outcome("u", 50), outcome("u", 50.1), outcome("v", 70)], now=50)
    assert y(found) == {"u": 1}
    assert named(found) == {**GIVEN, join.AHEAD: 2, attribute.AHEAD: 2}
    assert found.assigned.sum() == 1


def test_exposures_of_others_are_left_out_by_name() -> None:
    rows = [exposure("u"), exposure("v", experiment="y", variant="z"), exposure("w", stage=7)]
    found = joined(rows, [])
    assert found.unit.tolist() == ["u"]
    assert named(found) == {**GIVEN, join.OTHER: 1, join.NO_STAGE: 1}


@pytest.mark.parametrize(("name", "allowed"), [("variant", "control, b"), ("group", "experiment, hold_out, tester")])
def test_a_variant_or_group_that_the_experiment_lacks_is_refused(name: str, allowed: str) -> None:
    with pytest.raises(InputError, match=f"exposures: {name}: got 'odd'.*{allowed}"):
        joined([exposure("u"), exposure("v") | {name: "odd"}], [])


def test_the_order_of_rows_and_chunks_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    exposures = [
        exposure(f"u{unit}", float(time), "b" if unit % 2 else "control")
        for unit, time in rng.integers(0, 50, (200, 2))
    ]
    outcomes = [
        outcome(f"u{unit}", float(time), value=float(value)) for unit, time, value in rng.integers(0, 60, (300, 3))
    ]
    found = joined(exposures, outcomes)
    tables = [table(rows, schema) for rows, schema in ((exposures, EXPOSURES), (outcomes, OUTCOMES))]
    shuffled = [
        pa.concat_tables([one.take(part) for part in np.array_split(rng.permutation(len(one)), 7)]) for one in tables
    ]
    other = join.join(experiment(), STAGES, *shuffled, START + 10 * DAY, GIVEN)
    assert y(other) == y(found)
    assert dict(zip(other.unit, other.first, strict=True)) == dict(zip(found.unit, found.first, strict=True))
    assert named(other) == named(found)


def test_the_join_is_what_a_loop_over_rows_says() -> None:
    rng = np.random.default_rng(1)
    exposures = [exposure(f"u{unit}", float(time)) for unit, time in rng.integers(0, 40, (100, 2))]
    outcomes = [outcome(f"u{unit}", float(time)) for unit, time in rng.integers(0, 60, (400, 2))]
    found = joined(exposures, outcomes, click={"window": "10s", "covariate": "5s"})
    for unit, first, value, past in zip(
        found.unit, found.first, found.columns["click"].y, found.columns["click"].x, strict=True
    ):
        assert first == min(row["time"] for row in exposures if row["unit"] == unit)
        after = [row["time"] - first for row in outcomes if row["unit"] == unit]
        assert value == sum(0 <= time < 10 for time in after)
        assert past == sum(-5 <= time < 0 for time in after)


@pytest.mark.slow
def test_200_000_units_and_a_million_outcomes_are_joined_in_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    units, rows = 200_000, 1_000_000
    names = pa.array([f"user-{n}" for n in range(units)])
    requests = pa.array([f"request-{n}" for n in range(2 * units)])
    who = np.concatenate([np.arange(units)] * 2)
    nothing = {name: pa.nulls(2 * units, EXPOSURES.field(name).type) for name in EXPOSURES.names}
    exposures = pa.table({
        **nothing,
        "time": pa.array(START * 10**6 + rng.integers(0, DAY * 10**6, 2 * units), EXPOSURES.field("time").type),
        "experiment": pa.array(["x"] * 2 * units), "stage": pa.array(np.zeros(2 * units, np.int32)),
        "unit": names.take(pa.array(who)), "variant": pa.array(["control", "b"]).take(pa.array(who % 2)),
        "group": pa.array(["experiment"] * 2 * units), "request_id": requests,
        "ended": pa.array(["answered"] * 2 * units),
    }, schema=EXPOSURES)  # fmt: skip
    by_request = rng.random(rows) < 0.5
    at = rng.integers(0, 2 * units, rows)
    outcomes = pa.table({
        "time": pa.array(START * 10**6 + rng.integers(0, 2 * DAY * 10**6, rows), OUTCOMES.field("time").type),
        "unit": pa.array(np.where(by_request, None, names.take(pa.array(at % units)).to_numpy(zero_copy_only=False))),
        "request_id": pa.array(np.where(by_request, requests.take(pa.array(at)).to_numpy(zero_copy_only=False), None)),
        "event": pa.array(["click"] * rows), "value": pa.array(np.ones(rows)),
        "item": pa.nulls(rows, pa.string()), "id": pa.nulls(rows, pa.string()),
    }, schema=OUTCOMES)  # fmt: skip
    given = experiment(click={"covariate": "1d"})
    start = time.process_time()
    found = join.join(given, STAGES, exposures, outcomes, START + 10 * DAY)
    seconds = time.process_time() - start
    with capsys.disabled():
        print(f"\n{units:,} units and {rows:,} outcomes are joined in {seconds:.1f} s of processor time")
    column = found.columns["click"]
    assert column.y.sum() + column.x.sum() + found.counts[join.LATE] == rows
    assert len(found.unit) == units
    assert seconds < 60
