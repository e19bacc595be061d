"""Leaving the last interactions out."""

import pyarrow as pa
import pytest

from octorec.data.interactions import Interactions
from octorec.data.splits import Example, leave_last_out, validation_examples
from octorec.errors import InputError


def make(histories):
    rows = [(user, item, time) for user, items in histories.items() for time, item in enumerate(items)]
    users, items, times = zip(*rows, strict=True)
    return Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))


HISTORIES = {"long": ["5", "3", "9", "1"], "one": ["7"], "two": ["2", "8"]}


def test_last_one():
    train, examples = leave_last_out(make(HISTORIES))
    assert train.histories() == {"long": ["5", "3", "9"], "one": ["7"], "two": ["2"]}
    assert examples == [Example("long", ("5", "3", "9"), "1"), Example("two", ("2",), "8")]


def test_several_come_one_at_a_time_and_short_users_keep_one():
    train, examples = leave_last_out(make(HISTORIES), last=2)
    assert train.histories() == {"long": ["5", "3"], "one": ["7"], "two": ["2"]}
    assert examples == [
        Example("long", ("5", "3"), "9"),
        Example("long", ("5", "3", "9"), "1"),
        Example("two", ("2",), "8"),
    ]


def test_training_is_watched_on_the_oldest_that_was_held_out():
    """The newest ones are what is judged in the end."""
    interactions = make(HISTORIES)
    assert validation_examples(interactions, 0) == []
    assert validation_examples(interactions, 1) == leave_last_out(interactions)[1]
    assert validation_examples(interactions, 2) == [Example("long", ("5", "3"), "9")]
    assert validation_examples(interactions, 3) == [Example("long", ("5",), "3")]


def test_more_than_anyone_has():
    train, examples = leave_last_out(make(HISTORIES), last=100)
    assert train.histories() == {"long": ["5"], "one": ["7"], "two": ["2"]}
    assert [example.target for example in examples] == ["3", "9", "1", "8"]


@pytest.mark.parametrize("last", [0, -1])
def test_last_below_one(last):
    with pytest.raises(InputError, match="last"):
        leave_last_out(make(HISTORIES), last)
