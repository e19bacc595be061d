"""A row log outlives full disks, foreign files and failing calls: what is lost is counted, and it goes on."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rowed import outcome, times, until, written

from octorec.errors import InputError
from octorec.evaluate.online import log_file
from octorec.evaluate.online.log import RowLog
from octorec.evaluate.online.log_folder import read_log
from octorec.evaluate.online.log_lines import HEAD
from octorec.evaluate.online.rows import OUTCOMES


def test_a_full_disk_drops_rows_counts_them_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[int] = []
    log = RowLog(tmp_path, OUTCOMES, on_lost=lost.append, flush_s=0.01)
    log.add(outcome(0))
    until(lambda: times(tmp_path) == [0])
    room, pwrite = 150, os.pwrite

    def full(handle: int, data: bytes, place: int) -> int:
        nonlocal room
        if place == 0:  # the head lies on blocks that the file has
            return pwrite(handle, data, place)
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= (some := min(room, len(data)))
        return pwrite(handle, data[:some], place)

    with monkeypatch.context() as patch:
        patch.setattr(log_file.os, "pwrite", full)
        with log._lock:  # so that one write gets them all
            lines = [log._encode(outcome(number)) for number in range(1, 18)]
            log._lines += lines
        until(lambda: lost)
        kept = 17 - log.lost
        assert kept == 150 // len(lines[0]) > 0
        until(lambda: read_log(tmp_path, OUTCOMES).lost == log.lost)  # said while the disk is full
        assert read_log(tmp_path, OUTCOMES).torn == 0
        assert next(tmp_path.glob("*.jsonl")).read_bytes()[-1:] == b"\n"
    log.add(outcome(100))
    until(lambda: 100 in times(tmp_path))
    assert times(tmp_path) == [*range(kept + 1), 100]
    log.close()
    assert times(tmp_path) == [*range(kept + 1), 100]
    assert read_log(tmp_path, OUTCOMES).lost == log.lost == sum(lost) == 17 - kept
    assert "No space" in log.trouble


def test_a_disk_that_does_not_keep_what_it_took_loses_those_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RowLog(tmp_path, OUTCOMES, flush_s=0.01)
    log.add(outcome(0))
    until(lambda: times(tmp_path) == [0])

    def failing(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(log_file.os, "fsync", failing)
        log.add(outcome(1))
        until(lambda: log.lost == 1)
    log.add(outcome(2))
    log.close()
    assert times(tmp_path) == [0, 2]
    assert read_log(tmp_path, OUTCOMES).lost == 1


def test_a_file_that_cannot_be_written_any_more_is_left_for_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, pwrite = RowLog(tmp_path, OUTCOMES, flush_s=0.01), os.pwrite
    log.add(outcome(0))
    until(lambda: times(tmp_path) == [0])
    stale = log._file._handle

    def broken(handle: int, data: bytes, place: int) -> int:
        if handle == stale:
            raise OSError(errno.ESTALE, "Stale file handle")
        return pwrite(handle, data, place)

    monkeypatch.setattr(log_file.os, "pwrite", broken)
    log.add(outcome(1))
    until(lambda: log._file._handle != stale)
    log.add(outcome(2))
    log.close()
    assert times(tmp_path) == [0, 2]
    assert read_log(tmp_path, OUTCOMES).lost == log.lost == 1


def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "log", OUTCOMES, flush_s=0.01)
    log.add(outcome(0))
    until(lambda: times(tmp_path / "log") == [0])
    shutil.rmtree(tmp_path / "log", ignore_errors=True)  # the log may be quicker
    until(lambda: list((tmp_path / "log").glob("*-2.jsonl")))
    log.add(outcome(1))
    log.close()
    assert times(tmp_path / "log") == [1]
    assert log.lost == 0


def test_a_real_limit_of_the_system_loses_rows_by_count(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))"
    code = f"""
import sys, time
from octorec.evaluate.online.log import RowLog
from octorec.evaluate.online.rows import OUTCOMES
{limit}
log = RowLog(sys.argv[1], OUTCOMES, flush_s=0.01)
for number in range(1000):
    log.add({{"time": number, "event": "e", "unit": "u"}})
log.close(60)
print(log.lost)
"""
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    found = read_log(tmp_path, OUTCOMES)
    assert found.lost == int(out.stdout) == 1000 - len(found.table)
    assert found.torn == 0
    assert 0 < len(found.table) < 1000
    assert times(tmp_path)[:10] == list(range(10))
    assert out.stderr.count("rows lost") == 1


def test_a_log_that_begins_on_a_full_disk_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log_file.os, "pwrite", full)
        log = RowLog(tmp_path, OUTCOMES, flush_s=0.01)
        log.add(outcome(1))
        until(lambda: log.lost == 1)
    until(lambda: read_log(tmp_path, OUTCOMES).lost == 1)
    log.add(outcome(2))
    log.close()
    assert times(tmp_path) == [2]


def test_a_full_queue_drops_rows_counts_them_and_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, free, append = threading.Event(), threading.Event(), log_file.LogFile.append

    def slow(file: log_file.LogFile, lines: list[bytes]) -> tuple[int, OSError | None]:
        stuck.set()
        assert free.wait(60)
        return append(file, lines)

    lost: list[int] = []
    monkeypatch.setattr(log_file.LogFile, "append", slow)
    log = RowLog(tmp_path, OUTCOMES, on_lost=lost.append, flush_s=0.01, waiting_bytes=1000)
    log.add(outcome(0))
    assert stuck.wait(60)
    for number in range(1, 101):  # returns although the disk hangs
        log.add(outcome(number))
    assert 50 < log.lost < 100
    assert lost == []
    free.set()
    log.close()
    assert sum(lost) == log.lost == read_log(tmp_path, OUTCOMES).lost
    assert times(tmp_path) == list(range(101 - log.lost))


def test_rows_that_are_none_are_counted_and_nothing_is_raised(tmp_path: Path) -> None:
    log = RowLog(tmp_path, OUTCOMES)
    bad = [
           None, {"foo": 1}, outcome(float("nan")), outcome(1, unit=7), outcome(1, unit="\ud800"), outcome("now"),
           outcome(1, value=float("inf")), outcome(1, value=True), outcome(1, item="x" * 2**21), outcome(10**400),
    ]  # fmt: skip
    for row in bad:
        log.add(row)
    assert log.lost == len(bad)
    log.add(outcome(3))
    log.close()
    log.add(outcome(4))
    assert log.lost == len(bad) + 1
    assert times(tmp_path) == [3]
    assert read_log(tmp_path, OUTCOMES).lost == len(bad)


def test_the_thread_lives_on_whatever_fails_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("broken")

    log = RowLog(tmp_path, OUTCOMES, on_lost=broken, flush_s=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(log_file.LogFile, "append", broken)
        log.add(outcome(1))
        until(lambda: log.lost == 1)
    with monkeypatch.context() as patch:
        patch.setattr(log_file.LogFile, "note", broken)
        log.add(outcome(2))
        until(lambda: times(tmp_path) == [2])
        time.sleep(0.03)
    log.add(outcome(3))
    until(lambda: times(tmp_path) == [2, 3])
    assert log.trouble == "broken"
    log.close()


def test_without_a_thread_for_parquet_the_lines_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "row-log-parquet":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", none_left)
    log = RowLog(tmp_path, OUTCOMES, flush_s=0.01, file_bytes=600)
    for number in range(20):
        log.add(outcome(number))
        until(lambda: number in times(tmp_path))  # noqa: B023
    log.close()
    assert (log.lost, times(tmp_path)) == (0, list(range(20)))


def test_a_name_that_another_process_takes_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, taken = log_file._lock, [False, False, True]

    def busy(handle: int, how: int) -> bool | None:
        return lock(handle, how) if not taken or taken.pop(0) else False

    monkeypatch.setattr(log_file, "_lock", busy)
    RowLog(tmp_path / "a", OUTCOMES).close()
    monkeypatch.setattr(log_file, "_lock", lambda handle, how: False)
    with pytest.raises(InputError, match="nothing can be written there"):
        RowLog(tmp_path / "b", OUTCOMES)


def test_on_a_file_system_without_locks_lines_stay_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "_lock", lambda handle, how: None)
    log = RowLog(tmp_path, OUTCOMES)
    log.add(outcome(1))
    log.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    assert times(tmp_path) == [1]


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="nothing can be written there"):
        RowLog(tmp_path / "file" / "log", OUTCOMES)


def test_two_processes_write_one_folder(tmp_path: Path) -> None:
    children = [written(tmp_path, 300) for _ in range(2)]
    for child in children:
        child.communicate()
    found = read_log(tmp_path, OUTCOMES)
    assert len(found.table) == 600
    assert times(tmp_path) == list(range(300))
    assert (found.killed, found.lost) == (0, 0)


def test_a_copied_folder_counts_its_losses_once(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "a", OUTCOMES)
    log.add({"foo": 1})
    log.add(outcome(1))
    log.close()
    (tmp_path / "copy").mkdir()
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    found = read_log(tmp_path, OUTCOMES)
    assert (len(found.table), found.lost) == (2, 1)


def test_the_head_is_a_line_of_json_of_one_length(tmp_path: Path) -> None:
    log = RowLog(tmp_path, OUTCOMES)
    raw = next(tmp_path.iterdir()).read_bytes()
    assert len(raw) == HEAD
    assert json.loads(raw)["columns"] == OUTCOMES.names
    log.close()
