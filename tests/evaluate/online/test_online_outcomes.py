"""Outcomes from the server's log and from a company's own tables."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from logged import START, experiment, log, outcome

from octorec.data.table_format import TableFormat
from octorec.errors import InputError
from octorec.evaluate.online.outcomes import DIFFERENT, DOUBLED, FOREIGN, NAMELESS, UNREADABLE, events_of, read_outcomes
from octorec.evaluate.online.rows import OUTCOMES

COMPOSED, DECOMPOSED = "é", "e\u0301"


def read(*files: Path, columns: dict | None = None) -> tuple[list[dict], dict[str, int]]:
    found, counts = read_outcomes(files, experiment(), TableFormat(columns=columns or {}))
    assert found.schema == OUTCOMES
    return found.to_pylist(), counts


def parquet(path: Path, **columns: object) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def seconds(rows: list[dict]) -> list[float]:
    return [row["time"].timestamp() for row in rows]


def test_the_log_of_the_server_is_read_with_a_value_of_1_where_none_is_given(tmp_path: Path) -> None:
    full = outcome("u", 1.5, value=2.5, request_id="r", item="i", id="1")
    log(tmp_path, [full, {"time": START, "unit": "v", "event": "click"}], OUTCOMES)
    rows, counts = read(tmp_path)
    assert {**rows[0], "time": START + 1.5} == full
    assert (rows[1]["value"], counts) == (1, {})


def test_no_files_and_empty_logs_give_no_rows_and_name_the_metrics(tmp_path: Path) -> None:
    missing = {"metric without a row: click (event click)": 1}
    assert read() == ([], missing)
    assert read(log(tmp_path, [], OUTCOMES)) == ([], missing)


def test_tables_of_a_company_are_read_under_its_names_beside_the_log(tmp_path: Path) -> None:
    log(tmp_path / "log", [outcome("u", 1)], OUTCOMES)
    csv = text(tmp_path / "o.csv", f"customer,what,when,page\n007,click,{START + 2},x\n8,click,{START + 3},y\n")
    rows, counts = read(tmp_path / "log", csv, columns={"unit": "customer", "event": "what", "time": "when"})
    assert [row["unit"] for row in rows] == ["u", "007", "8"]
    assert seconds(rows) == [START + 1, START + 2, START + 3]
    assert [row["value"] for row in rows] == [1, 1, 1]
    assert counts == {}


def test_a_folder_of_parquet_files_and_json_lines_are_tables_too(tmp_path: Path) -> None:
    (tmp_path / "spark").mkdir()
    for part in range(2):
        parquet(tmp_path / "spark" / f"part-0000{part}.parquet", unit=[f"{part}"], event=["click"], time=[START])
    lines = "".join(json.dumps({"unit": n, "event": "click", "time": START + n, "value": n}) + "\n" for n in (5, 6))
    rows, _ = read(tmp_path / "spark", text(tmp_path / "o.jsonl", lines))
    assert [(row["unit"], row["value"]) for row in rows] == [("0", 1), ("1", 1), ("5", 5), ("6", 6)]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([START, START + 1]),
        pa.array([START * 1000, START * 1000 + 1000]),
        pa.array([START * 10**6, START * 10**6 + 10**6]),
        pa.array([START * 10**9, START * 10**9 + 10**9]),
        pa.array([float(START), START + 1.0]),
        pa.array([START, START + 1], pa.timestamp("s")),
        pa.array([START * 10**9 + 7, START * 10**9 + 10**9], pa.timestamp("ns", "Europe/Berlin")),
        pa.array(["2023-11-14 22:13:20", "2023-11-14 22:13:21"]),
        pa.array(["2023-11-14T23:13:20.000+01:00", "2023-11-14T22:13:21Z"]),
        pa.array([str(START), str(START + 1)]),
    ],
)
def test_times_are_read_in_any_of_their_forms(tmp_path: Path, times: pa.Array) -> None:
    rows, _ = read(parquet(tmp_path / "o.parquet", unit=["a", "b"], event=["click"] * 2, time=times))
    assert seconds(rows) == [START, START + 1]
    table = pa.table({"unit": ["a", "b"], "event": ["click"] * 2, "time": times.cast(pa.string())})
    pyarrow.csv.write_csv(table, tmp_path / "o.csv")
    assert seconds(read(tmp_path / "o.csv")[0]) == [START, START + 1]


def test_dates_are_midnights(tmp_path: Path) -> None:
    days = pa.array([19675], pa.date32())
    rows, _ = read(parquet(tmp_path / "o.parquet", unit=["a"], event=["click"], time=days))
    assert seconds(rows) == [datetime(2023, 11, 14, tzinfo=UTC).timestamp()]


@pytest.mark.parametrize(
    "times",
    [[START, START * 1000], [0, START], [5, 6], [None, START], ["soon", "later"], [-START, START], [True, False]],
)
def test_times_that_are_none_are_refused(tmp_path: Path, times: list) -> None:
    with pytest.raises(InputError, match=r"o.parquet: column time"):
        read(parquet(tmp_path / "o.parquet", unit=["a", "b"], event=["click"] * 2, time=times))


@pytest.mark.parametrize("year", [-1, 2300])
def test_years_that_are_none_are_refused(tmp_path: Path, year: int) -> None:
    times = pa.array([(year - 1970) * 31_557_600], pa.timestamp("s"))
    with pytest.raises(InputError, match=r"o.parquet: column time.*1970 to 2286"):
        read(parquet(tmp_path / "o.parquet", unit=["a"], event=["click"], time=times))


def test_unit_ids_of_all_types_are_spelled_as_the_server_does(tmp_path: Path) -> None:
    spelled = {
        "text": (pa.array(["007", DECOMPOSED, COMPOSED, "x"]), ["007", COMPOSED, COMPOSED, "x"]),
        "integers": (pa.array([7, -1, 2**62, 0]), ["7", "-1", str(2**62), "0"]),
        "floats": (pa.array([7.0, None, 2.0, 0.0]), ["7", None, "2", "0"]),
        "categories": (pa.array(["a", "b", "a", None]).dictionary_encode(), ["a", "b", "a", None]),
        "empty": (pa.array(["", "a", None, "b"]), [None, "a", None, "b"]),
    }
    for name, (units, expected) in spelled.items():
        path = parquet(
            tmp_path / f"{name}.parquet", unit=units, event=["click"] * 4, time=[START] * 4, item=list("abcd")
        )
        rows, counts = read(path)
        assert [row["unit"] for row in rows] == [unit for unit in expected if unit is not None]
        assert counts.get(NAMELESS, 0) == expected.count(None)


@pytest.mark.parametrize("unit", ["x" * 257, "é" * 129, "x" * 2**20, 1.5, float("nan"), True, [1]])
def test_unit_ids_that_are_none_are_refused_by_column(tmp_path: Path, unit: object) -> None:
    with pytest.raises(InputError, match=r"o.parquet: column unit"):
        read(parquet(tmp_path / "o.parquet", unit=[unit], event=["click"], time=[START]))


@pytest.mark.parametrize("column", ["unit", "request_id"])
def test_one_of_unit_and_request_is_enough(tmp_path: Path, column: str) -> None:
    path = parquet(tmp_path / "o.parquet", event=["click"], time=[START], **{column: ["a"]})
    assert [row[column] for row in read(path)[0]] == ["a"]


def test_columns_that_are_missing_or_unknown_are_named(tmp_path: Path) -> None:
    good = {"unit": ["a"], "event": ["click"], "time": [START]}
    for missing, said in (("unit", "must have unit or request_id"), ("event", "event is missing"), ("time", "time is")):
        path = parquet(tmp_path / "o.parquet", **{name: good[name] for name in good if name != missing})
        with pytest.raises(InputError, match=said):
            read(path)
    path = parquet(tmp_path / "o.parquet", **good)
    with pytest.raises(InputError, match="columns: got 'user'; allowed: time, unit"):
        read(path, columns={"user": "a"})
    with pytest.raises(InputError, match="columns: unit: got 'uid'"):
        read(path, columns={"unit": "uid"})


@pytest.mark.parametrize("event", ["", None])
def test_an_outcome_without_an_event_is_refused(tmp_path: Path, event: str | None) -> None:
    path = parquet(tmp_path / "o.parquet", unit=["a", "b"], event=["click", event], time=[START] * 2)
    with pytest.raises(InputError, match=r"column event.*row 2"):
        read(path)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([2, None]), [2, 1]),
        (pa.array([2.5, -1.0]), [2.5, -1]),
        (pa.array([True, False]), [1, 0]),
        (pa.array(["2.50", "1.00"]).cast(pa.decimal128(5, 2)), [2.5, 1]),
        (pa.nulls(2), [1, 1]),
    ],
)
def test_values_are_numbers_and_1_where_there_is_none(tmp_path: Path, values: pa.Array, expected: list) -> None:
    table = pa.table({"unit": ["a", "b"], "event": ["click"] * 2, "time": [START] * 2, "value": values})
    pyarrow.parquet.write_table(table, tmp_path / "o.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "o.csv")
    for name in ("o.parquet", "o.csv"):
        assert [row["value"] for row in read(tmp_path / name)[0]] == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e16, "much", [1.0]])
def test_values_that_are_none_are_refused_by_row(tmp_path: Path, value: object) -> None:
    values = [1.0 if isinstance(value, float) else value, value]
    path = parquet(tmp_path / "o.parquet", unit=["a", "b"], event=["click"] * 2, time=[START] * 2, value=values)
    with pytest.raises(InputError, match=r"o.parquet: column value.*numbers from -1e\+15 to 1e\+15"):
        read(path)


def test_rows_of_the_log_that_say_nothing_are_left_out_by_name(tmp_path: Path) -> None:
    bad = [outcome("u", 1) | more for more in ({"time": None}, {"event": None}, {"value": 1e300})]
    rows, counts = read(log(tmp_path, [*bad, outcome(None, 1), outcome("v", 1)], OUTCOMES))
    assert [row["unit"] for row in rows] == ["v"]
    assert counts == {UNREADABLE: 3, NAMELESS: 1}


def test_foreign_events_are_counted_and_left_out(tmp_path: Path) -> None:
    rows, counts = read(
        log(tmp_path, [outcome("u", 1), outcome("u", 1, "scroll"), outcome("v", 1, "scroll")], OUTCOMES)
    )
    assert ([row["event"] for row in rows], counts) == (["click"], {FOREIGN: 2})


def test_rows_that_are_of_no_metrics_event_at_all_are_refused_with_what_was_found(tmp_path: Path) -> None:
    path = parquet(tmp_path / "o.parquet", unit=list("abc"), event=["Click", "Click", "view"], time=[START] * 3)
    with pytest.raises(InputError, match=r"Click \(2\), view \(1\).*no row is of an event that a metric uses: click"):
        read(path)


def test_a_metric_without_a_row_is_named_beside_others(tmp_path: Path) -> None:
    given = experiment(click={}, price={"event": "click", "kind": "ratio", "per": "order"})
    assert events_of(given) == ["click", "order"]
    _, counts = read_outcomes(log(tmp_path, [outcome("u", 1)], OUTCOMES), given)
    assert counts == {"metric without a row: price (event order)": 1}


def test_doubles_by_id_and_equal_rows_without_one_are_counted_once(tmp_path: Path) -> None:
    rows = [
        outcome("u", 2, id="1"), outcome("u", 2, id="1"), outcome("v", 1, id="1"), outcome("u", 2, id="2"),
        outcome("u", 2), outcome("u", 2), outcome("u", 2, value=3), outcome("u", 2, item="i"), outcome("v", 2),
    ]  # fmt: skip
    found, counts = read(log(tmp_path, rows, OUTCOMES))
    kept = [(row["unit"], row["id"], row["value"], row["item"]) for row in found]
    assert kept == [("v", "1", 1, None), ("u", "2", 1, None), ("u", None, 1, None), ("u", None, 3, None),
                    ("u", None, 1, "i"), ("v", None, 1, None)]  # fmt: skip
    assert counts == {DIFFERENT: 2, DOUBLED: 1}


def test_a_file_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    log(tmp_path / "log", [outcome(f"u{n}", n) for n in range(10)], OUTCOMES)
    path = parquet(
        tmp_path / "o.parquet", unit=[f"u{n}" for n in range(8)], event=["click"] * 8, time=np.arange(8) + START
    )
    rows, counts = read(tmp_path / "log", path, path, tmp_path / "log")
    assert (len(rows), counts) == (10, {DOUBLED: 26})


def test_broken_files_are_named(tmp_path: Path) -> None:
    for name, content in {"a.parquet": "x", "a.csv": "", "a.jsonl": "[1]\n", "a.xlsx": "PK"}.items():
        with pytest.raises(InputError, match=name):
            read(text(tmp_path / name, content))
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "missing")


def test_a_csv_without_a_header_is_read_by_places(tmp_path: Path) -> None:
    path = text(tmp_path / "o.csv", f"007,click,{START}\n8,click,{START}\n")
    rows, _ = read(path, columns={"unit": "0", "event": "1", "time": "2"})
    assert [row["unit"] for row in rows] == ["007", "8"]


def test_separator_and_times_may_be_written_in_a_company_s_way(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("customer;when;what;total\n042;30.11.2026 12:00;click;2\n7;01.12.2026 00:30;click;3\n")
    columns = {"unit": "customer", "time": "when", "event": "what", "value": "total"}
    table, _ = read_outcomes(path, experiment(), TableFormat(";", columns, "%d.%m.%Y %H:%M"))
    assert table["unit"].to_pylist() == ["042", "7"]
    assert [f"{time:%Y-%m-%d %H:%M}" for time in table["time"].to_pylist()] == ["2026-11-30 12:00", "2026-12-01 00:30"]
    with pytest.raises(InputError, match="column time"):
        read_outcomes(path, experiment(), TableFormat(";", columns, "%Y-%m-%d"))
