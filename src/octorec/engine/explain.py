"""One request's search is shown as it went: which prefixes each level kept, which it dropped, and the bound.

It runs by the plain path, without a graph, and computes what `search` computes: the steps are the model's and the
operations', and are only looked at. What was dropped is worked out again on the host.

Letters: W beams, V codes a level, C candidates: extensions of a level's beams that the request may have.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine
from octorec.engine.search import search, searched
from octorec.kernels.ops import DEAD, Beams, Ops

MOST_KEPT, MOST_DROPPED = 512, 64  # prefixes of a level that are told, the best


@dataclass(frozen=True)
class Prefix:
    """A Prefix is the beginning of a semantic ID, and its score. items: live ones below it. example: one of them, by
    its title, or its id without one. parent: its number among the kept prefixes of the level before; None at the first.
    """

    codes: list[int]
    score: float
    parent: int | None
    items: int
    example: str


@dataclass(frozen=True)
class Level:
    """A Level says what became of the prefixes of one length. candidates: how many there were; n_kept: of them were
    kept. kept, dropped: the best of each, best first. bound: the highest score that was dropped; None: none was."""

    candidates: int
    n_kept: int
    kept: list[Prefix]
    dropped: list[Prefix]
    bound: float | None


class Step(NamedTuple):
    """A Step is what one beam step was given and gave, of one request: logits [W, V], scores and nodes [W], beams."""

    logits: np.ndarray
    scores: np.ndarray
    nodes: np.ndarray
    beams: Beams


class Looked:
    """Looked is the operations `ops`; the beam steps of a batch's first request are kept in `steps`."""

    def __init__(self, ops: Ops):
        self.ops, self.steps = ops, list[Step]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ops, name)

    def beam_step(self, logits: Any, scores: Any, nodes: Any, *others: Any, **named: Any) -> Beams:
        beams = self.ops.beam_step(logits, scores, nodes, *others, **named)
        self.steps.append(Step(_host(logits), _host(scores), _host(nodes), Beams(*map(_host, beams))))
        return beams


@dataclass(frozen=True)
class Explained:
    """Explained holds the steps of one search on the host. first_nodes: as the device numbered the trie's nodes."""

    request: ParsedRequest
    steps: Sequence[Step]
    first_nodes: Sequence[int]

    def levels(self) -> list[Level]:
        """Return what became of each level's prefixes; needs no device."""
        found: list[Level] = []
        paths: list[list[int]] = [[]]  # codes by beam, of the level before
        places: dict[int, int] | None = None  # where a beam stands among those that are told
        for number in range(len(self.steps)):
            level, paths, places = self._level(number, paths, places)
            found.append(level)
        return found

    def _level(
        self, number: int, paths: list[list[int]], places: dict[int, int] | None
    ) -> tuple[Level, list[list[int]], dict[int, int]]:
        step, catalog = self.steps[number], self.request.catalog
        beams = step.beams
        live = np.flatnonzero(beams.nodes != DEAD)
        kept = live[np.argsort(-beams.scores[live], kind="stable")]
        nodes = np.asarray(beams.nodes[kept]) - self.first_nodes[number + 1]
        rows, children, scores = self._candidates(number)
        dropped = np.flatnonzero(~np.isin(children, nodes))
        best = dropped[np.argsort(-scores[dropped], kind="stable")][:MOST_DROPPED]
        place = (lambda beam: None) if places is None else places.get
        codes = catalog.trie.levels[number].child_code

        def prefix(beam: int, node: int, score: float) -> Prefix:
            path = [*paths[beam], int(codes[node])]
            items = int(catalog.trie.levels[number].child_live[node])
            return Prefix(path, score, place(beam), items, example_below(catalog, number, node))

        columns = beams.parents[kept].tolist(), nodes.tolist(), beams.scores[kept].tolist()
        told = [prefix(*row) for row in zip(*(column[:MOST_KEPT] for column in columns), strict=True)]
        others = [prefix(int(rows[at]), int(children[at]), float(scores[at])) for at in best]
        bound = float(beams.dropped)
        level = Level(len(children), len(kept), told, others, bound if math.isfinite(bound) else None)
        after = [
            [*paths[parent], code] if node != DEAD else []
            for parent, code, node in zip(
                beams.parents.tolist(), beams.codes.tolist(), beams.nodes.tolist(), strict=True
            )
        ]
        return level, after, {int(beam): place for place, beam in enumerate(kept[:MOST_KEPT])}

    def _candidates(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the beam that each candidate extends [C], its node among the level's children [C], its score [C]."""
        step, level = self.steps[number], self.request.catalog.trie.levels[number]
        live = np.flatnonzero(step.nodes != DEAD)
        nodes = step.nodes[live] - self.first_nodes[number]
        starts, counts = level.child_start[nodes], np.diff(level.child_start)[nodes]
        rows = np.repeat(np.arange(len(live)), counts)
        before = np.cumsum(counts) - counts
        children = np.arange(len(rows)) + np.repeat(starts - before, counts)
        may = (level.child_live[children] > 0) & ~np.isin(children, self.request.banned[number])
        sets = self.request.filter.sets
        if sets is not None and level.child_sets is not None:
            may &= (level.child_sets[children][:, : len(sets)] & sets).any(1)
        rows, children = rows[may], children[may]
        log_p = torch.from_numpy(step.logits[live]).log_softmax(-1).clamp(max=0).numpy()
        scores = log_p[rows, level.child_code[children]] + step.scores[live][rows]
        return live[rows], children, scores


@torch.inference_mode()
def explained(engine: Engine, request: ParsedRequest) -> Explained:
    """Search for one request, parsed with the catalog that answers now; on the device's thread."""
    bucket = engine.bucket_of([request])
    staging = engine.staged([request], bucket.size)
    batch = staging.batch(staging.block.to(engine.device))
    looked: Any = Looked(engine.ops)
    how = engine.device_catalog.levels, batch, bucket.widths, looked
    if engine.reader is None:
        search(engine.model, *how)
    else:
        assert request.tokens is not None
        memory, _ = engine.reader.read([request.tokens], [request.scope])
        searched(engine.model, engine.reader.state(memory, bucket.size), *how)
    return Explained(request, looked.steps, engine.device_catalog.first_nodes)


def example_below(catalog: Catalog, level: int, node: int) -> str:
    """Return the title of the first live item below a node of a level's children, or its id where it has no title."""
    first, last = node, node + 1
    for deeper in catalog.trie.levels[level + 1 :]:
        first, last = int(deeper.child_start[first]), int(deeper.child_start[last])
    begin, end = (int(catalog.trie.leaf_items[leaf]) for leaf in (first, last))
    item = begin + int(np.argmax(catalog.live[begin:end]))
    return catalog.titles[item] or catalog.item_ids[item]


def _host(tensor: torch.Tensor) -> Any:
    return tensor[0].detach().cpu().numpy().copy()
