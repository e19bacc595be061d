from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from octorec.data.interactions import Interactions
from octorec.data.splits import Example, leave_last_out
from octorec.errors import InputError
from octorec.evaluate import baselines
from octorec.evaluate.baselines import MarkovChain, Popularity


def interactions(sequences):
    rows = [(user, item, time) for user, items in sequences.items() for time, item in enumerate(items)]
    users, items, times = zip(*rows, strict=True)
    return Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))


def asked(*history):
    return [Example("someone", history, "target")]


TRAIN = interactions({"u": ["a", "b", "c"], "v": ["a", "b", "d"], "w": ["e", "c"], "x": ["c"]})
# counts: c 3, a 2, b 2, d 1, e 1. One place apart: ab 2, bc 1, bd 1, ec 1. Two: ac 1, ad 1.


def test_popularity_by_hand():
    model = Popularity.fit(TRAIN)
    assert model.item_ids.tolist() == ["c", "a", "b", "d", "e"]
    assert model.counts.tolist() == [3, 2, 2, 1, 1]
    assert model.rank(asked("a"), 3, exclude_seen=True).tolist() == [["c", "b", "d"]]


def test_markov_by_hand():
    model = MarkovChain.fit(TRAIN, decay=0.5, window=1)
    assert model.rank(asked("b"), 4, exclude_seen=True).tolist() == [["c", "d", "a", "e"]]  # c, d 1; the popular rest
    assert model.rank(asked("b", "e"), 3, exclude_seen=True).tolist() == [["c", "d", "a"]]  # c 1 + 0.5, d 0.5
    assert model.rank(asked("b", "c"), 3, exclude_seen=True).tolist() == [
        ["d", "a", "e"]
    ]  # c is seen and has no successor: b speaks
    wider = MarkovChain.fit(TRAIN, decay=0.5, window=2)
    assert wider.rank(asked("a"), 4, exclude_seen=True).tolist() == [["b", "c", "d", "e"]]  # b 2, c 1, d 1


def test_decay_0_asks_the_last_item_alone():
    assert MarkovChain.fit(TRAIN, decay=0.0, window=1).rank(asked("b", "e"), 3, exclude_seen=True).tolist() == [
        ["c", "a", "d"]
    ]


def test_the_whole_history_is_masked_and_short_lists_end_in_nothing():
    for model in (Popularity.fit(TRAIN), MarkovChain.fit(TRAIN)):
        assert model.rank(asked("a", "b", "c", "d"), 3, exclude_seen=True).tolist() == [["e", "", ""]]


def test_seen_items_stay_where_nobody_excludes_them():
    assert MarkovChain.fit(TRAIN).rank(asked("a", "b", "c", "d"), 5, exclude_seen=False).tolist() != [
        ["e", "", "", "", ""]
    ]
    everything = sorted(Popularity.fit(TRAIN).rank(asked("c"), 5, exclude_seen=False)[0])
    assert everything == ["a", "b", "c", "d", "e"]
    assert Popularity.fit(TRAIN).rank(asked("c"), 1, exclude_seen=False).tolist() == [["c"]]


def test_unknown_and_empty_histories_get_what_is_popular():
    model = MarkovChain.fit(TRAIN)
    assert model.rank(asked("never met"), 2, exclude_seen=True).tolist() == [["c", "a"]]
    assert model.rank(asked(), 2, exclude_seen=True).tolist() == [["c", "a"]]


def test_ties_go_by_number_where_all_ids_are_numbers():
    assert Popularity.fit(interactions({"u": ["10", "9"]})).item_ids.tolist() == ["9", "10"]


def brute_force(sequences, history, k, decay, window):
    """The documented definition, one item at a time."""
    popularity = Counter(item for items in sequences.values() for item in items)
    follows = Counter()
    for items in sequences.values():
        for at, item in enumerate(items):
            follows.update((item, later) for later in items[at + 1 : at + 1 + window])
    scores = {
        item: sum(decay**age * follows[before, item] for age, before in enumerate(reversed(history)))
        for item in popularity
        if item not in history
    }
    return sorted(scores, key=lambda item: (-scores[item], -popularity[item], int(item)))[:k]


@pytest.mark.parametrize(("decay", "window"), [(0.5, 1), (0.75, 2), (1.0, 3)])
def test_random_sequences_against_brute_force(monkeypatch, decay, window):
    monkeypatch.setattr(baselines, "EXAMPLES_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    sequences = {f"u{u}": [str(i) for i in rng.zipf(1.5, rng.integers(2, 12)) % 30] for u in range(60)}
    train, examples = leave_last_out(interactions(sequences), 2)
    learned = train.histories()
    ranked = MarkovChain.fit(train, decay, window).rank(examples, 6, exclude_seen=True)
    for example, row in zip(examples, ranked.tolist(), strict=True):
        assert [item for item in row if item] == brute_force(learned, example.history, 6, decay, window)


def test_no_examples():
    assert MarkovChain.fit(TRAIN).rank([], 3, exclude_seen=True).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MarkovChain.fit(TRAIN, decay=1.5), "decay: got 1.5"),
        (lambda: MarkovChain.fit(TRAIN, window=0), "window: got 0"),
        (lambda: MarkovChain.fit(TRAIN).rank(asked("a"), 0, exclude_seen=True), "k: got 0"),
        (lambda: Popularity.fit(TRAIN).rank(asked("a"), -1, exclude_seen=True), "k: got -1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
