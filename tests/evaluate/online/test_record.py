"""An experiment's record: what goes on, what opens a new stage, what is refused, and what other processes see."""

import dataclasses
import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import DAY, NOON, VERSIONS, experiment, look, values, with_one

from octorec.errors import InputError
from octorec.evaluate.online import record_file
from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.record import (
    Record,
    add_look,
    effective,
    end,
    note_ratio,
    read_record,
    resume,
    start,
    stop,
)


def test_a_start_is_remembered_as_a_whole(tmp_path: Path) -> None:
    begun = start(tmp_path, experiment(), VERSIONS, NOON)
    assert read_record(tmp_path / "fp8-spring") == begun
    assert begun.experiment == experiment() == effective(begun)
    assert (begun.name, begun.folder, begun.stop, begun.ended) == ("fp8-spring", tmp_path / "fp8-spring", None, None)
    stage = begun.stages[0]
    assert (stage.number, stage.since, dict(stage.versions)) == (0, NOON, VERSIONS)
    assert stage.shares == {"control": Fraction(1, 2), "fp8": Fraction(1, 2)}


def test_the_same_file_goes_on_with_the_present_stage_and_writes_nothing(tmp_path: Path) -> None:
    begun = start(tmp_path, experiment(), VERSIONS, NOON)
    file = begun.folder / "record.json"
    before = (file.stat().st_ino, file.stat().st_mtime_ns)
    assert start(tmp_path, experiment(), VERSIONS, NOON + DAY) == begun
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before


def test_a_higher_ramp_is_taken_in_the_same_stage_and_noted_with_its_time(tmp_path: Path) -> None:
    start(tmp_path, experiment(), VERSIONS, NOON)
    raised = start(tmp_path, experiment(ramp=0.5), VERSIONS, NOON + DAY)
    assert effective(raised).ramp == Fraction(1, 2)
    assert len(raised.stages) == 1
    assert (raised.notes[-1].time, raised.notes[-1].text) == (NOON + DAY, "ramp from 1/10 to 1/2")
    assert read_record(raised.folder) == raised


def test_a_lower_ramp_would_throw_units_out_and_is_refused(tmp_path: Path) -> None:
    begun = start(tmp_path, experiment(), VERSIONS, NOON)
    with pytest.raises(InputError, match=r"^ramp: got '1/20'; was 1/10 and may only go up") as refused:
        start(tmp_path, experiment(ramp=0.05), VERSIONS, NOON + DAY)
    assert "octorec ab end" in str(refused.value)
    assert read_record(begun.folder) == begun


def test_other_shares_open_a_new_stage_that_assigns(tmp_path: Path) -> None:
    start(tmp_path, experiment(), VERSIONS, NOON)
    wider = {"control": {"share": 0.2}, "fp8": {"share": 0.8, "checkpoint": "models/fp8", "beam_width": 64}}
    second = start(tmp_path, experiment(variants=wider), VERSIONS, NOON + DAY)
    assert [stage.number for stage in second.stages] == [0, 1]
    assert second.stages[0].shares["fp8"] == Fraction(1, 2)
    assert (second.stages[1].since, second.stages[1].shares["fp8"]) == (NOON + DAY, Fraction(4, 5))
    assert effective(second) == experiment(variants=wider)
    assert read_record(second.folder) == second
    units = [f"u{number}" for number in range(300)]
    here, there = ([assign(one, unit) for unit in units] for one in (effective(second), experiment(variants=wider)))
    assert here == there


def test_shares_that_draw_the_same_buckets_open_no_stage(tmp_path: Path) -> None:
    thirds = {"control": {"share": "1/3"}, "a": {"share": "1/3"}, "b": {"share": "1/3"}}
    versions = dict.fromkeys(thirds, ("m", "c"))
    begun = start(tmp_path, experiment(variants=thirds, overrides={}), versions, NOON)
    assert [share * 10_000 for share in begun.stages[0].shares.values()] == [3334, 3333, 3333]
    written = {"control": {"share": 0.3334}, "a": {"share": 0.3333}, "b": {"share": 0.3333}}
    assert len(start(tmp_path, experiment(variants=written, overrides={}), versions, NOON + 1).stages) == 1


@pytest.mark.parametrize("pair", [("m3", "c1"), ("m2", "c2")])
def test_another_version_of_checkpoint_or_catalog_opens_a_new_stage(tmp_path: Path, pair: tuple[str, str]) -> None:
    start(tmp_path, experiment(), VERSIONS, NOON)
    second = start(tmp_path, experiment(), {**VERSIONS, "fp8": pair}, NOON + DAY)
    assert [dict(stage.versions)["fp8"] for stage in second.stages] == [("m2", "c1"), pair]
    assert start(tmp_path, experiment(), {**VERSIONS, "fp8": pair}, NOON + 2 * DAY) == second


def test_another_folder_with_the_same_version_opens_no_stage(tmp_path: Path) -> None:
    start(tmp_path, experiment(), VERSIONS, NOON)
    moved = start(tmp_path, with_one("variants.fp8.checkpoint", "/mnt/fp8"), VERSIONS, NOON + DAY)
    assert len(moved.stages) == 1
    assert moved.experiment.variants["fp8"].checkpoint == "/mnt/fp8"


REFUSED: dict[str, Any] = {
    "salt": "another",
    "unit": "account",
    "hold_out": 0.1,
    "metrics.clicks.margin": 0.03,
    "metrics.clicks.window": "2d",
    "metrics.buyers": None,
    "metrics.more": {"kind": "mean", "event": "more", "window": "1d", "role": "goal"},
    "plan.units": 20_000,
    "plan.looks": [1.0],
    "plan.alpha": 0.1,
    "plan.days": None,
    "variants.fp8.beam_width": 128,
    "guard.latency_ms": 200,
    "guard.error_rate": 0.5,
    "overrides.tester": "control",
    "overrides.another": "fp8",
}


@pytest.mark.parametrize(("place", "value"), REFUSED.items())
def test_whatever_else_changes_is_refused_by_its_name(tmp_path: Path, place: str, value: Any) -> None:
    begun = start(tmp_path, experiment(), VERSIONS, NOON)
    with pytest.raises(InputError) as refused:
        start(tmp_path, with_one(place, value), VERSIONS, NOON + DAY)
    assert refused.value.field == place
    assert "only the ramp" in refused.value.allowed
    assert f"octorec ab end {begun.folder}" in refused.value.allowed
    assert read_record(begun.folder) == begun


def test_another_set_of_variants_is_refused(tmp_path: Path) -> None:
    start(tmp_path, experiment(), VERSIONS, NOON)
    three = {"control": {"share": 0.5}, "fp8": {"share": 0.25, "beam_width": 64}, "int4": {"share": 0.25}}
    with pytest.raises(InputError, match=r"^variants.int4: "):
        start(tmp_path, experiment(variants=three), {**VERSIONS, "int4": ("m", "c")}, NOON)


def test_variants_in_another_order_have_other_buckets_and_are_refused(tmp_path: Path) -> None:
    start(tmp_path, experiment(), VERSIONS, NOON)
    turned = dict(reversed(values()["variants"].items()))
    with pytest.raises(InputError, match=r"^variants: got \['fp8', 'control'\]"):
        start(tmp_path, experiment(variants=turned), VERSIONS, NOON)


def test_metrics_in_another_order_are_the_same(tmp_path: Path) -> None:
    begun = start(tmp_path, experiment(), VERSIONS, NOON)
    turned = dict(reversed(values()["metrics"].items()))
    assert start(tmp_path, experiment(metrics=turned), VERSIONS, NOON).stages == begun.stages


def test_another_hold_out_salt_would_leave_out_other_people_and_is_refused(tmp_path: Path) -> None:
    begun = start(tmp_path, experiment(), VERSIONS, NOON, "shop")
    assert start(tmp_path, experiment(), VERSIONS, NOON + 1, "shop") == begun == read_record(begun.folder)
    with pytest.raises(InputError, match=r"^hold_out_salt: got 'store'; was 'shop' when fp8-spring was started"):
        start(tmp_path, experiment(), VERSIONS, NOON + 1, "store")
    for wrong in ("a\0b", 7, None, "\ud800"):
        with pytest.raises(InputError, match=r"^hold_out_salt: "):
            start(tmp_path, experiment(), VERSIONS, NOON + 1, wrong)  # type: ignore[arg-type]
    end(begun.folder, NOON + 2)
    nobody = experiment(name="second", salt="s2", hold_out=0)
    start(tmp_path, nobody, VERSIONS, NOON + 3, "shop")
    start(tmp_path, nobody, VERSIONS, NOON + 3, "store")  # of no effect without a hold-out


@pytest.mark.parametrize("ended", [True, False])
def test_a_salt_that_was_used_below_the_root_is_refused_with_the_name_of_its_experiment(
    tmp_path: Path, ended: bool
) -> None:
    first = start(tmp_path, experiment(), VERSIONS, NOON)
    if ended:
        end(first.folder, NOON + 1)
    with pytest.raises(InputError, match=r"^salt: got 'spring-2026'; was used by experiment fp8-spring before"):
        start(tmp_path, experiment(name="second"), VERSIONS, NOON + DAY)


def test_a_second_experiment_is_refused_until_the_first_is_ended(tmp_path: Path) -> None:
    first = start(tmp_path, experiment(), VERSIONS, NOON)
    other = experiment(name="second", salt="summer")
    stop(first.folder, "", "lunch", NOON + 1)  # a stopped one may be resumed
    with pytest.raises(InputError) as refused:
        start(tmp_path, other, VERSIONS, NOON + 2)
    assert f"cannot run beside fp8-spring, which is not ended: end it (octorec ab end {first.folder})" in str(
        refused.value
    )
    assert not (tmp_path / "second").exists()
    end(first.folder, NOON + 3)
    assert start(tmp_path, other, VERSIONS, NOON + 4).name == "second"


def test_an_experiment_that_was_ended_cannot_be_started_changed_or_ended_again(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    ended = end(folder, NOON + DAY)
    assert ended.ended == NOON + DAY
    tries: list[Callable[[], Record]] = [
        lambda: start(tmp_path, experiment(), VERSIONS, NOON + 2 * DAY),
        lambda: stop(folder, "fp8", "slow", NOON + 2 * DAY),
        lambda: resume(folder, NOON + 2 * DAY),
        lambda: end(folder, NOON + 2 * DAY),
    ]
    for attempt in tries:
        with pytest.raises(InputError, match="was ended at 2027-01-16 08:00:00 UTC: take a new name and a new salt"):
            attempt()
    assert read_record(folder) == ended


def test_a_stop_lasts_over_restarts_and_new_stages_until_a_person_resumes(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    stopped = stop(folder, "fp8", "p99 of 312 ms", NOON + 10)
    assert stopped.stop is not None
    assert (stopped.stop.time, stopped.stop.variant, stopped.stop.why) == (NOON + 10, "fp8", "p99 of 312 ms")
    assert stop(folder, "", "a second time", NOON + 20) == stopped  # the first reason stays
    assert start(tmp_path, experiment(), VERSIONS, NOON + 30) == stopped
    assert start(tmp_path, experiment(), {**VERSIONS, "fp8": ("m3", "c1")}, NOON + 40).stop == stopped.stop
    assert resume(folder, NOON + 50).stop is None
    with pytest.raises(InputError, match="is not stopped"):
        resume(folder, NOON + 60)
    assert [note.text.split(":")[0] for note in read_record(folder).notes[1:]] == [
        "stopped for fp8",
        "stage 1",
        "resumed",
    ]


def test_a_stop_names_a_variant_of_the_experiment_or_none(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    with pytest.raises(InputError, match=r"^variant: got 'int4'; allowed: control, fp8"):
        stop(folder, "int4", "slow", NOON)
    stopped = stop(folder, "", "a\x1b[31m\nb" + "c" * 5000, NOON)
    assert stopped.stop is not None
    assert "\n" not in stopped.stop.why
    assert len(stopped.stop.why) <= 1000
    assert read_record(folder) == stopped


def test_a_clock_that_went_back_never_makes_a_stage_end_before_it_began(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    second = start(tmp_path, experiment(), {**VERSIONS, "fp8": ("m3", "c1")}, NOON - DAY)
    assert second.stages[1].since == NOON
    assert "a clock said 2027-01-14 08:00:00 UTC" in second.notes[-1].text
    assert stop(folder, "fp8", "slow", NOON - DAY).stop == record_file.Stop(NOON, "fp8", "slow")
    assert end(folder, 5.0).ended == NOON
    assert read_record(folder).ended == NOON


@pytest.mark.parametrize("now", [math.nan, math.inf, -1.0, True, "noon", None, 1e18])
def test_a_time_that_is_none_is_refused(tmp_path: Path, now: Any) -> None:
    with pytest.raises(InputError, match=r"^now: "):
        start(tmp_path, experiment(), VERSIONS, now)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "versions",
    [
        {"control": ("m1", "c1")},
        {**VERSIONS, "int4": ("m", "c")},
        {"control": "m1", "fp8": ("m2", "c1")},
        {"control": ("m1", None), "fp8": ("m2", "c1")},
        {"control": ("m1", "c" * 300), "fp8": ("m2", "c1")},
        None,
    ],
)
def test_versions_are_two_texts_for_each_variant(tmp_path: Path, versions: Any) -> None:
    with pytest.raises(InputError, match=r"^versions"):
        start(tmp_path, experiment(), versions, NOON)


def test_an_experiment_made_in_python_is_checked_as_a_file_is(tmp_path: Path) -> None:
    wrong = dataclasses.replace(experiment(), ramp=Fraction(3, 2))
    with pytest.raises(InputError, match=r"^ramp: "):
        start(tmp_path, wrong, VERSIONS, NOON)


def test_looks_come_back_with_their_infinities_from_plain_json(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    written = add_look(folder, look())
    json.loads((folder / "record.json").read_text(), parse_constant=pytest.fail)
    found = read_record(folder).looks[0]
    assert math.isnan(found.effects[0].treatment)
    assert repr(found) == repr(look()) == repr(written.looks[0])  # NaN is not equal to itself


def test_the_first_of_two_looks_of_one_number_stands(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    first = add_look(folder, look(1, units=20))
    assert repr(add_look(folder, look(1, units=21))) == repr(first)
    assert [one.units for one in read_record(folder).looks] == [20]


def test_a_look_out_of_order_or_after_the_final_one_is_refused(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    add_look(folder, look(2))
    with pytest.raises(InputError, match="cannot be made after look 2"):
        add_look(folder, look(1))
    end(folder, NOON + DAY)
    add_look(folder, look(4, final=True))  # a report after the end
    with pytest.raises(InputError, match="look 4 was the final one"):
        add_look(folder, look(5))


def test_a_look_of_numpys_numbers_is_read_back_as_pythons(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    add_look(folder, look(units=np.int64(7), bound=np.float64(2.5), final=np.bool_(False)))
    found = read_record(folder).looks[0]
    assert (found.units, found.bound, type(found.units), type(found.bound)) == (7, 2.5, int, float)


def test_the_lowest_sample_ratio_p_is_kept(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    assert read_record(folder).lowest_ratio_p == 1
    assert note_ratio(folder, 0.02).lowest_ratio_p == 0.02
    assert note_ratio(folder, 0.5).lowest_ratio_p == 0.02
    for wrong in (math.nan, -0.1, 1.1, True, "0"):
        with pytest.raises(InputError, match=r"^p: "):
            note_ratio(folder, wrong)  # type: ignore[arg-type]
    assert read_record(folder).lowest_ratio_p == 0.02
