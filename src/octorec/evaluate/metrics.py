"""Compute recall, pass, NDCG at k and the overlap of ranked lists.

A ranked list is a row of names, best first, each once: item ids, or semantic IDs. `RankedItems` is [n, k] of str, ""
behind the end of a shorter list. A row may have several targets, T at most. With one target a row recall@k and pass@k
are one number, which other programs call HR@k, and the ideal DCG is 1. A row without targets, or without a list, counts
0 everywhere.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from octorec.errors import InputError

RankedItems = np.ndarray  # [n, k] object: str
ABSENT = -1  # the rank of a target that a list does not hold
NO_TARGET = -2  # stands for the targets that a row has fewer than others
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


def ranks_of(ranked: RankedItems, targets: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the places of each list's targets, which differ within a row: as `target_ranks` where each row has one;
    else [n, T] int64, with NO_TARGET behind a row's last.
    """
    if all(len(wanted) == 1 for wanted in targets):
        return target_ranks(ranked, [wanted[0] for wanted in targets])
    most = max(map(len, targets), default=0)
    ranks = np.full((len(targets), max(most, 1)), NO_TARGET, np.int64)
    for row, (names, wanted) in enumerate(zip(ranked.tolist(), targets, strict=True)):
        place = {name: at for at, name in enumerate(names) if name}
        ranks[row, : len(wanted)] = [place.get(name, ABSENT) for name in wanted]
    return ranks


def recall_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return the share of a row's targets that stand among the first `k`: [n] float64. ranks: [n] or [n, T]."""
    return np.asarray(_found(ranks, k).sum(1) / np.maximum(_given(ranks), 1))


def pass_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return 1.0 where one of a row's targets stands among the first `k`: [n] float64."""
    return np.asarray(_found(ranks, k).any(1), np.float64)


def ndcg_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return the sum of 1 / log2(rank + 2) over the targets among the first `k`, ranks from 0, divided by that of the
    best list of `k`: [n] float64.
    """
    found = _found(ranks, k)
    gains = np.where(found, 1 / np.log2(np.maximum(_columns(ranks), 0) + 2.0), 0.0).sum(1)
    ideal = np.cumsum(1 / np.log2(np.arange(max(found.shape[1], 1)) + 2.0))  # of 1, 2, ... targets in front
    return np.asarray(gains / ideal[np.clip(np.minimum(_given(ranks), k), 1, None) - 1])


def metrics_at(ranks: np.ndarray, cutoffs: Iterable[int]) -> dict[str, np.ndarray]:
    """Return the metrics of every row at every cutoff, [n] float64 each, under `recall@10` and the like: recall and
    NDCG, and pass where ranks are [n, T].
    """
    metrics = {"recall": recall_at, "ndcg": ndcg_at} | ({"pass": pass_at} if ranks.ndim > 1 else {})
    return {f"{name}@{k}": metric(ranks, k) for k in cutoffs for name, metric in metrics.items()}


def _columns(ranks: np.ndarray) -> np.ndarray:
    """Return ranks as [n, T]."""
    return ranks if ranks.ndim > 1 else ranks[:, None]


def _found(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return [n, T] bool: a target stands among the first `k`."""
    _check_k(k)
    columns = _columns(ranks)
    return (columns >= 0) & (columns < k)


def _given(ranks: np.ndarray) -> np.ndarray:
    """Return [n]: how many targets a row has."""
    return (_columns(ranks) != NO_TARGET).sum(1)


def overlap(first: RankedItems, second: RankedItems) -> np.ndarray:
    """Return the share of the longer of two lists that the other holds too, order aside: [n] float64,
    1.0 where both are empty.
    """
    pairs = ((set(a) - END, set(b) - END) for a, b in zip(first.tolist(), second.tolist(), strict=True))
    return np.array([len(a & b) / max(len(a), len(b)) if a or b else 1.0 for a, b in pairs])


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError("k", k, "must be 1 or more")
