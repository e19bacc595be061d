"""The floors a trained model has to beat: popularity, and a Markov chain of counts.

Both learn from the train interactions alone and rank every item that occurs there, or with exclude_seen those that are
not in the history. Ties go to the more popular item, then to the lower item id (as integers where all are, else as
text).

Letters: V items, n examples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from octorec.data.interactions import Interactions
from octorec.data.splits import Example
from octorec.data.tables import id_rank
from octorec.errors import InputError
from octorec.evaluate.metrics import RankedItems

EXAMPLES_AT_ONCE = 1024  # examples ranked at a time


@dataclass(frozen=True)
class Popularity:
    """Popularity ranks items by their number of interactions.

    item_ids [V] object: the most popular first; counts [V] int64.
    """

    item_ids: np.ndarray
    counts: np.ndarray

    @classmethod
    def fit(cls, interactions: Interactions) -> "Popularity":
        ids = interactions.table.column("item_id").combine_chunks()
        rank = id_rank(ids)
        by_id = np.empty(rank.max(initial=-1) + 1, dtype=object)
        by_id[rank] = ids.to_pylist()
        counts = np.bincount(rank, minlength=len(by_id))
        order = np.argsort(-counts, kind="stable")
        return cls(by_id[order], counts[order])

    def rank(self, examples: Sequence[Example], k: int, exclude_seen: bool) -> RankedItems:
        """Return the `k` most popular items for each example, with exclude_seen none of its history, [n, k]."""
        empty = scipy.sparse.csr_matrix((len(self.item_ids), len(self.item_ids)))
        return MarkovChain(self, empty, decay=0.0).rank(examples, k, exclude_seen)


@dataclass(frozen=True)
class MarkovChain:
    """A MarkovChain counts what came next: N(i, j) is how often item j came at most `window` places
    after i in a user's training.

    With the history h_1 .. h_m, oldest first, item j scores

        sum over a = 0 .. m-1 of  decay^a * N(h_(m-a), j)

    The last item speaks first: alone it would order the items as P(j | h_m) does. Each item before it has `decay` times
    the weight of the one after it, and one that was left more often has more to say. Items that score 0 follow in the
    order of popularity. transitions: N, [V, V] sparse, rows and columns in the order of popularity.
    """

    popularity: Popularity
    transitions: scipy.sparse.csr_matrix
    decay: float

    @classmethod
    def fit(cls, interactions: Interactions, decay: float = 0.7, window: int = 2) -> "MarkovChain":
        """Count the transitions.

        decay: 0 (the last item alone) to 1 (all items alike). window: places, 1 for direct successors alone.
        """
        if not 0 <= decay <= 1:
            raise InputError("decay", decay, "must be from 0 to 1")
        if window < 1:
            raise InputError("window", window, "must be 1 or more")
        popularity = Popularity.fit(interactions)
        index = _index(popularity.item_ids)
        items = np.array([index[item] for item in interactions.table.column("item_id").to_pylist()], dtype=np.int64)
        starts = interactions.user_starts()
        user = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        transitions = scipy.sparse.csr_matrix((len(index), len(index)))
        for places in range(1, window + 1):
            same = user[:-places] == user[places:]
            pair = (items[:-places][same], items[places:][same])
            transitions += scipy.sparse.csr_matrix((np.ones(len(pair[0])), pair), shape=transitions.shape)
        return cls(popularity, transitions, decay)

    def rank(self, examples: Sequence[Example], k: int, exclude_seen: bool) -> RankedItems:
        """Return the `k` best items for each example, with exclude_seen none of its history, [n, k]."""
        if k < 1:
            raise InputError("k", k, "must be 1 or more")
        index = _index(self.popularity.item_ids)
        names = np.append(self.popularity.item_ids, "")  # position -1 is the end of a list
        parts = [names[self._rank(chunk, k, exclude_seen)] for chunk in _histories(examples, index)]
        return np.concatenate([np.empty((0, k), dtype=object), *parts])

    def _rank(self, histories: list[list[int]], k: int, exclude_seen: bool) -> np.ndarray:
        """Return the positions of the best items, [len(histories), k] int64, -1 behind the end."""
        lengths = np.array([len(history) for history in histories])
        owner = np.repeat(np.arange(len(histories)), lengths)
        seen = np.concatenate([np.array(history, dtype=np.int64) for history in histories])
        ages = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(len(seen))
        shape = (len(histories), len(self.popularity.item_ids))
        weights = scipy.sparse.csr_matrix((self.decay ** ages.astype(float), (owner, seen)), shape=shape)
        scored = (weights @ self.transitions).tocoo()
        gone = owner * shape[1] + seen if exclude_seen else seen[:0]
        row, item = _best(scored.row.astype(np.int64), scored.col.astype(np.int64), scored.data, gone, shape, k)
        short = np.flatnonzero(np.bincount(row, minlength=shape[0]) < k)
        popular = np.minimum(shape[1], k + lengths[short])  # enough when a whole history is popular
        of_more = np.repeat(short, popular)
        more = np.arange(len(of_more)) - np.repeat(np.cumsum(popular) - popular, popular)
        left = ~np.isin(of_more * shape[1] + more, np.append(gone, row * shape[1] + item))
        row, item = np.append(row, of_more[left]), np.append(item, more[left])
        order = np.argsort(row, kind="stable")
        return _first(row[order], item[order], shape[0], k)


def _best(
    row: np.ndarray, item: np.ndarray, score: np.ndarray, gone: np.ndarray, shape: tuple[int, int], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and items of the `k` highest scores of each row, and of what scores as the last of them: by row, then
    the highest first. Only scores above 0 count. `row` ascends. gone: row * V + item of what no list may hold.
    """
    left = (score > 0) & ~np.isin(row * shape[1] + item, gone)
    row, item, score = row[left], item[left], score[left]
    count = np.bincount(row, minlength=shape[0])
    least, ends = np.zeros(shape[0]), np.cumsum(count)
    for one in np.flatnonzero(count > k):
        least[one] = np.partition(score[ends[one] - count[one] : ends[one]], -k)[-k]
    among = score >= least[row]
    row, item, score = row[among], item[among], score[among]
    order = np.lexsort((item, -score, row))
    return row[order], item[order]


def _first(row: np.ndarray, item: np.ndarray, rows: int, k: int) -> np.ndarray:
    """Return the first `k` items of each row, [rows, k], -1 behind the end. `row` ascends."""
    place = np.arange(len(row)) - np.searchsorted(row, row)
    out = np.full((rows, k), -1, dtype=np.int64)
    kept = place < k
    out[row[kept], place[kept]] = item[kept]
    return out


def _index(item_ids: np.ndarray) -> dict[str, int]:
    return {item: position for position, item in enumerate(item_ids)}


def _histories(examples: Sequence[Example], index: dict[str, int]) -> Iterator[list[list[int]]]:
    """Yield histories as positions, EXAMPLES_AT_ONCE examples at a time; an item that training never
    met is left out.
    """
    for start in range(0, len(examples), EXAMPLES_AT_ONCE):
        chunk = examples[start : start + EXAMPLES_AT_ONCE]
        yield [[index[item] for item in example.history if item in index] for example in chunk]
