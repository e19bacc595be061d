"""Reading interactions: what is accepted, the order, and every refusal."""

import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from octorec.data.interactions import Interactions, read_interactions
from octorec.errors import InputError

UUID = "abababab-abab-abab-abab-abababababab"
GOOD = {"user_id": ["b", "a", "b", "b"], "item_id": ["10", "3", "9", "2"], "timestamp": [5, 1, 5, 4]}


def write(folder, columns, suffix=".parquet"):
    path = folder / f"log{suffix}"
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_users_as_first_seen_and_items_oldest_first(tmp_path, suffix):
    interactions = read_interactions(write(tmp_path, {**GOOD, "rating": [1, 2, 3, 4]}, suffix))
    assert list(interactions.histories().items()) == [("b", ["2", "9", "10"]), ("a", ["3"])]
    assert interactions.table.column_names == ["user_id", "item_id", "timestamp"]
    assert len(interactions) == 4


def test_ties_in_time_go_by_text_when_one_id_is_no_integer():
    table = pa.table({"user_id": ["u"] * 3, "item_id": ["9", "10", "x"], "timestamp": [0, 0, 0]})
    assert Interactions.from_table(table).histories() == {"u": ["10", "9", "x"]}


def test_order_agrees_with_python_sorting(tmp_path):
    users = [str(i * 7 % 13) for i in range(400)]
    items = [str(i * 31 % 97 - 40) for i in range(400)]
    times = [i * i % 11 for i in range(400)]
    expected: dict[str, list[tuple[int, int]]] = {}
    for user, item, time in zip(users, items, times, strict=True):
        expected.setdefault(user, []).append((time, int(item)))
    table = pa.table({"user_id": users, "item_id": items, "timestamp": times})
    chunked = pa.concat_tables([table.slice(0, 150), table.slice(150)])  # several chunks a column
    histories = Interactions.from_table(chunked).histories()
    assert list(histories) == list(expected)
    assert histories == {user: [str(item) for _, item in sorted(rows)] for user, rows in expected.items()}


def test_csv_ids_keep_leading_zeros(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("timestamp,user_id,item_id\n1,007,010\n0,007,2\n")
    assert read_interactions(path).histories() == {"007": ["2", "010"]}


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([7, 8], pa.int32()), ["7", "8"]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array(["x", "y"], pa.large_string()), ["x", "y"]),
        (pa.array(["x", "y"], pa.string_view()), ["x", "y"]),
        (pa.array(["x", "y"], pa.large_string()).dictionary_encode(), ["x", "y"]),
        (pa.array([b"x", b"y"]), ["x", "y"]),
        (pa.array([b"x", b"y"], pa.binary_view()), ["x", "y"]),
        (pa.array([7, 8]).dictionary_encode(), ["7", "8"]),
        (pa.array([2**64 - 1, 8], pa.uint64()), ["18446744073709551615", "8"]),
        (pa.array([7.0, -8.0]), ["7", "-8"]),
        (pa.array([7, 8]).cast(pa.float16()), ["7", "8"]),
        (pa.array([Decimal("7.00"), Decimal("8.00")]), ["7", "8"]),
        (pa.array([Decimal(10**30), Decimal(8)], pa.decimal128(38)), [str(10**30), "8"]),
        (pa.array([b"\0" * 15 + b"\1", b"\xab" * 16], pa.uuid()), [f"{'0' * 8}-{'0000-' * 3}{1:012d}", UUID]),
    ],
)
def test_ids_of_other_types_become_text(ids, expected, tmp_path):
    table = pa.table({"user_id": ids, "item_id": ids, "timestamp": [1, 2]})
    assert read_interactions(write(tmp_path, table)).table["item_id"].to_pylist() == expected
    result = Interactions.from_table(table).table
    assert result["user_id"].to_pylist() == result["item_id"].to_pylist() == expected


def test_categories_of_text_views_become_text():
    views = pa.array(["x", "y"], pa.string_view()).dictionary_encode()  # Arrow itself cannot decode these
    table = pa.table({"user_id": views, "item_id": views, "timestamp": [1, 2]})
    assert Interactions.from_table(table).histories() == {"x": ["x"], "y": ["y"]}


@pytest.mark.parametrize(
    ("times", "kind"),
    [
        (pa.array([2.5, 1.5]), pa.float64()),
        (pa.array([2, 1], pa.uint8()), pa.int64()),
        (pa.array([datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 1)]), pa.int64()),
        (pa.array([datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)]), pa.int64()),
        (pa.array([2, 1], pa.timestamp("s")), pa.int64()),
        (pa.array([2, 1], pa.timestamp("ns", "Europe/Berlin")), pa.int64()),
        (pa.array([2 * 86_400_000, 86_400_000], pa.date64()), pa.int64()),
        (pa.array([2, 1]).cast(pa.float16()), pa.float64()),
        (pa.array([2, 1]).dictionary_encode(), pa.int64()),
        (pa.array([Decimal(2), Decimal(1)]), pa.int64()),
        (pa.array([Decimal("1.75"), Decimal("1.50")]), pa.float64()),
    ],
)
def test_timestamps_of_other_types(times, kind):
    table = pa.table({"user_id": ["u", "u"], "item_id": ["late", "early"], "timestamp": times})
    interactions = Interactions.from_table(table)
    assert interactions.histories() == {"u": ["early", "late"]}
    assert interactions.table.schema.field("timestamp").type == kind


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_id": None}, "column item_id is missing"),
        ({"item_id": [1.0, 2.5, 3.0, 4.0]}, "column item_id: got 'a double that is no whole number in row 2'"),
        ({"item_id": [1.0, 2.0**60, 3.0, 4.0]}, "column item_id: got 'a double that is no whole number in row 2'"),
        ({"item_id": [1.0, 2.0, None, 4.0]}, "column item_id: got 'null in row 3'"),
        ({"item_id": [True, False, True, True]}, "column item_id: got 'bool'; must hold text or integers"),
        ({"item_id": [Decimal("1.5")] * 4}, "column item_id: got 'decimal128(2, 1) with fractions'"),
        ({"item_id": [{"a": 1}] * 4}, "column item_id: got 'struct<a: int64>'"),
        ({"item_id": [b"\xff"] * 4}, "(Invalid UTF8 payload)'; text must be UTF-8"),
        ({"item_id": [datetime.date(2020, 1, 1)] * 4}, "column item_id: got 'date32[day]'"),
        ({"item_id": pa.nulls(4)}, "column item_id: got 'null in row 1 and 3 more'"),
        ({"timestamp": [datetime.time(1)] * 4}, "column timestamp: got 'time64[us]'"),
        ({"timestamp": [datetime.timedelta(1)] * 4}, "column timestamp: got 'duration[us]'"),
        ({"timestamp": [1.0, 2.0, 1e19, 3.0]}, "column timestamp: got 'a number of 2^63 or more in row 3'"),
        ({"item_id": ["1", None, "2", None]}, "column item_id: got 'null in row 2 and 1 more'"),
        ({"user_id": ["1", "", "2", "3"]}, "column user_id: got 'empty text in row 2'"),
        ({"timestamp": ["1", "2", "3", "x"]}, "column timestamp, row 4: got 'x'; known: numbers"),
        ({"timestamp": [True, False, True, True]}, "column timestamp: got 'bool'"),
        ({"timestamp": [1, None, 3, 4]}, "column timestamp: got 'null in row 2'"),
        ({"timestamp": [1.0, float("nan"), 3.0, 4.0]}, "column timestamp: got 'NaN or infinity in row 2'"),
        ({"timestamp": pa.array([1, 2, 3, 2**64 - 1], pa.uint64())}, "column timestamp"),
    ],
)
def test_bad_columns_are_named(tmp_path, change, message):
    columns = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    path = write(tmp_path, columns)
    with pytest.raises(InputError) as caught:
        read_interactions(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_duplicate_columns_are_refused(tmp_path, suffix):
    twice = pa.table([["u"], ["1"], ["2"], [3]], names=["user_id", "item_id", "item_id", "timestamp"])
    with pytest.raises(InputError, match="duplicated: item_id"):
        read_interactions(write(tmp_path, twice, suffix))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_empty_tables_are_refused(tmp_path, suffix):
    with pytest.raises(InputError, match="no rows"):
        read_interactions(write(tmp_path, pa.table(GOOD).slice(0, 0), suffix))


@pytest.mark.parametrize("content", [b"", b"user_id,item_id,timestamp\na,1,2\n", b"PAR1", b"PAR1PAR1"])
def test_files_that_are_no_parquet_are_refused(tmp_path, content):
    (tmp_path / "log.parquet").write_bytes(content)
    with pytest.raises(InputError, match="must be a whole"):
        read_interactions(tmp_path / "log.parquet")


def test_truncated_parquet_is_refused(tmp_path):
    path = write(tmp_path, GOOD)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="must be a whole"):
        read_interactions(path)


def test_missing_file_and_unknown_suffix(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_interactions(tmp_path / "none.csv")
    (tmp_path / "log.json").write_text("{}")
    with pytest.raises(InputError, match=r"allowed: \.parquet, \.pq, \.csv"):
        read_interactions(tmp_path / "log.json")
