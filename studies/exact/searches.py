"""Searches of many requests in large batches, each width once: what several policies ask for is searched for once.

A beam of W is the same whether k items are taken of it or all: lists of k are the first k of those of W. Whole batches
are ranked at once, as every code tuple here is one item.

Letters: n requests, W beams, k items a list.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from octorec.engine.engine import Engine
from octorec.engine.rank import Found
from octorec.engine.widths import AUTO, BeamWidth, Widths
from studies.exact.asked import NO_ITEM, Asked, Deadline, Lists


@dataclass(frozen=True)
class Beams:
    """Beams are what a search found for n requests. places [n, W] int32 and scores [n, W] float32 as in `Lists`.

    bounds [n, 2] float64 and margin: as in `octorec.engine.rank.Ranked`.
    """

    places: np.ndarray
    scores: np.ndarray
    bounds: np.ndarray
    margin: float

    def at(self, rows: Sequence[int]) -> "Beams":
        return Beams(self.places[rows], self.scores[rows], self.bounds[rows], self.margin)

    def lists(self, k: int, width: int) -> Lists:
        """Return the first k items of each, and whether they are exact, as `Ranked.exact` says."""
        places, scores = self.places[:, :k].copy(), self.scores[:, :k].copy()
        earlier, last = self.bounds.T
        bounds, lowest = self.bounds.max(1), scores[:, -1].astype(np.float64)
        full = places[:, -1] != NO_ITEM
        exact = (bounds == -np.inf) | (full & (lowest > earlier + self.margin) & (lowest >= last + self.margin))
        return Lists(places, scores, bounds, exact, np.zeros(len(places), bool), np.full(len(places), width))


class Searches:
    """Searches asks `engine` for what is `asked`, and keeps the beams of every width."""

    def __init__(self, engine: Engine, asked: Asked):
        assert engine.catalog.n_sharing == 0, "a tuple has to be an item"
        assert engine.catalog.live.all(), "every item has to be live"
        self.engine, self.asked = engine, asked
        self._kept: dict[Widths, Beams] = {}

    def lists(self, width: BeamWidth, k: int, deadline: Deadline) -> Lists:
        """Return the k best items of every request: the answers of `Engine.recommend`."""
        widths = self.engine.policy.widths(width, k)
        if widths not in self._kept:
            self._kept[widths] = self._search(range(len(self.asked)), widths, deadline)
        lists = self._kept[widths].lists(k, widths[-1])
        if width == AUTO:
            self._repeat(lists, k, dict.fromkeys(np.flatnonzero(~lists.exact).tolist(), widths), deadline)
        return lists

    def _repeat(self, lists: Lists, k: int, todo: dict[int, Widths], deadline: Deadline) -> None:
        """Search wider for the requests `todo`, which had those widths, as long as the policy would; put it in."""
        while todo:
            groups = defaultdict[Widths, list[int]](list)
            for row, widths in todo.items():
                scores = lists.scores[row, : (lists.places[row] != NO_ITEM).sum()].tolist()
                wider = self.engine.policy.wider(widths, scores, k)
                if wider is not None:
                    groups[wider].append(row)
            todo = {}
            for widths, rows in groups.items():
                kept = self._kept.get(widths)
                found = self._search(rows, widths, deadline) if kept is None else kept.at(rows)
                again = found.lists(k, widths[-1])
                again.repeated[:] = True
                for name, column in vars(again).items():
                    getattr(lists, name)[rows] = column
                todo |= dict.fromkeys((row for row, exact in zip(rows, again.exact, strict=True) if not exact), widths)

    def _search(self, rows: Sequence[int], widths: Widths, deadline: Deadline) -> Beams:
        """Return the beams of the requests `rows`."""
        size = len(rows), widths[-1]
        beams = Beams(
            np.full(size, NO_ITEM, np.int32), np.full(size, -np.inf, np.float32), np.full((size[0], 2), -np.inf),
            self.engine.margin,
        )  # fmt: skip
        for start, found in self._batches(rows, widths):
            deadline.check()
            self._put(beams, start, found, rows[start : start + self._most(widths)])
        return beams

    def _most(self, widths: Widths) -> int:
        buckets = self.engine.policy.buckets
        return buckets.most(buckets.beams_of(widths))

    def _batches(self, rows: Sequence[int], widths: Widths) -> Iterator[tuple[int, Found]]:
        """Each batch's first row and its beams; while one is looked at, the device runs the next."""
        most, before = self._most(widths), None
        for start in range(0, len(rows), most):
            batch = [replace(self.asked.parsed[row], widths=widths) for row in rows[start : start + most]]
            wait = self.engine.launch(batch)
            if before is not None:
                yield before
            before = start, wait()
        if before is not None:
            yield before

    def _put(self, beams: Beams, start: int, found: Found, rows: Sequence[int]) -> None:
        """Put a batch's items in: those of its live beams, which stand first."""
        n, width = len(rows), beams.places.shape[1]
        scores = found.scores[:n, :width]
        live = np.isfinite(scores)
        leaves = np.where(live, found.leaves[:n, :width], 0)
        at = slice(start, start + n)
        beams.places[at] = np.where(live, self.engine.catalog.trie.leaf_items[leaves], NO_ITEM)
        beams.scores[at] = np.where(live, scores, -np.inf)
        beams.bounds[at] = found.bounds[:n]
        for row, number in enumerate(rows):
            if not found.finite(row):
                found.ranked(row, self.asked.parsed[number])  # raises what a server would


def ask(engine: Engine, asked: Asked, width: BeamWidth, k: int, deadline: Deadline) -> Lists:
    """Ask once for the k best items of every request."""
    return Searches(engine, asked).lists(width, k, deadline)
