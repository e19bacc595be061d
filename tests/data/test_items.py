"""Item tables: types taken over, and every refusal."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.data.items import check_items, matrix, read_items
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


LISTS = {
    "large": lambda rows, kind: pa.array(rows, pa.large_list(kind)),
    "view": lambda rows, kind: pa.array(rows, pa.list_view(kind)),
    "large view": lambda rows, kind: pa.array(rows, pa.large_list_view(kind)),
    "fixed size": lambda rows, kind: pa.array(rows, pa.list_(kind, 2)),
}


@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize(
    "kinds", [(pa.int8(), pa.float16(), pa.string_view()), (pa.uint64(), pa.float64(), pa.binary())]
)
def test_lists_of_every_form_are_read(form, kinds, tmp_path):
    make = LISTS[form]
    codes, vector, names = kinds
    table = {
        "item_id": ["1", "2", "3"],
        "codes": make([[1, 2], [3, 4], [5, 6]], codes),
        "vector": make([[1, 2], [3, 4], [5, 6]], vector),
        "sets": make([["x", "y"], None, ["z", "y"]], names),
    }
    expected = {**{name: column.to_pylist() for name, column in table.items() if name in ("codes", "vector")}}
    pyarrow.parquet.write_table(pa.table(table), tmp_path / "items.parquet")
    for items in (check_items(pa.table(table)), read_items(tmp_path / "items.parquet")):
        assert items.select(["codes", "vector"]).to_pydict() == expected
        assert items["sets"].to_pylist() == [["x", "y"], [], ["z", "y"]]
        assert items.schema.field("codes").type == pa.list_(pa.int32())


def test_sets_may_be_categories_and_titles_too():
    sets = pa.ListArray.from_arrays(pa.array([0, 1, 2]), pa.array(["a", "b"], pa.large_string()).dictionary_encode())
    titles = pa.array(["x", None]).dictionary_encode()
    items = check_items(pa.table({"item_id": [1, 2], "sets": sets, "title": titles}))
    assert items.to_pydict() == {"item_id": ["1", "2"], "title": ["x", ""], "sets": [["a"], ["b"]]}


def test_words_that_mean_nothing_elsewhere_stay_text(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title,live\nNA,null,True\nNaN,true,false\nnull,007,true\n")
    items = read_items(tmp_path / "items.csv").to_pydict()
    assert items["item_id"] == ["NA", "NaN", "null"]
    assert items["title"] == ["null", "true", "007"]
    assert items["live"] == [True, False, True]


def test_an_optional_column_in_other_letters_is_not_overlooked(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,Title\n1,One\n")
    with pytest.raises(InputError, match=r"got \['item_id', 'Title'\]; rename 'Title' to 'title'"):
        read_items(tmp_path / "items.csv")
    pyarrow.parquet.write_table(pa.table({"item_id": [1], " Live": [True]}), tmp_path / "items.parquet")
    with pytest.raises(InputError, match="rename ' Live' to 'live'"):
        read_items(tmp_path / "items.parquet")


def test_a_csv_without_lists_says_where_lists_go(tmp_path):
    (tmp_path / "items.csv").write_text('item_id,codes\n1,"[1, 2]"\n')
    with pytest.raises(InputError, match="a CSV has no lists: use Parquet"):
        read_items(tmp_path / "items.csv")


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
        ({"item_id": ["1", "2"], "vector": [[1.0], [1e300]]}, "NaN or infinity in row 2"),
        ({"item_id": ["1", "2"], "vector": [[[1.0]], [[2.0]]]}, "column vector: got 'list<item: list<item: double>>'"),
        ({"item_id": ["1", "2"], "sets": [{"a": 1}, {"a": 2}]}, "column sets: got 'struct<a: int64>'"),
        ({"item_id": [], "codes": []}, "no rows"),
        ({"item_id": ["1", "2"], "sets": [[1], [2]]}, "column sets: got 'list<item: int64>'"),
        ({"item_id": ["1", "2"], "sets": [["a", None], []]}, "column sets"),
        ({"item_id": ["1", "2"], "live": [1, 0]}, "column live: got 'int64'"),
        ({"item_id": ["1", "2"], "live": [True, None]}, "column live: got 'null in row 2'"),
    ],
)
def test_bad_items(columns, message):
    with pytest.raises(InputError, match=f"^items.*{message}"):
        check_items(pa.table(columns))
