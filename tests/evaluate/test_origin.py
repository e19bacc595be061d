"""Which targets a checkpoint had learned from, as its records tell, and the sentences about them."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from octorec.data.interactions import Interactions
from octorec.data.learned import learned_from
from octorec.data.splits import training_part
from octorec.evaluate.origin import Side, origin_of
from octorec.report.verdict import _origin


def made(lengths, newest=()):
    """Users u0, u1, ... who walk round 9 items, `newest` after them."""
    rows = [(f"u{user}", str((user + step) % 9), step) for user, length in enumerate(lengths) for step in range(length)]
    rows += [(f"u{user}", item, 1000) for user in range(len(lengths)) for item in newest]
    users, items, times = zip(*rows, strict=True)
    return Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))


DATA = made([6] * 10)
LIVE = np.arange(9) != 5  # item 5 is withdrawn


def places(ids):
    return np.array([int(item) if item.isdigit() and int(item) < 9 else -1 for item in ids], np.int64)


def side(catalog, training, data=DATA, given_vectors=False):
    """A checkpoint whose records say how many newest interactions were held out; None: no record."""
    records = [None if held is None else learned_from(training_part(data, held)) for held in (catalog, training)]
    catalog = SimpleNamespace(learned=records[0], given_vectors=given_vectors, places=places, live=LIVE)
    return Side(catalog, records[1])


@pytest.mark.parametrize(
    ("catalog", "training", "predicted", "seen"),
    [(1, 1, 1, (0, 0)), (0, 1, 1, (10, 0)), (1, 0, 1, (0, 10)), (1, 1, 3, (20, 20)), (2, 2, 1, (0, 0)),
     (2, 3, 2, (0, 0)), (None, 1, 1, (None, 0)), (1, None, 1, (0, None))],
)  # fmt: skip
def test_targets_beyond_what_was_held_out_were_seen(catalog, training, predicted, seen):
    origin = origin_of(DATA, predicted, {"checkpoint": side(catalog, training)})
    assert tuple(origin.seen["checkpoint"].values()) == seen
    warned = [part for part, count in zip(("catalog", "training"), seen, strict=True) if count != 0]
    assert [sentence.split()[1] for sentence in origin.warnings] == warned
    assert origin.hold_out == predicted


def test_two_checkpoints_share_a_sentence_where_it_is_the_same():
    both = origin_of(DATA, 1, {"baseline": side(0, 1), "candidate": side(0, 1)})
    assert [s.split(" learned")[0] for s in both.warnings] == ["the catalog of the baseline and the candidate"]
    one = origin_of(DATA, 1, {"baseline": side(1, 1), "candidate": side(1, 0)})
    assert [s.split(" learned")[0] for s in one.warnings] == ["the training of the candidate"]
    assert one.seen == {"baseline": {"catalog": 0, "training": 0}, "candidate": {"catalog": 0, "training": 10}}


def test_what_cannot_be_told_is_a_sentence_of_its_own():
    other = origin_of(made([5, 6] * 5), 1, {"checkpoint": side(1, 1)})
    assert other.seen == {"checkpoint": {"catalog": None, "training": None}}
    assert all("learned from 50 interactions that are no part of these data" in said for said in other.warnings)
    unknown = origin_of(DATA, 1, {"checkpoint": side(None, 1)})
    assert "keeps no record of what it learned from" in unknown.warnings[0]
    brought = origin_of(DATA, 1, {"checkpoint": side(None, 1, given_vectors=True)})
    assert "built over vectors that its items brought" in brought.warnings[0]
    assert all("cannot be told" in said for said in (*other.warnings, *unknown.warnings, *brought.warnings))


def test_newer_targets_were_not_seen_by_what_ended_before():
    assert origin_of(made([6] * 10, newest=["3"]), 1, {"checkpoint": side(1, 0)}).warnings == ()
    assert origin_of(made([6] * 12, newest=["3"]), 1, {"checkpoint": side(0, 0)}).warnings == ()


def test_users_of_one_interaction_are_left_out_and_counted():
    origin = origin_of(made([1, 1, 4, 2]), 1, {})
    assert origin.users_left_out == 2
    counts = {"hold_out": 1, "users_left_out": 2, "targets_seen": {}, "targets_withdrawn": {}, "warnings": []}
    assert origin.to_dict() == {**counts, "sample": None}


def test_targets_that_are_withdrawn_are_counted_and_said():
    both = {"baseline": side(1, 1), "candidate": side(1, 1)}
    origin = origin_of(DATA, 2, both)  # user u's targets are u + 4 and u + 5, modulo 9
    assert origin.to_dict()["targets_withdrawn"] == {"baseline": 3, "candidate": 3}
    lines = [str(line) for line in _origin(origin)]
    said = "Targets that are withdrawn items, misses here while the floors may return them: baseline 3, candidate 3"
    assert lines.count(said) == 1
    unknown = origin_of(made([6] * 3, ["new"]), 1, both)
    assert unknown.withdrawn == {"baseline": 0, "candidate": 0}
    assert not any("withdrawn" in str(line) for line in _origin(unknown))
