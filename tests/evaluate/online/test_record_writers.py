"""A record survives whatever writes it: other processes, a kill, a folder that is not as it should be."""

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from recorded import DAY, NOON, VERSIONS, experiment, look

from octorec.errors import InputError
from octorec.evaluate.online import record_file
from octorec.evaluate.online.record import Record, add_look, end, note_ratio, read_record, resume, start, stop


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
