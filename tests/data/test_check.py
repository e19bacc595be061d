"""What `data check` finds in tables of interactions, items and users."""

import json

import pytest

from octorec.data.check import check_table
from octorec.data.table_format import TableFormat
from octorec.errors import InputError

LOG = "uid;item_id;rating;timestamp\na;x;1;1700000300\na;y;5;1700000100\na;x;5;1700000300\nb;x;2.5;1700000100\n"


def write(folder, content, name="table.csv"):
    (folder / name).write_text(content)
    return folder / name


def test_interactions_are_counted(tmp_path):
    found = check_table(write(tmp_path, LOG), TableFormat(columns={"user_id": "uid"}))
    assert (found.kind, found.written) == ("interactions", "CSV")
    assert found.columns == {"user_id": "uid", "item_id": "item_id", "timestamp": "timestamp"}
    assert found.unread == ["rating"]
    expected = {
        "rows": 4, "users": 2, "items": 2, "time": "from 2023-11-14 to 2023-11-14", "time_unit": "s",
        "oldest": 1700000100, "newest": 1700000300, "in_order_of_time": False, "duplicate_rows": 1,
        "items_met_again": 0, "ties_in_time": 0, "shortest_history": 1, "median_history": 2.0, "longest_history": 3,
        "users_with_one_row": 1, "users_with_two_rows": 0, "items_met_once": 1,
        "column rating": "1.0: 1, 2.5: 1, 5.0: 2",
    }  # fmt: skip
    assert found.facts == expected
    assert json.loads(json.dumps(found.to_dict()))["facts"] == expected


@pytest.mark.parametrize(
    ("users", "said"),
    [
        (["u1", "U1 ", "x"], "user ids differ in case or spaces alone, such as 'u1' and 'U1 '"),
        (["7", "007", "x"], "user ids differ in leading zeros or .0 alone, such as '7' and '007'"),
        (["7.0", "7", "x"], "user ids differ in leading zeros or .0 alone, such as '7.0' and '7'"),
        (["NULL", "a", "b"], "rows with the user id 'NULL': 2; does it mean that there is none?"),
    ],
)
def test_odd_ids_are_said(users, said, tmp_path):
    rows = "".join(f"{user},i{n},{1_700_000_000 + n}\n" for n, user in enumerate([*users, *users]))
    found = check_table(write(tmp_path, "user_id,item_id,timestamp\n" + rows))
    assert said in found.remarks


def test_users_without_a_target_are_said(tmp_path):
    found = check_table(write(tmp_path, LOG), TableFormat(columns={"user_id": "uid"}))
    assert any(remark.startswith("users with a single row: 1") for remark in found.remarks)


def test_items_and_users_are_known_by_their_columns(tmp_path):
    items = "item_id,title,sets,genres,live\n1,,a|b,x,true\n2,T,,y,false\n"
    found = check_table(write(tmp_path, items))
    assert found.kind == "items"
    assert found.facts == {"rows": 2, "without_title": 1, "named_sets": 2, "without_sets": 1, "withdrawn": 1}
    users = "user_id,plan,age\n1,free,30\n2,,31\n"
    found = check_table(write(tmp_path, users))
    assert found.kind == "users"
    assert found.facts == {"rows": 2, "field plan": "1 values, 1 missing", "field age": "30 to 31, 0 missing"}
    assert check_table(write(tmp_path, "user_id,item_id,timestamp\n1,2,3\n"), kind="users").kind == "users"


def test_columns_that_look_like_ours_are_said(tmp_path):
    path = write(tmp_path, "movieId,title,genres\n1,T,a|b\n")
    found = check_table(path, TableFormat(columns={"item_id": "movieId"}))
    assert "some columns that are not read look like ours: --columns item_id=movieId,sets=genres" in found.remarks


def test_another_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match="kind: got 'x'; allowed: interactions, items, users"):
        check_table(write(tmp_path, LOG), kind="x")
