"""A trace tells of one search which prefixes each level kept, and the best of those that it gave up."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine
from octorec.engine.rank import Ranked
from octorec.kernels import reference
from octorec.kernels.ops import DEAD, Beams, Ops, TrieLevel
from octorec.models.model import Choose

GIVEN_UP = 8  # prefixes of a level that are told beside those it kept

Prefix = tuple[int, ...]


@dataclass(frozen=True)
class TracedLevel:
    """A TracedLevel holds prefixes with their scores, the best first.

    width: how many prefixes the level may keep. kept: all that it kept. dropped: the best that it could have kept and
    did not, at most `GIVEN_UP`. highest_dropped: the score of the best of all of these; None where it kept every one.
    """

    width: int
    kept: list[tuple[Prefix, float]]
    dropped: list[tuple[Prefix, float]]
    highest_dropped: float | None


@dataclass(frozen=True)
class Trace:
    """A Trace is a search and what it found. levels: one a level of codes."""

    levels: list[TracedLevel]
    ranked: Ranked


class _Recorder:
    """A _Recorder is Ops that remembers what each beam step got, and what it and a wider one made of it."""

    def __init__(self, ops: Ops):
        self._ops = ops
        self.steps: list[tuple[Beams, Beams]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def beam_step(
        self,
        logits: Tensor,
        scores: Tensor,
        nodes: Tensor,
        level: TrieLevel,
        widths: Tensor,
        width: int,
        *rest: Any,
        **how: Any,
    ) -> Beams:
        given = logits, scores, nodes, level
        beams = self._ops.beam_step(*given, widths, width, *rest, **how)
        more = min(width + GIVEN_UP, scores.shape[1] * logits.shape[2])
        self.steps.append((beams, reference.beam_step(*given, widths + GIVEN_UP, more, *rest, **how)))
        return beams


def trace(engine: Engine, parsed: ParsedRequest) -> Trace:
    """Search for one request as `engine.search` does, without a CUDA graph, and tell how that went.

    Not while the engine runs anything else. Raises NonFiniteError as `Found.ranked`.
    """
    traced = copy.copy(engine)
    recorder = _Recorder(engine.ops)
    traced.ops, traced.graphed = recorder, False  # type: ignore[assignment]
    ranked = traced.launch([parsed])().ranked(0, parsed)
    levels: list[TracedLevel] = []
    before: list[Prefix] = [()]
    for step, (beams, wider) in zip(_choices(engine), recorder.steps, strict=True):
        kept, paths = _prefixes(beams, before)
        given_up = [one for one in _prefixes(wider, before)[0] if one[0] not in {prefix for prefix, _ in kept}]
        highest = float(beams.dropped[0])
        bound = highest if highest > -torch.inf else None
        levels.append(TracedLevel(parsed.widths[step.level], kept, given_up[:GIVEN_UP], bound))
        before = paths
    return Trace(levels, ranked)


def _choices(engine: Engine) -> list[Choose]:
    return [step for step in engine.model.steps if isinstance(step, Choose)]


def _prefixes(beams: Beams, before: list[Prefix]) -> tuple[list[tuple[Prefix, float]], list[Prefix]]:
    """Return the first request's live prefixes, best first, and the prefix of each beam. before: of the parents."""
    columns = (beams.nodes, beams.scores, beams.parents, beams.codes)
    rows = zip(*(column[0].tolist() for column in columns), strict=True)
    paths: list[Prefix] = []
    live: list[tuple[Prefix, float]] = []
    for node, score, parent, code in rows:
        paths.append(() if node == DEAD else (*before[parent], code))
        if node != DEAD:
            live.append((paths[-1], score))
    live.sort(key=lambda one: (-one[1], one[0]))
    return live, paths
