"""An experiment's record: what goes on, what opens a new stage, what is refused, and what other processes see."""

import copy
import dataclasses
import json
import math
import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octorec.errors import InputError
from octorec.evaluate.online import record_file
from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.experiment import Experiment, parse_experiment
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
from octorec.evaluate.online.results import Effect, Look

DAY = 86400.0
NOON = 1_800_000_000.0
VERSIONS = {"control": ("m1", "c1"), "fp8": ("m2", "c1")}


def values(**changes: Any) -> dict[str, Any]:
    raw = {
        "name": "fp8-spring",
        "salt": "spring-2026",
        "unit": "user_id",
        "variants": {"control": {"share": 0.5}, "fp8": {"share": 0.5, "checkpoint": "models/fp8", "beam_width": 64}},
        "metrics": {
            "clicks": {"kind": "mean", "event": "click", "window": "1d", "role": "guardrail", "margin": 0.02},
            "buyers": {"kind": "proportion", "event": "buy", "window": "12h", "role": "goal"},
        },
        "plan": {"units": 10_000, "days": 14, "looks": [0.5, 1.0]},
        "ramp": 0.1,
        "hold_out": 0.05,
        "overrides": {"tester": "fp8"},
        "guard": {"window": "1m", "latency_ms": 80},
    }
    return {**raw, **changes}


def experiment(**changes: Any) -> Experiment:
    return parse_experiment(values(**changes))


def with_one(place: str, value: Any) -> Experiment:
    """The experiment with one value changed, at a place such as `plan.units`; None takes it out."""
    raw = copy.deepcopy(values())
    *above, last = place.split(".")
    node: Any = raw
    for key in above:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return parse_experiment(raw)


def look(number: int = 1, final: bool = False, **changes: Any) -> Look:
    effect = Effect(
        "clicks", "fp8", 1.5, math.nan, 0.1, -math.inf, math.inf, -0.5, 0.5, (10, 12), "inconclusive", "few units"
    )
    made = Look(number, NOON + number, 22, 0.5, 0.003, math.inf, final, (effect,))
    return dataclasses.replace(made, **changes)


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


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^experiment_root: "):
        start(tmp_path / "no", experiment(), VERSIONS, NOON)


def test_a_root_that_cannot_be_written_is_refused_by_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(record_file.os, "open", forbidden)
    with pytest.raises(InputError, match=r"^experiment_root: .* nothing can be written there \(Permission denied\)"):
        start(tmp_path, experiment(), VERSIONS, NOON)


def test_a_disk_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(record_file.fcntl, "flock", without)
    with pytest.raises(InputError, match="file system without locks"):
        start(tmp_path, experiment(), VERSIONS, NOON)


def test_rows_without_a_record_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "fp8-spring" / "exposures").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds exposures but no record\.json"):
        start(tmp_path, experiment(), VERSIONS, NOON)


def test_what_a_killed_start_left_behind_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "fp8-spring").mkdir()
    (tmp_path / "fp8-spring" / ".lock").touch()
    (tmp_path / "fp8-spring" / ".record.json.octorec-new-0123abcd.json").write_text('{"format"')
    begun = start(tmp_path, experiment(), VERSIONS, NOON)
    assert {path.name for path in begun.folder.iterdir()} == {".lock", "record.json"}


def test_other_folders_below_the_root_do_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "README").write_text("of the team")
    assert start(tmp_path, experiment(), VERSIONS, NOON).name == "fp8-spring"


def test_a_write_that_fails_leaves_the_record_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = start(tmp_path, experiment(), VERSIONS, NOON)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        stop(begun.folder, "fp8", "slow", NOON + 1)
    assert read_record(begun.folder) == begun
    assert {path.name for path in begun.folder.iterdir()} == {".lock", "record.json"}


def test_a_lock_that_another_holds_is_waited_for_and_then_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    monkeypatch.setattr(record_file, "LOCK_WAIT_S", 0.05)
    with record_file.locked(folder), pytest.raises(InputError, match="another process held it"):
        end(folder, NOON + 1)
    end(folder, NOON + 1)


def test_reading_needs_no_lock(tmp_path: Path) -> None:
    begun = start(tmp_path, experiment(), VERSIONS, NOON)
    with record_file.locked(begun.folder):
        assert read_record(begun.folder) == begun


def test_whatever_happens_in_any_order_the_record_is_read_and_its_times_ascend(tmp_path: Path) -> None:
    draw = random.Random(3)
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    done: Counter[str] = Counter()
    for _ in range(40):
        now, ramp, version = NOON + draw.uniform(-DAY, DAY), draw.choice(("1/10", "1/5", "1/2")), draw.choice("abc")
        deeds: dict[str, Callable[[], Record]] = {
            "start": lambda: start(tmp_path, experiment(ramp=ramp), {**VERSIONS, "fp8": (version, "c1")}, now),  # noqa: B023
            "stop": lambda: stop(folder, draw.choice(("", "fp8", "control")), "slow", now),  # noqa: B023
            "resume": lambda: resume(folder, now),  # noqa: B023
            "look": lambda: add_look(folder, look(draw.randrange(9))),
            "ratio": lambda: note_ratio(folder, draw.random()),
        }
        name = draw.choice(list(deeds))
        before = repr(read_record(folder))
        try:
            after = repr(deeds[name]())
            done[name] += after != before
        except InputError:
            after = before
        assert repr(read_record(folder)) == after  # NaN is not equal to itself
    end(folder, NOON)
    record = read_record(folder)
    times = [note.time for note in record.notes]
    assert times == sorted(times)
    assert [stage.since for stage in record.stages] == sorted(stage.since for stage in record.stages)
    assert record.ended == times[-1]
    assert len(done) == 5, "each must have changed something"
    assert all(done.values())


def _write(folder: Path, name: int, ready: Any) -> None:
    ready.wait()
    for turn in range(10):
        note_ratio(folder, 1 / (2 + name + 2 * turn))
        add_look(folder, look(1, units=name))
        stop(folder, "fp8", f"writer {name}", NOON + 1)


def test_threads_that_write_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    ready = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for written in [pool.submit(_write, folder, name, ready) for name in range(2)]:
            written.result()
    _check_written(folder)


@pytest.mark.slow
def test_processes_that_write_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(2)
    writers = [spawn.Process(target=_write, args=(folder, name, ready)) for name in range(2)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert [one.exitcode for one in writers] == [0, 0]
    _check_written(folder)


def _flip(folder: Path, turned: Any) -> None:
    for turn in range(10**6):
        (stop(folder, "fp8", "slow", NOON + turn) if turn % 2 == 0 else resume(folder, NOON + turn))
        turned.set()


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_a_whole_record_and_no_lock(tmp_path: Path) -> None:
    folder = start(tmp_path, experiment(), VERSIONS, NOON).folder
    spawn = multiprocessing.get_context("spawn")
    for wait in (0.0, 0.003, 0.007, 0.02):
        if read_record(folder).stop is not None:
            resume(folder, NOON)
        turned = spawn.Event()
        writer = spawn.Process(target=_flip, args=(folder, turned))
        writer.start()
        assert turned.wait(120)
        time.sleep(wait)
        writer.kill()
        writer.join()
        notes = read_record(folder).notes
        assert note_ratio(folder, 0.5 - wait).notes == notes  # a writer finds no lock held
    assert {path.name for path in folder.iterdir()} == {".lock", "record.json"}


def _check_written(folder: Path) -> None:
    found = read_record(folder)
    assert found.lowest_ratio_p == 1 / (2 + 1 + 18)
    assert (len(found.looks), len(found.notes)) == (1, 2)  # one start, one stop


def _start(root: Path, name: int, ready: Any) -> str:
    ready.wait()
    try:
        return start(root, experiment(name=f"one-{name}", salt=f"salt-{name}"), VERSIONS, NOON).name
    except InputError as error:
        return str(error)


def test_of_two_experiments_that_start_at_once_one_is_refused(tmp_path: Path) -> None:
    ready = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        answers = [one.result() for one in [pool.submit(_start, tmp_path, name, ready) for name in range(2)]]
    assert sum("cannot run beside one-" in answer for answer in answers) == 1
    assert sum(answer in ("one-0", "one-1") for answer in answers) == 1


def test_replicas_that_start_one_experiment_at_once_have_one_record(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda now: start(tmp_path, experiment(), VERSIONS, NOON + now), range(4)))
    assert found == [read_record(tmp_path / "fp8-spring")] * 4
