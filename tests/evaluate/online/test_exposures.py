"""Exposures of all processes, each request of a unit once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from logged import START, both, exposure, log

from octorec.errors import InputError
from octorec.evaluate.online.exposures import JOINED, read_exposures
from octorec.evaluate.online.joined import LOST
from octorec.evaluate.online.log_file import LogFile
from octorec.evaluate.online.rows import ENDED, EXPOSURES, OUTCOMES

DOUBLED = "exposures doubled"
READER = """
import sys, time
from octorec.evaluate.online.exposures import JOINED, read_exposures
def memory():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before, start = memory(), time.monotonic()
table, _ = read_exposures(sys.argv[1], JOINED)
print(time.monotonic() - start, memory() - before, table.num_rows)
"""


def test_an_empty_log_has_no_rows_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    table, counts = read_exposures(log(tmp_path, []))
    assert (table.num_rows, table.schema, counts) == (0, EXPOSURES, {})
    with pytest.raises(InputError, match="no such file"):
        read_exposures(tmp_path / "missing")


def test_a_folder_that_was_copied_twice_counts_each_request_once(tmp_path: Path) -> None:
    log(tmp_path / "a", [exposure("u", 1), exposure("u", 2), exposure("v", 1)])
    for copy in ("b", "c"):
        shutil.copytree(tmp_path / "a", tmp_path / copy)
    rows, counts = both(tmp_path)
    assert [(row["unit"], row["time"].timestamp() - START) for row in rows] == [("u", 1), ("u", 2), ("v", 1)]
    assert counts == {DOUBLED: 6}


def test_logs_of_two_processes_are_one(tmp_path: Path) -> None:
    for unit in "uv":
        log(tmp_path, [exposure(unit, 1)])
    assert sorted(row["unit"] for row in both(tmp_path)[0]) == ["u", "v"]


@pytest.mark.parametrize("first", ENDED)
def test_of_doubles_the_one_that_ended_best_stays_with_the_earliest_time(tmp_path: Path, first: str) -> None:
    ends = [first, *(end for end in ENDED if end != first)]
    log(tmp_path, [exposure("u", time, request_id="r", ended=end) for time, end in enumerate(ends)])
    rows, counts = both(tmp_path)
    assert [(row["ended"], row["time"].timestamp()) for row in rows] == [("answered", START)]
    assert rows[0]["items"] == ["i1"]
    assert counts == {DOUBLED: 4}


def test_doubles_of_one_end_leave_the_same_row_whichever_was_written_first(tmp_path: Path) -> None:
    rows = [exposure("u", 1, request_id="r", model="new"), exposure("u", 0, request_id="r", model="old")]
    for name, order in (("a", rows), ("b", rows[::-1])):
        assert [row["model"] for row in both(log(tmp_path / name, order))[0]] == ["old"]


def test_one_request_id_of_two_units_or_variants_is_no_double(tmp_path: Path) -> None:
    rows = [exposure("u", request_id="r"), exposure("v", request_id="r"), exposure("u", variant="b", request_id="r")]
    assert len(both(log(tmp_path, rows))[0]) == 3


def test_rows_without_a_request_id_are_doubles_at_one_time_alone(tmp_path: Path) -> None:
    rows, counts = both(log(tmp_path, [exposure("u", time, request_id=None) for time in (1, 1, 2)]))
    assert (len(rows), counts) == (2, {DOUBLED: 1})


def test_rows_that_do_not_say_whose_they_are_are_lost(tmp_path: Path) -> None:
    bad = [exposure("u") | {name: None} for name in JOINED if name != "request_id"] + [exposure("u", ended="odd")]
    rows, counts = both(log(tmp_path, [*bad, exposure("v")]))
    assert ([row["unit"] for row in rows], counts) == (["v"], {LOST: len(bad)})


def test_what_a_log_lost_and_what_was_cut_off_is_counted(tmp_path: Path) -> None:
    file = LogFile(tmp_path, "host-1-00000000-1", EXPOSURES)
    line = json.dumps({**exposure("u"), "time": START * 10**6}).encode()
    file.append([line + b"\n", line[:40] + b"\n"])
    file.note(lost=17)
    file.close()
    rows, counts = both(tmp_path)
    killed = "processes killed while they wrote exposures, each with those of its last second"
    assert (len(rows), counts) == (1, {LOST: 18, killed: 1})


def test_a_log_of_outcomes_is_no_log_of_exposures(tmp_path: Path) -> None:
    log(tmp_path, [{"time": 1, "event": "e"}], OUTCOMES)
    with pytest.raises(InputError, match="must be those of its log"):
        read_exposures(tmp_path)


def test_the_join_can_do_without_the_items(tmp_path: Path) -> None:
    log(tmp_path, [exposure("u")])
    assert read_exposures(tmp_path, JOINED)[0].column_names == [name for name in EXPOSURES.names if name in JOINED]
    assert "latency_ms" in read_exposures(tmp_path, ["latency_ms"])[0].column_names


@pytest.mark.slow
def test_a_million_rows_are_read_as_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = 1_000_000
    file = LogFile(tmp_path, "host-1-00000000-1", EXPOSURES)
    line = (
        json.dumps({**exposure("U", request_id="R", items=["item1", "item2", "item3"]), "time": "T"}).replace(
            '"T"', "T"
        )
        + "\n"
    )
    for start in range(0, rows, 50_000):
        numbers = range(start, start + 50_000)
        file.append(
            [
                line.replace("U", f"user-{n % 200_000}")
                .replace('"R"', f'"request-{n}"')
                .replace("T", str(START * 10**6 + n))
                .encode()
                for n in numbers
            ]
        )
    file.close()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    out = subprocess.run([sys.executable, "-c", READER, str(tmp_path)], capture_output=True, text=True, check=True)
    seconds, memory, read = map(float, out.stdout.split())
    with capsys.disabled():
        print(f"\n{rows:,} exposures, {size / 1e6:.0f} MB of lines: {seconds:.1f} s, {memory / 1e3:.0f} MB more memory")
    assert read == rows
    assert memory < 1_000_000  # KB
