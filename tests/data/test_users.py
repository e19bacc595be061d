"""User tables: each field in the type that it has, from CSV and Parquet."""

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.data.users import read_users
from octorec.errors import InputError


def csv(folder, text):
    (folder / "users.csv").write_text(text)
    return folder / "users.csv"


def parquet(folder, **columns):
    pyarrow.parquet.write_table(pa.table(columns), folder / "users.parquet")
    return folder / "users.parquet"


def test_users_leave_out_what_is_empty(tmp_path):
    path = csv(tmp_path, 'user_id,age,gender\n07,24,M\n8,,F\n9,3,""\n')
    assert read_users(path) == {"07": {"age": 24, "gender": "M"}, "8": {"gender": "F"}, "9": {"age": 3}}


def test_users_without_fields(tmp_path):
    assert read_users(csv(tmp_path, "user_id\n1\n2\n")) == {"1": {}, "2": {}}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["01234", "94301"], ["01234", "94301"]),
        (["1", "-20"], [1, -20]),
        (["1.50", "1e3"], [1.5, 1000.0]),
        (["1", "NA"], ["1", "NA"]),
        (["true", "False"], ["true", "False"]),
        (["12345678901234567890", "1"], ["12345678901234567890", "1"]),
        (["2020-01-01", "2020-01-02"], ["2020-01-01", "2020-01-02"]),
        (["+5", "6"], ["+5", "6"]),
        (["0x10", "1_000"], ["0x10", "1_000"]),
    ],
)
def test_a_csv_column_is_numbers_only_where_each_value_is_written_as_one(written, read, tmp_path):
    path = csv(tmp_path, "user_id,f\n" + "".join(f"u{row},{value}\n" for row, value in enumerate(written)))
    assert [fields["f"] for fields in read_users(path).values()] == read


def test_the_kind_of_a_field_decides_how_it_is_read(tmp_path):
    kinds = {"zip": "category", "age": "number"}
    path = csv(tmp_path, "user_id,zip,age\na,24,07\nb,1.10,NA\nc,,+3.5\n")
    assert read_users(path, kinds) == {"a": {"zip": "24", "age": 7}, "b": {"zip": "1.10"}, "c": {"age": 3.5}}
    path = parquet(tmp_path, user_id=["a", "b"], zip=[24.0, None], age=["7", "null"])
    assert read_users(path, kinds) == {"a": {"zip": 24, "age": 7}, "b": {}}


def test_parquet_fields_of_every_plain_type(tmp_path):
    path = parquet(
        tmp_path,
        user_id=[1.0, 2.0],
        age=[24.0, float("nan")],
        height=[1.5, 2.0],
        zip=pa.array(["01234", None], pa.string_view()),
        tier=pa.array(["x", "y"], pa.large_string()).dictionary_encode(),
        member=[True, None],
        score=[Decimal("1.50"), None],
        nothing=pa.nulls(2),
    )
    first = {"age": 24, "height": 1.5, "zip": "01234", "tier": "x", "member": True, "score": 1.5}
    assert read_users(path) == {"1": first, "2": {"height": 2.0, "tier": "y"}}
    assert type(read_users(path)["1"]["age"]) is int


def test_an_index_that_pandas_added_is_no_field(tmp_path):
    assert read_users(csv(tmp_path, ",Unnamed: 0,user_id,age\n0,0,a,3\n")) == {"a": {"age": 3}}
    path = parquet(tmp_path, user_id=["a"], age=[3], __index_level_0__=[7])
    assert read_users(path) == {"a": {"age": 3}}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1]}, r"got \['id'\]; column user_id is missing"),
        ({"User ID": [1]}, "rename 'User ID' to 'user_id'"),
        ({"user_id": [1, 1]}, "stands more than once"),
        ({"user_id": [1, None]}, "null in row 2"),
        ({"user_id": [1], "tags": [["a"]]}, "column tags"),
        ({"user_id": [1], "born": pa.array([1], pa.date32())}, "column born: got 'date32"),
        ({"user_id": [1, 2], "age": [1.0, float("inf")]}, "column age: got 'infinity in row 2'"),
        ({"user_id": [1, 2], "age": ["1", "young"]}, "column age: got 'text that is no number in row 2'"),
        ({"user_id": [1, 2], "age": ["1", "1e999"]}, "column age: got 'infinity in row 2'"),
    ],
)
def test_bad_users(columns, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_users(parquet(tmp_path, **columns), {"age": "number"})
