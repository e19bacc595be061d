"""The record of what was learned from, and what it can tell about targets."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from octorec.data.interactions import Interactions, read_interactions
from octorec.data.learned import Learned, digest, learned_from, read_learned, targets_seen
from octorec.data.splits import leave_last_out, training_part
from octorec.errors import InputError


def made(histories, start=0):
    """Interactions of users whose times go on from `start` together."""
    rows = [(user, item, start + time) for user, items in histories.items() for time, item in enumerate(items)]
    users, items, times = zip(*rows, strict=True)
    return Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))


HISTORIES = {f"u{n}": [str((n + t) % 9) for t in range(3 + n % 4)] for n in range(8)} | {"single": ["1"]}
WHOLE = made(HISTORIES)


def test_a_digest_knows_the_interactions_and_not_their_form(tmp_path):
    table = WHOLE.table
    shuffled = Interactions.from_table(table.take(np.random.default_rng(0).permutation(len(table))))
    assert digest(shuffled) == digest(WHOLE)
    pyarrow.csv.write_csv(table, tmp_path / "a.csv")
    assert digest(read_interactions(tmp_path / "a.csv")) == digest(WHOLE)
    floats = table.set_column(2, "timestamp", table["timestamp"].cast(pa.float64()))
    assert digest(Interactions.from_table(floats)) == digest(WHOLE)
    changes = [
        table.slice(1),
        pa.concat_tables([table, table.slice(0, 1)]),
        table.set_column(1, "item_id", pa.array(["x", *table["item_id"].to_pylist()[1:]])),
        table.set_column(2, "timestamp", pa.array([99, *table["timestamp"].to_pylist()[1:]])),
    ]
    digests = {digest(Interactions.from_table(changed)) for changed in changes}
    assert len(digests | {digest(WHOLE)}) == 5


@pytest.mark.parametrize("learned_without", range(7))
@pytest.mark.parametrize("predicted", [1, 2, 5])
def test_targets_that_were_learned_from_are_counted(learned_without, predicted):
    record = learned_from(training_part(WHOLE, learned_without))
    assert record.hold_out == learned_without
    targets = {(e.user_id, len(e.history)) for e in leave_last_out(WHOLE, predicted)[1]}
    kept = {(user, place) for user, items in training_part(WHOLE, learned_without).histories().items()
            for place in range(len(items))}  # fmt: skip
    assert targets_seen(record, WHOLE, predicted) == len(targets & kept)


def test_the_split_is_found_whatever_number_the_record_has():
    """Judged on a file that ends where the training did, the newest interactions are what was learned."""
    older = training_part(WHOLE, 1)
    assert targets_seen(learned_from(older), Interactions(older.table), 1) == 8  # all but the user with a single one
    split_twice, _ = leave_last_out(leave_last_out(WHOLE, 1)[0], 1)
    assert learned_from(split_twice).hold_out == 2
    assert targets_seen(learned_from(split_twice), WHOLE, 2) == 0


def test_more_may_be_held_out_than_any_user_or_computer_has():
    learned = learned_from(training_part(WHOLE, 1))
    everything = targets_seen(learned, WHOLE, 1000)
    assert everything > 0
    assert targets_seen(learned, WHOLE, 10**30) == everything


def test_another_file_can_be_told_by_time_alone():
    past = learned_from(made({"a": ["1", "2"], "b": ["3"]}))  # up to time 1
    later = made({"a": ["1", "2", "5"], "c": ["2", "3", "4"]})
    assert targets_seen(past, later, 1) == 0  # at time 2
    assert targets_seen(past, later, 2) is None  # one is at time 1
    assert targets_seen(past, made({"c": ["2", "3"]}, start=1000), 1) is None  # in seconds, or in milliseconds?
    nothing = Learned(0, 0, None, "")
    assert targets_seen(nothing, later, 1) is None


def test_a_record_comes_back_from_json_and_is_else_refused(tmp_path):
    record = learned_from(training_part(WHOLE, 2))
    assert Learned.from_dict("x", json.loads(json.dumps(record.to_dict()))) == record
    path = tmp_path / "training.json"
    assert read_learned(tmp_path) is None
    for foreign in ("[1]", '{"auc": 0.7}', '{"learned": null}'):
        path.write_text(foreign)
        assert read_learned(tmp_path) is None
    path.write_text(json.dumps({"learned": record.to_dict()}))
    assert read_learned(tmp_path) == record
    whole = record.to_dict()
    for broken in (3, [], {}, {**whole, "hold_out": "1"}, {**whole, "digest": 1}, {**whole, "interactions": True},
                   {**whole, "more": 1}, {**whole, "newest": "today"}):  # fmt: skip
        path.write_text(json.dumps({"learned": broken}))
        with pytest.raises(InputError, match=r"training\.json: learned: got"):
            read_learned(tmp_path)
    for damaged in (b"{", b"\xff", b"[" * 200_000, b'{"a":' * 100_000, b"9" * 5000, b" " * 2**24):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"training\.json"):
            read_learned(tmp_path)


def test_a_part_is_refused_below_nothing_and_whole_at_nothing():
    with pytest.raises(InputError, match="hold_out: got -1; must be 0 or more"):
        training_part(WHOLE, -1)
    assert training_part(WHOLE, 0).table.equals(WHOLE.table)
    assert training_part(WHOLE, 10**6).histories() == {user: items[:1] for user, items in HISTORIES.items()}
