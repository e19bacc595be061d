"""Requests that are parsed once for every engine over a catalog, and the answers to them as arrays.

Letters: n requests, k items a list.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.data.splits import Example
from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.evaluate.predictions import Predictions, of_examples

NO_ITEM = -1


class OutOfTime(Exception):
    """A stage has used up its time."""


@dataclass(frozen=True)
class Deadline:
    """Deadline is the moment at which a stage ends, as `time.perf_counter` counts. name: of the stage."""

    name: str
    at: float

    @classmethod
    def within(cls, name: str, seconds: float) -> "Deadline":
        return cls(name, time.perf_counter() + seconds)

    def check(self) -> None:
        """Raise OutOfTime where it has passed."""
        if time.perf_counter() > self.at:
            raise OutOfTime(self.name)


@dataclass(frozen=True)
class Lists:
    """Lists are the answers to n requests, as arrays.

    places [n, k] int32: items as places of the catalog, best first, NO_ITEM behind the last. scores [n, k] float32,
    -inf behind the last. bounds [n] float64: what no left-out item scores above, -inf where none was left out. exact,
    repeated [n] bool. width [n] int64: beams of the last level.
    """

    places: np.ndarray
    scores: np.ndarray
    bounds: np.ndarray
    exact: np.ndarray
    repeated: np.ndarray
    width: np.ndarray

    def certified(self, k: int) -> np.ndarray:
        """[n] bool: the first k items are exact; a tie with the bound does not count."""
        full = self.places[:, k - 1] != NO_ITEM
        return (self.bounds == -np.inf) | (full & (self.scores[:, k - 1] > self.bounds))

    @property
    def found(self) -> np.ndarray:
        """[n] int64: items of each list."""
        return (self.places != NO_ITEM).sum(1)


@dataclass(frozen=True)
class Asked:
    """Asked are requests as every engine over `catalog` reads them, and what each user took next."""

    catalog: Catalog
    examples: Sequence[Example]
    parsed: Sequence[ParsedRequest]

    def __len__(self) -> int:
        return len(self.parsed)

    @cached_property
    def targets(self) -> np.ndarray:
        """[n] int64: the place of each target in the catalog."""
        return np.array([self.catalog.index[example.target] for example in self.examples], dtype=np.int64)

    def part(self, rows: slice) -> "Asked":
        return Asked(self.catalog, self.examples[rows], self.parsed[rows])


def parse_all(
    engine: Engine, examples: Sequence[Example], deadline: Deadline, known: dict[Example, ParsedRequest] | None = None
) -> Asked:
    """Parse a request for each example. known: what was parsed of them before, to which this adds."""
    known = {} if known is None else known
    for example in examples:
        deadline.check()
        if example not in known:
            known[example] = engine.parse(Request(example.history, k=1, beam_width=1, exclude_seen=True))
    return Asked(engine.catalog, examples, [known[example] for example in examples])


def predictions(asked: Asked, lists: Lists, k: int, log_probs: np.ndarray) -> Predictions:
    """Put the first k items beside users and targets, for `octorec.evaluate`. log_probs [n, levels]: of the targets."""
    ids = np.array([*asked.catalog.item_ids, ""], dtype=object)  # NO_ITEM picks the last
    known = np.ones(len(asked), dtype=bool)
    return of_examples(asked.examples, ids[lists.places[:, :k]], known, log_probs, exclude_seen=True)


def ranks_of(places: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[n] int64: where each target stands in its list [n, k], from 0; -1 where it does not."""
    hits = places == targets[:, None]
    return np.where(hits.any(1), hits.argmax(1), -1)
