import math

import numpy as np
import pytest

from octorec.errors import InputError
from octorec.evaluate.metrics import ABSENT, ndcg_at, overlap, ranked_items, recall_at, target_ranks


def test_by_hand():
    ranked = ranked_items([["a", "b", "c"], ["c", "a", "b"], ["b"], []], 3)
    ranks = target_ranks(ranked, ["a", "b", "x", "a"])
    assert ranks.tolist() == [0, 2, ABSENT, ABSENT]
    assert recall_at(ranks, 2).tolist() == [1, 0, 0, 0]
    assert recall_at(ranks, 3).tolist() == [1, 1, 0, 0]
    assert ndcg_at(ranks, 3).tolist() == [1, 0.5, 0, 0]  # 1 / log2(4)
    assert ndcg_at(ranks, 2).tolist() == [1, 0, 0, 0]


def test_random_lists_against_a_loop():
    rng = np.random.default_rng(0)
    lists = [[str(item) for item in rng.permutation(30)[:10]] for _ in range(200)]
    targets = [str(item) for item in rng.integers(30, size=200)]
    ranks = target_ranks(ranked_items(lists, 10), targets)
    for items, target, recall, ndcg in zip(lists, targets, recall_at(ranks, 5), ndcg_at(ranks, 5), strict=True):
        assert recall == (target in items[:5])
        assert ndcg == pytest.approx(1 / math.log2(2 + items.index(target)) if target in items[:5] else 0)


def test_overlap_ignores_order_and_measures_by_the_longer_list():
    first = ranked_items([["a", "b"], ["a", "b"], ["a"], [], ["a", "b"]], 2)
    second = ranked_items([["b", "a"], ["a", "c"], ["a", "b"], [], []], 2)
    assert overlap(first, second).tolist() == [1, 0.5, 0.5, 1, 0]


def test_no_lists():
    ranks = target_ranks(ranked_items([], 3), [])
    assert ranks.shape == (0,)
    assert ranked_items([], 3).shape == (0, 3)


def test_a_cut_below_1_is_refused():
    with pytest.raises(InputError, match="k: got 0"):
        recall_at(np.array([0]), 0)
    with pytest.raises(InputError, match="k: got -1"):
        ndcg_at(np.array([0]), -1)
