"""From the beams of a batch to each request's items, on the host."""

from dataclasses import dataclass

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.engine.batch import ParsedRequest
from octorec.engine.items import items_of
from octorec.engine.request import Answer


@dataclass(frozen=True)
class Ranked:
    """One request's answer as columns of n <= k items, best first. Fields as in `Answer`.

    places [n] int64: the items in the order of `catalog`, the version that answered. scores [n] float32.
    """

    catalog: Catalog
    places: np.ndarray
    scores: np.ndarray
    complete: bool
    notes: list[str]

    @property
    def codes(self) -> np.ndarray:
        """[n, levels] int32"""
        return self.catalog.codes[self.places]

    def items(self) -> list[str]:
        ids = self.catalog.item_ids
        return [ids[place] for place in self.places.tolist()]

    def titles(self) -> list[str]:
        titles = self.catalog.titles
        return [titles[place] for place in self.places.tolist()]

    def answer(self) -> Answer:
        codes = list(zip(*self.codes.T.tolist(), strict=True))
        return Answer(self.items(), self.scores.tolist(), codes, self.titles(), self.complete, self.notes)


@dataclass(frozen=True)
class Found:
    """The beams of a batch in a bucket of B requests and W beams, on the host.

    scores [B, W] float32, -inf where a request has fewer beams. nodes [B, W] int64: leaves as the device numbers them,
    from `first_leaf` on.
    """

    scores: np.ndarray
    nodes: np.ndarray
    first_leaf: int

    @property
    def leaves(self) -> np.ndarray:
        """[B, W]: leaves of the trie that was searched."""
        return self.nodes - self.first_leaf

    def ranked(self, row: int, request: ParsedRequest) -> Ranked:
        """The items of `request`, which was the batch's number `row`: its live beams' items, at most k of them."""
        live = np.isfinite(self.scores[row])
        leaves, scores = self.nodes[row][live] - self.first_leaf, self.scores[row][live]
        items, position = items_of(request.catalog, leaves, request.filter)
        items, scores = items[: request.k], scores[position[: request.k]]
        return Ranked(request.catalog, items, scores, len(items) == request.k, request.notes)
