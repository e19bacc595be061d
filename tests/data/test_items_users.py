"""Item and user tables: types taken over, and every refusal."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.data.items import check_items, matrix, read_items
from octorec.data.users import read_users
from octorec.errors import InputError


def test_items_come_back_in_one_set_of_types(tmp_path):
    table = pa.table(
        {
            "item_id": pa.array([1, 2], pa.int64()),
            "title": ["A", None],
            "price": [1.0, 2.0],
            "codes": pa.array([[1, 2], [3, 4]], pa.list_(pa.int64())),
            "sets": pa.array([None, ["x", "y"]], pa.list_(pa.string())),
            "vector": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)),
            "live": [True, False],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "items.parquet")
    items = read_items(tmp_path / "items.parquet")
    assert items.to_pydict() == {
        "item_id": ["1", "2"],
        "title": ["A", ""],
        "codes": [[1, 2], [3, 4]],
        "sets": [[], ["x", "y"]],
        "vector": [[1.0, 2.0], [3.0, 4.0]],
        "live": [True, False],
    }
    assert items.schema.field("codes").type == pa.list_(pa.int32())
    assert items.schema.field("vector").type == pa.list_(pa.float32())
    np.testing.assert_array_equal(matrix(items["codes"]), [[1, 2], [3, 4]])


def test_csv_items_separate_sets_with_bars(tmp_path):
    (tmp_path / "items.csv").write_text('item_id,title,sets\n01,"One, two",a|b\n2,3,\n')
    expected = {"item_id": ["01", "2"], "title": ["One, two", "3"], "sets": [["a", "b"], []]}
    assert read_items(tmp_path / "items.csv").to_pydict() == expected


def test_sets_may_all_be_empty():
    for sets in ([[], []], [None, None]):
        assert check_items(pa.table({"item_id": [1, 2], "sets": sets})).to_pydict()["sets"] == [[], []]


def test_a_slice_of_a_table_reads_its_own_rows():
    table = pa.table({"item_id": ["1", "2", "3"], "vector": [[1.0], [2.0], [3.0]], "sets": [["a"], ["b"], ["c"]]})
    items = check_items(table.slice(1))
    assert items["vector"].to_pylist() == [[2.0], [3.0]]
    np.testing.assert_array_equal(matrix(items["vector"]), [[2], [3]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"title": ["a", "b"]}, "column item_id is missing"),
        ({"item_id": ["1", "1"]}, "column item_id: got '1'; stands more than once"),
        ({"item_id": ["1", None]}, "null in row 2"),
        ({"item_id": ["1", "2"], "title": [1, 2]}, "column title: got 'int64'"),
        ({"item_id": ["1", "2"], "codes": [[1.5], [2.5]]}, "column codes: got 'list<item: double>'"),
        ({"item_id": ["1", "2"], "codes": [[1], None]}, "column codes: got 'null in row 2'"),
        ({"item_id": ["1", "2"], "codes": [[1], [2, 3]]}, "not the first row's 1 in row 2"),
        ({"item_id": ["1", "2"], "codes": [[1, None], [2, 3]]}, "counted over all lists"),
        ({"item_id": ["1", "2"], "codes": [[1, 2], [2, -3]]}, "a negative code in row 2"),
        ({"item_id": ["1", "2"], "codes": [[1], [2**31]]}, "below 2\\^31"),
        ({"item_id": ["1", "2"], "codes": pa.array([[], []], pa.list_(pa.int32()))}, "empty lists"),
        ({"item_id": ["1", "2"], "vector": [1.0, 2.0]}, "column vector: got 'double'"),
        ({"item_id": ["1", "2"], "vector": [[1.0], [float("inf")]]}, "NaN or infinity in row 2"),
        ({"item_id": ["1", "2"], "sets": [[1], [2]]}, "column sets: got 'list<item: int64>'"),
        ({"item_id": ["1", "2"], "sets": [["a", None], []]}, "column sets"),
        ({"item_id": ["1", "2"], "live": [1, 0]}, "column live: got 'int64'"),
        ({"item_id": ["1", "2"], "live": [True, None]}, "column live: got 'null in row 2'"),
    ],
)
def test_bad_items(columns, message):
    with pytest.raises(InputError, match=f"^items.*{message}"):
        check_items(pa.table(columns))


def test_users_leave_nulls_out(tmp_path):
    (tmp_path / "users.csv").write_text("user_id,age,gender\n07,24,M\n8,,F\n")
    assert read_users(tmp_path / "users.csv") == {"07": {"age": 24, "gender": "M"}, "8": {"gender": "F"}}


def test_users_without_fields(tmp_path):
    (tmp_path / "users.csv").write_text("user_id\n1\n2\n")
    assert read_users(tmp_path / "users.csv") == {"1": {}, "2": {}}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1]}, "column user_id is missing"),
        ({"user_id": [1, 1]}, "stands more than once"),
        ({"user_id": [1, None]}, "null in row 2"),
        ({"user_id": [1], "tags": [["a"]]}, "column tags"),
    ],
)
def test_bad_users(tmp_path, columns, message):
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "users.parquet")
    with pytest.raises(InputError, match=message):
        read_users(tmp_path / "users.parquet")
