"""A log's rows outlive its process, a full disk and a full queue; what is lost is counted."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.errors import InputError
from octorec.evaluate.online import log_file
from octorec.evaluate.online.log import RowLog
from octorec.evaluate.online.log_folder import read_log
from octorec.evaluate.online.log_lines import HEAD, encoder, parse_lines
from octorec.evaluate.online.rows import EXPOSURES, OUTCOMES

# Adds rows 0, 1, 2, ... and says after each write how many the disk has; files are turned over all the time.
WRITER = """
import sys, time
from octorec.evaluate.online import log_file
from octorec.evaluate.online.log import RowLog
from octorec.evaluate.online.rows import OUTCOMES
append, total = log_file.LogFile.append, 0
def told(file, lines):
    global total
    kept, trouble = append(file, lines)
    total += kept
    print(total, flush=True)
    return kept, trouble
log_file.LogFile.append = told
{before}
log = RowLog(sys.argv[1], OUTCOMES, flush_s=0.005, file_bytes=4000)
for number in range({rows}):
    log.add({{"time": number, "event": "e", "unit": "u"}})
    if number % 50 == 0:
        time.sleep(0.001)
{after}
"""
KILLED_AT = """
import os, pathlib
left = {count}
def deadly(holder, name):
    call = getattr(holder, name)
    def counted(*args, **kwargs):
        global left
        left -= 1
        if left == 0 and {early}:
            os.kill(os.getpid(), 9)
        made = call(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), 9)
        return made
    setattr(holder, name, counted)
for name in {names}:
    deadly(os if hasattr(os, name) else pathlib.Path, name)
"""


def written(folder: Path, rows: int = 10**9, before: str = "", after: str = "log.close(60)") -> subprocess.Popen:
    code = WRITER.format(rows=rows, before=before, after=after)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)


def times(folder: Path, schema: pa.Schema = OUTCOMES) -> list[int]:
    """The rows' times in whole seconds, in order, each once."""
    return sorted({time.value // 10**6 for time in read_log(folder, schema).table["time"]})


def kill_after_some(child: subprocess.Popen, lines: int) -> int:
    """Let the child write, kill it, and return how many rows it said the disk had."""
    said = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    said += child.communicate()[0].splitlines()
    return int([line for line in said if line.strip()][-1])


def outcome(number: float, **more: object) -> dict:
    return {"time": number, "event": "click", "unit": "u", "value": 1.0, **more}


def until(true: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_rows_of_every_kind_of_value_come_back(tmp_path: Path) -> None:
    log = RowLog(tmp_path, EXPOSURES)
    row = {
        "time": 1.5, "experiment": "x", "stage": 2, "unit": 'ü\n"\u2028', "variant": "b", "group": "experiment",
        "request_id": "r", "ended": "short", "items": ["1", "é"], "model": "", "catalog": None, "latency_ms": 2.5,
    }  # fmt: skip
    log.add(row)
    log.add({"time": 2})
    log.close()
    rows = read_log(tmp_path, EXPOSURES).table
    assert rows.schema == EXPOSURES
    first, second = rows.to_pylist()
    assert first["time"].timestamp() == 1.5
    assert {**first, "time": 1.5} == row
    assert [name for name, value in second.items() if value is not None] == ["time"]
    assert log.lost == 0


def test_a_closed_log_is_one_parquet_file_and_an_empty_one_leaves_nothing(tmp_path: Path) -> None:
    log, idle = RowLog(tmp_path, OUTCOMES), RowLog(tmp_path / "idle", OUTCOMES)
    log.add(outcome(1))
    log.close()
    idle.close()
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == [".parquet"]
    assert list((tmp_path / "idle").iterdir()) == []


def test_rows_are_read_while_their_process_lives_and_other_processes_leave_its_file_alone(tmp_path: Path) -> None:
    log = RowLog(tmp_path, OUTCOMES, flush_s=0.01)
    log.add(outcome(7))
    until(lambda: times(tmp_path) == [7])
    found = read_log(tmp_path, OUTCOMES)
    assert (found.killed, found.torn, found.lost) == (0, 0, 0)
    RowLog(tmp_path, OUTCOMES).close()  # would make Parquet of what a dead process left
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    log.close()


@pytest.mark.parametrize("file_bytes", [1000, 10**9])
def test_large_and_old_files_are_turned_over_without_a_loss(tmp_path: Path, file_bytes: int) -> None:
    log = RowLog(tmp_path, OUTCOMES, flush_s=0.001, file_bytes=file_bytes, file_seconds=60 if file_bytes == 1000 else 0)
    for number in range(400):
        log.add(outcome(number))
        if number % 20 == 0:
            time.sleep(0.002)
    until(lambda: len(list(tmp_path.glob("*.parquet"))) > 1)
    log.close()
    assert times(tmp_path) == list(range(400))
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_killed_process_takes_the_last_interval_alone_with_it(tmp_path: Path) -> None:
    on_disk = kill_after_some(written(tmp_path), 40)
    found = times(tmp_path)
    assert found == list(range(len(found)))
    assert len(found) >= on_disk > 0
    assert read_log(tmp_path, OUTCOMES).killed == 1
    RowLog(tmp_path, OUTCOMES).close()
    assert times(tmp_path) == found
    assert not list(tmp_path.glob("*.jsonl"))
    assert read_log(tmp_path, OUTCOMES).killed == 1


@pytest.mark.slow
def test_a_process_killed_at_any_of_many_instants_leaves_its_rows(tmp_path: Path) -> None:
    for seed in range(7):
        folder = tmp_path / str(seed)
        on_disk = kill_after_some(written(folder), random.Random(seed).randrange(1, 100))
        found = times(folder)
        assert found == list(range(len(found)))
        assert len(found) >= on_disk > 0


def test_what_is_killed_between_the_rename_and_the_removal_is_read_once(tmp_path: Path) -> None:
    before = KILLED_AT.format(count=1, early=True, names=["unlink"])
    before = before.replace("left -= 1", "left -= str(args[0]).endswith('.jsonl')")
    child = written(tmp_path, 200, before)
    child.communicate()
    both = [path.stem for path in tmp_path.glob("*.parquet") if path.with_suffix(".jsonl").exists()]
    assert len(both) == 1
    assert child.returncode == -signal.SIGKILL
    found = read_log(tmp_path, OUTCOMES)
    assert len(found.table) == len(times(tmp_path)) > 0
    RowLog(tmp_path, OUTCOMES).close()
    assert not list(tmp_path.glob("*.jsonl"))
    assert len(read_log(tmp_path, OUTCOMES).table) == len(found.table)


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False])
def test_what_is_killed_at_any_call_to_the_disk_is_read_again(tmp_path: Path, early: bool) -> None:
    for count in range(1 + 3 * early, 46, 6):
        folder = tmp_path / str(count)
        before = KILLED_AT.format(
            count=count, early=early, names=["pwrite", "fsync", "rename", "unlink", "ftruncate", "open"]
        )
        said = written(folder, 300, before).communicate()[0].split()
        assert times(folder)[: int(said[-1]) if said else 0] == list(range(int(said[-1]) if said else 0))
        RowLog(folder, OUTCOMES).close()
        assert [path.name for path in folder.iterdir() if path.suffix != ".parquet"] == []


def test_a_folder_is_read_while_its_files_are_turned_over(tmp_path: Path) -> None:
    child, before = written(tmp_path), 0
    child.stdout.readline()
    for _ in range(15):
        found = read_log(tmp_path, OUTCOMES)
        assert times(tmp_path)[: len(found.table)] == list(range(len(found.table)))
        assert (found.lost, found.torn, found.killed) == (0, 0, 0)
        assert len(found.table) >= before
        before = len(found.table)
    child.kill()
    child.communicate()


def test_files_with_bytes_changed_at_random_are_read_or_refused_by_name(tmp_path: Path) -> None:
    rng = random.Random(0)
    log = RowLog(tmp_path / "a", OUTCOMES)
    for number in range(20):
        log.add(outcome(number))
    until(lambda: times(tmp_path / "a") == list(range(20)))
    lines = next((tmp_path / "a").glob("*.jsonl")).read_bytes()
    log.close()
    whole = {".jsonl": lines, ".parquet": next((tmp_path / "a").glob("*.parquet")).read_bytes()}
    (tmp_path / "b").mkdir()
    refused: list[str] = []
    for number in range(150):
        ending = rng.choice(list(whole))
        changed = bytearray(whole[ending])
        for _ in range(rng.choice((1, 3, 30))):
            changed[rng.randrange(len(changed))] = rng.choice((0, 34, 125, rng.randrange(256)))
        path = tmp_path / "b" / f"x{ending}"
        path.write_bytes(changed[: rng.randrange(len(changed))] if number % 3 == 0 else changed)
        try:
            found = read_log(tmp_path / "b", OUTCOMES)
            assert len(found.table) <= 20
        except InputError as error:
            refused.append(str(error))
        path.unlink()
    assert len(refused) > 20
    assert all("/b/x." in error for error in refused)


def test_a_line_that_was_cut_off_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    kill_after_some(written(tmp_path, 10), 1)
    path = next(tmp_path.glob("*.jsonl"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    lines = whole[HEAD:].count(b"\n")
    for _ in range(2):  # as lines, then as Parquet
        found = read_log(tmp_path, OUTCOMES)
        assert (len(found.table), found.torn) == (lines - 1, 1)
        RowLog(tmp_path, OUTCOMES).close()


def test_broken_lines_amid_good_ones_are_counted() -> None:
    good = [encoder(OUTCOMES)(outcome(number)) for number in range(50)]
    bad = [b"\0\0\0\n", b'{"time":"x"}\n', b'{"foo":1}\n', b"[1]\n", b'{"unit":"\xff"}\n', b'{"time":1', b"\n"]
    for place, line in zip((0, 10, 11, 25, 49, 50, 30), bad, strict=True):
        tables, torn = parse_lines(b"".join([*good[:place], line, *good[place:]]), OUTCOMES)
        read = [time.value // 10**6 for time in pa.concat_tables(tables)["time"]]
        assert (read, torn) == (list(range(50)), line != b"\n")


def test_a_foreign_or_broken_file_is_named(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "a", OUTCOMES)
    log.add(outcome(1))
    log.close()
    good = next((tmp_path / "a").iterdir())
    whole = good.read_bytes()
    foreign = {
        "x.txt": b"notes",
        "x.jsonl": b'{"a": 1}\n' * 100,
        "x.parquet": whole[: len(whole) // 2],
        "y.parquet": b"",
        "z.parquet": whole[:60] + bytes([whole[60] ^ 255]) + whole[61:],
    }
    for name, content in foreign.items():
        path = tmp_path / "a" / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_log(tmp_path / "a", OUTCOMES)
        path.unlink()
    with pytest.raises(InputError, match="columns"):
        read_log(tmp_path / "a", EXPOSURES)
    with pytest.raises(InputError, match="no such file"):
        read_log(tmp_path / "b", OUTCOMES)
    with pytest.raises(InputError, match="is a file"):
        read_log(good, OUTCOMES)


def test_a_foreign_file_among_the_lines_does_not_stop_the_log(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"a": 1}\n' * 100)
    kill_after_some(written(tmp_path), 1)
    log = RowLog(tmp_path, OUTCOMES)
    log.close()
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["notes.jsonl"]
    assert "notes.jsonl" in log.trouble


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
