"""Two programs' beams for the same requests are compared: which are in both, by how much scores differ, in which order.

Letters: n requests, W beams.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from octorec.parity.beams import Beam
from octorec.parity.limits import TOLERANCE

Outcome = Literal["parity", "no_parity"]
EXIT_CODES: dict[Outcome, int] = {"parity": 0, "no_parity": 3}


@dataclass(frozen=True)
class RequestBeams:
    """RequestBeams says how the beams of one request agree.

    ours, theirs, shared: how many beams there are, and are in both. missing: of those in one list alone, the ones that
    are no near tie with the end of the other list. difference: the largest of scores of a shared beam, in nats; NaN
    where one is. out_of_order: pairs of shared beams that our list has the other way round, near ties not counted.
    """

    ours: int
    theirs: int
    shared: int
    missing: int
    difference: float
    out_of_order: int

    @property
    def overlap(self) -> float:
        """Return the share of the longer list that is in both; 1 where both are empty."""
        longer = max(self.ours, self.theirs)
        return self.shared / longer if longer else 1.0


def compare_beams(ours: Sequence[Beam], theirs: Sequence[Beam], tolerance: float = TOLERANCE) -> RequestBeams:
    """Compare the beams of one request, the best first. tolerance: scores nearer than that are near ties, in nats.

    A beam may be missing where a list ends: its score is then a near tie with the last of the list that lacks it, and
    that list is as long as the other.
    """
    mine, other = ({beam.tokens: beam.score for beam in beams} for beams in (ours, theirs))
    assert (len(mine), len(other)) == (len(ours), len(theirs)), "a beam is there twice"
    shared = [tokens for tokens in mine if tokens in other]
    pairs = np.array([(mine[tokens], other[tokens]) for tokens in shared]).reshape(-1, 2)
    missing = _missing(mine, other, tolerance) + _missing(other, mine, tolerance)
    difference = float(np.abs(pairs[:, 0] - pairs[:, 1]).max()) if len(pairs) else 0.0
    return RequestBeams(len(ours), len(theirs), len(shared), missing, difference, _out_of_order(pairs[:, 1], tolerance))


def _missing(some: Mapping[tuple[int, ...], float], other: Mapping[tuple[int, ...], float], tolerance: float) -> int:
    """Count the beams of `some` that `other` lacks, and not because it ends there."""
    last = min(other.values(), default=math.inf)
    excused = len(other) >= len(some)
    absent = [score for tokens, score in some.items() if tokens not in other]
    return sum(not (excused and abs(score - last) <= tolerance) for score in absent)


def _out_of_order(scores: np.ndarray, tolerance: float) -> int:
    """Count the pairs of `scores` [W], which should descend, whose second is higher by more than `tolerance`."""
    higher = scores[None, :] - scores[:, None] > tolerance
    return int(np.triu(higher, 1).sum())


@dataclass(frozen=True)
class ComparedScores:
    """ComparedScores says by how much teacher-forced log-probabilities differ, in nats: those of one step, at most.

    sequences, steps: how many were compared. difference: NaN where one is not finite.
    """

    sequences: int
    steps: int
    difference: float

    def agree(self, tolerance: float) -> bool:
        """Say whether no log-probability differs by more than `tolerance`."""
        return self.difference <= tolerance

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {"sequences": self.sequences, "steps": self.steps, "difference": self.difference}


def compare_scores(ours: np.ndarray, theirs: np.ndarray) -> ComparedScores:
    """Compare log-probabilities [n, scored steps] of the same sequences."""
    assert ours.shape == theirs.shape
    differences = np.abs(ours.astype(np.float64) - theirs)
    sequences, steps = ours.shape
    return ComparedScores(sequences, steps, float(differences.max()) if differences.size else 0.0)


@dataclass(frozen=True)
class ComparedBeams:
    """ComparedBeams says how the beams of all requests of one search agree; see `RequestBeams`.

    search: constrained or free. length_penalty: that of transformers. overlap: the mean over requests. difference: the
    largest. identical: requests whose lists have the same beams in the same order, near ties not counted.
    """

    search: str
    length_penalty: float
    requests: int
    beams: int
    overlap: float
    identical: int
    missing: int
    out_of_order: int
    difference: float

    def agree(self, tolerance: float) -> bool:
        """Say whether scores, sets and orders are the same but for near ties."""
        return self.difference <= tolerance and not self.missing and not self.out_of_order

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return dict(vars(self))


def summed(search: str, length_penalty: float, each: Sequence[RequestBeams]) -> ComparedBeams:
    """Sum what was found of each request, one or more."""
    same = [not (one.missing or one.out_of_order) for one in each]
    return ComparedBeams(
        search,
        length_penalty,
        requests=len(each),
        beams=sum(one.theirs for one in each),
        overlap=float(np.mean([one.overlap for one in each])),
        identical=sum(same),
        missing=sum(one.missing for one in each),
        out_of_order=sum(one.out_of_order for one in each),
        difference=float(np.max([one.difference for one in each])),  # NaN where one is
    )


@dataclass(frozen=True)
class Parity:
    """A Parity is all that was compared. tolerance: the largest difference that is none, in nats.

    requests: prompts asked. beam_width: of every search. differing: numbers, from 1, of requests whose beams differ in
    any search.
    """

    requests: int
    beam_width: int
    tolerance: float
    scores: ComparedScores
    beams: tuple[ComparedBeams, ...]
    differing: tuple[int, ...] = field(default=())

    @property
    def outcome(self) -> Outcome:
        beams = all(one.agree(self.tolerance) for one in self.beams)
        return "parity" if beams and self.scores.agree(self.tolerance) else "no_parity"

    @property
    def exit_code(self) -> int:
        """Return 0, or 3 where something differs."""
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "requests": self.requests,
            "beam_width": self.beam_width,
            "tolerance": self.tolerance,
            "scores": self.scores.to_dict(),
            "beams": [one.to_dict() for one in self.beams],
            "differing_requests": list(self.differing),
        }
