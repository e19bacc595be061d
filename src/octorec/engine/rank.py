"""The beams of a batch become each request's items, on the host."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.engine.batch import ParsedRequest
from octorec.engine.capping import capped, counted
from octorec.engine.items import chosen_among, count_returnable, live_items
from octorec.engine.limits import MOST_ROWS
from octorec.engine.popularity import most_popular
from octorec.engine.request import Answer, LeftOut
from octorec.engine.widths import Width, as_width, shown
from octorec.errors import NonFiniteError

MOST_LEFT = 20  # items that an answer names of those that caps left out


@dataclass(frozen=True)
class Ranked:
    """A Ranked is one request's answer as columns of n <= k items, best first.

    item_indices [n] int64: in the order of `catalog`, the version that answered. scores [n] float32. bounds: the
    highest score that the search dropped before its last scored step, and at that step; -inf where it dropped nothing.
    margin: by how much a score may differ in a search of another width. every [m >= n] int64: the items of all beams,
    with every_scores [m] float32; None: they are item_indices. cached_tokens: of its prompt, that were read before.
    uncapped: the answer without caps, where caps changed the list; left: places in what it `found` that caps left out
    before the list was full, each with its rule.
    """

    request: ParsedRequest
    item_indices: np.ndarray
    scores: np.ndarray
    bounds: tuple[float, float] = (-math.inf, -math.inf)
    margin: float = 0.0
    every: np.ndarray | None = None
    every_scores: np.ndarray | None = None
    cached_tokens: int = 0
    uncapped: "Ranked | None" = None
    left: Sequence[int] = ()
    rules: Sequence[str] = ()

    @property
    def catalog(self) -> Catalog:
        return self.request.catalog

    @property
    def complete(self) -> bool:
        """Say whether all k were found."""
        return len(self.item_indices) == self.request.k

    @property
    def bound(self) -> float | None:
        """Return a score that no item which the search left out exceeds; None where it left none out."""
        return None if max(self.bounds) == -math.inf else max(self.bounds)

    @property
    def exact(self) -> bool:
        """Say whether no item that the request may have scores better than these.

        A list that caps changed is not called exact. A short list is exact where nothing was dropped. What an earlier
        step dropped may lead to an item that scores just as much, with lower codes; what the last step dropped comes
        after all beams of its score.
        """
        return self.uncapped is None and self._certified(self.margin)

    @property
    def near_tie(self) -> bool:
        """Say whether the answer is not called exact only because scores differ a little between beam widths."""
        return self.margin > 0 and self.uncapped is None and not self.exact and self._certified(0.0)

    def _certified(self, margin: float) -> bool:
        if not self.complete or self.bound is None:
            return self.bound is None
        earlier, last = self.bounds
        lowest = float(self.scores[-1])
        return lowest > earlier + margin and lowest >= last + margin

    @property
    def width(self) -> Width | None:
        """Return how many beams found the items, for all levels or by level; None where popularity answers."""
        return as_width(self.request.widths) if self.request.source == "model" else None

    @cached_property
    def notes(self) -> list[str]:
        """Say what was done to the request, and why a short list is short; that may take a count of all items."""
        capped = [] if self.uncapped is None else [f"caps left out {len(self.left)} items: {counted(self.rules)}"]
        return [*self.request.notes, *capped, *([] if self.complete else [self._why_short()])]

    @property
    def left_out(self) -> list[LeftOut]:
        """Return the first items that caps left out of the list, best first."""
        if self.uncapped is None:
            return []
        items, scores = self.uncapped.found
        names = self.catalog.item_ids
        first = zip(self.left[:MOST_LEFT], self.rules, strict=False)
        return [LeftOut(names[int(items[place])], float(scores[place]), rule) for place, rule in first]

    @property
    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the items of all beams, best first, and their scores."""
        items = self.item_indices if self.every is None else self.every
        return items, self.scores if self.every_scores is None else self.every_scores

    def under_caps(self) -> "Ranked":
        """Return the answer under its request's caps: itself where these change nothing."""
        request, (items, scores) = self.request, self.found
        if request.caps is None:
            return self
        chosen = capped(self.catalog, items, request.caps, request.k)
        if not chosen.left:
            return self
        kept = items[chosen.kept], scores[chosen.kept]
        about = self.bounds, self.margin
        how: Any = {"cached_tokens": self.cached_tokens, "left": chosen.left, "rules": chosen.rules}
        return Ranked(request, *kept, *about, uncapped=self, **how)

    @property
    def codes(self) -> np.ndarray:
        """Return [n, levels] int32."""
        return self.catalog.codes.take(self.item_indices, 0)

    def items(self) -> list[str]:
        return [*map(self.catalog.item_ids.__getitem__, self.item_indices.tolist())]

    def items_and_sids(self) -> tuple[list[str], list[tuple[int, ...]]]:
        """Return `items`, and the codes of the k best semantic IDs of the search, whose items may be beyond k."""
        items = self.item_indices if self.every is None else self.every
        leaves = self.catalog.item_leaf[items]
        first = np.flatnonzero(np.diff(leaves, prepend=-1))[: self.request.k]  # items of a beam lie together
        return self.items(), list(map(tuple, self.catalog.codes.take(items[first], 0).tolist()))

    def by_sid(self) -> tuple["Ranked", list[list[int]]]:
        """Return the k best semantic IDs of the search, each as its first item, and all items of each.

        What the first of these says of its completeness and exactness is then about semantic IDs.
        """
        items, scores = self.found
        first = np.flatnonzero(np.diff(self.catalog.item_leaf[items], prepend=-1))  # items of a beam lie together
        ends = [*first[: self.request.k + 1].tolist(), len(items)]
        first = first[: self.request.k]
        every = items[: ends[len(first)]].tolist()
        groups = [every[start:end] for start, end in pairwise(ends)][: len(first)]
        return replace(self, item_indices=items[first], scores=scores[first]), groups

    def titles(self) -> list[str]:
        return [*map(self.catalog.titles.__getitem__, self.item_indices.tolist())]

    def answer(self) -> Answer:
        codes = list(zip(*self.codes.T.tolist(), strict=True))
        columns = self.items(), self.scores.tolist(), codes, self.titles()
        about = self.complete, self.exact, self.bound, self.width
        how = self.near_tie, self.notes, self.request.source, self.cached_tokens
        return Answer(*columns, *about, *how, self.left_out)

    def _why_short(self) -> str:
        found, request = len(self.item_indices), self.request
        may = count_returnable(self.catalog, request.filter)
        beam = "" if self.width is None else f" with a beam {shown(self.width)} wide"
        note = f"found {found} of k = {request.k} items{beam}; the request may have {may}"
        none = found == may or (self.uncapped is not None and self.bound is None)
        return note if none else f"{note}: a wider beam may find more"


def by_popularity(request: ParsedRequest) -> Ranked:
    """Return the answer to a request whose source is popularity: nothing of it depends on a model or a batch."""
    k = looked_at = request.k
    if request.caps is None:
        return Ranked(request, *most_popular(request.catalog, request.filter, k))
    while True:
        items, scores = most_popular(request.catalog, request.filter, looked_at)
        answer = Ranked(request, items[:k], scores[:k], every=items, every_scores=scores).under_caps()
        if answer.complete or len(items) < looked_at or looked_at >= MOST_ROWS:
            return answer
        looked_at = min(4 * looked_at, MOST_ROWS)


@dataclass(frozen=True)
class Found:
    """Found holds what the search of one batch found: the beams of a bucket of B requests and W beams, on the host.

    scores [B, W] float32, -inf where a request has fewer beams, NaN throughout where the model gave a request scores
    that are not finite. nodes [B, W] int64: leaves as the device numbers them, from `first_leaf` on. bounds [B, 2]
    float32: what bounds the beams that were dropped, see `search.Searched`. catalog: that was searched. checkpoint:
    whose beams they are. margin: see `Ranked`. cached: tokens of each request's prompt that were read before; empty
    for a model that reads codes.
    """

    scores: np.ndarray
    nodes: np.ndarray
    bounds: np.ndarray
    first_leaf: int
    catalog: Catalog
    checkpoint: str = "of this engine"
    margin: float = 0.0
    cached: Sequence[int] = ()

    @property
    def leaves(self) -> np.ndarray:
        """Return [B, W] int64: leaves of the trie that was searched."""
        return self.nodes - self.first_leaf

    def finite(self, row: int) -> bool:
        """Say whether the model gave the batch's request number `row` scores that are numbers."""
        return self._finite[row]

    @cached_property
    def _finite(self) -> list[bool]:
        finite: np.ndarray = np.all(self.scores < np.inf, axis=1)  # no comparison holds for NaN
        return finite.tolist()

    @cached_property
    def _items(self) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Return the items of all requests' live beams, best first, their scores, and where each request's begin."""
        live = np.isfinite(self.scores)
        row, beam = live.nonzero()
        items, position = live_items(self.catalog, self.nodes[row, beam] - self.first_leaf)
        begin = row.take(position).searchsorted(np.arange(len(live) + 1))
        return items, self.scores[row, beam].take(position), begin.tolist()

    def ranked(self, row: int, request: ParsedRequest) -> Ranked:
        """Return the items of `request`, which was the batch's number `row`: its live beams' items, at most k of them.

        Raises NonFiniteError where its scores are no numbers. What popularity answers does not come from its beams.
        """
        if request.source == "popularity":
            return by_popularity(request)
        if not self.finite(row):
            raise NonFiniteError(self.checkpoint, [row], f"request {row + 1} of a batch")
        (items, scores, begin), k = self._items, request.k
        own = slice(begin[row], begin[row + 1])
        items, scores = items[own], scores[own]
        if (may := chosen_among(request.catalog, items, request.filter)) is not None:
            items, scores = items[may], scores[may]
        earlier, last = self.bounds[row].tolist()
        cached = self.cached[row] if self.cached else 0
        bounds = earlier, last
        found = Ranked(request, items[:k], scores[:k], bounds, self.margin, items, scores, cached_tokens=cached)
        return found.under_caps()
