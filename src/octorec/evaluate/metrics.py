"""Compute Recall@k, NDCG@k and overlap of ranked lists.

A ranked list is a row of item ids, best first; `RankedItems` is [n, k] of str, "" behind the end of a shorter list.
With one relevant item a list, Recall@k is 1 or 0 and the ideal DCG is 1.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from octorec.errors import InputError

RankedItems = np.ndarray  # [n, k] object: str
ABSENT = -1
END = frozenset([""])


def ranked_items(lists: Iterable[Sequence[str]], k: int) -> RankedItems:
    """Lay lists of at most `k` item ids side by side: [n, k]."""
    rows = [[*items, *[""] * (k - len(items))] for items in lists]
    assert all(len(row) == k for row in rows), "a list is longer than k"
    return np.array(rows, dtype=object).reshape(len(rows), k)


def target_ranks(ranked: RankedItems, targets: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return the place of each list's target, from 0, or ABSENT: [n] int64."""
    hits = ranked == np.asarray(targets, dtype=object)[:, None]  # [n, k]
    return np.where(hits.any(1), hits.argmax(1), ABSENT)


def recall_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return 1.0 where a target stands among the first `k`: [n] float64."""
    _check_k(k)
    return ((ranks != ABSENT) & (ranks < k)).astype(np.float64)


def ndcg_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return 1 / log2(rank + 2) where a target stands among the first `k`, rank from 0, else 0.0: [n] float64."""
    return recall_at(ranks, k) / np.log2(np.maximum(ranks, 0) + 2.0)


def metrics_at(ranks: np.ndarray, cutoffs: Iterable[int]) -> dict[str, np.ndarray]:
    """Return recall and NDCG of every target at every cutoff, [n] float64 each, under `recall@10` and the like."""
    metrics = {"recall": recall_at, "ndcg": ndcg_at}
    return {f"{name}@{k}": metric(ranks, k) for k in cutoffs for name, metric in metrics.items()}


def overlap(first: RankedItems, second: RankedItems) -> np.ndarray:
    """Return the share of the longer of two lists that the other holds too, order aside: [n] float64,
    1.0 where both are empty.
    """
    pairs = ((set(a) - END, set(b) - END) for a, b in zip(first.tolist(), second.tolist(), strict=True))
    return np.array([len(a & b) / max(len(a), len(b)) if a or b else 1.0 for a, b in pairs])


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError("k", k, "must be 1 or more")
