"""What is said of an interactions table before anything is learned from it."""

import time

import pyarrow as pa
import pytest

from octorec.data.interactions import Interactions
from octorec.data.remarks import Repeats, remarks, repeats, values

NOW = 1_700_000_000


def table(rows):
    users, items, times = zip(*rows, strict=True)
    return Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("u", "a", 1), ("u", "b", 2), ("v", "a", 1)], Repeats(0, 0, 0)),
        ([("u", "a", 1), ("u", "b", 2), ("u", "a", 1), ("u", "a", 1)], Repeats(2, 0, 0)),
        ([("u", "a", 1), ("u", "b", 2), ("u", "a", 3), ("v", "b", 3)], Repeats(0, 1, 0)),
        ([("u", "a", 1), ("u", "b", 1), ("u", "c", 1), ("v", "b", 1)], Repeats(0, 0, 2)),
        ([("u", "a", 1), ("u", "b", 1), ("u", "a", 1), ("u", "a", 2)], Repeats(1, 1, 1)),
    ],
)
def test_repeats_are_counted(rows, found):
    assert repeats(table(rows)) == found


def test_a_clean_table_gets_no_remark():
    assert remarks(table([("u", "a", NOW), ("u", "b", NOW + 1), ("v", "a", NOW)]), ["title", "note"]) == []


@pytest.mark.parametrize(
    ("rows", "unread", "said"),
    [
        ([("u", "a", NOW), ("u", "a", NOW), ("u", "b", NOW + 1)], [], "rows that repeat an earlier one"),
        ([("u", "a", NOW), ("u", "a", NOW + 1)], [], "rows in which a user meets an item again: 1; each counts"),
        (
            [("u", "a", NOW), ("u", "b", NOW), ("u", "c", NOW + 1)],
            [],
            "rows with the time of another row of their user",
        ),
        ([("u", "a", NOW), ("u", "b", int(time.time()) + 10**6)], [], "timestamps in the future: 1"),
        ([("u", "a", NOW * 1000), ("u", "b", int(time.time() + 10**6) * 1000)], [], "timestamps in the future: 1"),
        ([("u", "a", NOW), ("u", "b", NOW * 1000)], [], "timestamps are in several units (such as s and ms)"),
        ([("u", "a", NOW), ("v", "b", NOW)], [], "all timestamps are the same"),
        (
            [("u", "a", NOW), ("v", "b", NOW + 1)],
            ["title", "Rating"],
            "column Rating is not read: each row counts alike",
        ),
        ([("u", "a", NOW), ("v", "b", NOW + 1)], ["event_type"], "column event_type is not read"),
    ],
)
def test_what_is_remarkable_is_said_in_a_line(rows, unread, said):
    found = remarks(table(rows), unread)
    assert len(found) == 1
    assert said in found[0]


def test_columns_of_worth_are_known_by_name():
    assert values(["rating:float", "plays", "title", "review_score"]) == {
        "rating:float": "rating", "plays": "weight", "review_score": "rating",
    }  # fmt: skip
