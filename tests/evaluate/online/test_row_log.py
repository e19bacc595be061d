"""A log's rows outlive its process, a full disk and a full queue; what is lost is counted."""

import random
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from rowed import KILLED_AT, kill_after_some, outcome, times, until, written

from octorec.errors import InputError
from octorec.evaluate.online.log import RowLog
from octorec.evaluate.online.log_folder import read_log
from octorec.evaluate.online.log_lines import HEAD, encoder, parse_lines
from octorec.evaluate.online.rows import EXPOSURES, OUTCOMES


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
