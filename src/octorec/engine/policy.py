"""A policy says which beam width a request gets, and which one a search is repeated with.

A fixed width and a schedule are what the request says. `auto` begins narrow, and searches again with wider beams where
the answer is not certified to be exact. How wide it begins depends on k alone, by a table that was measured beforehand.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from octorec.engine.buckets import Buckets
from octorec.engine.widths import AUTO, BeamWidth, Widths, at_levels, check_k
from octorec.errors import InputError

START = 4  # times k: where `auto` begins without a table, as an answer that fills its beam is never certified


@dataclass(frozen=True)
class BeamStarts:
    """BeamStarts says how wide `auto` begins: for a request of k items, as for the next larger k of `widths`.

    widths: beam width by k. Empty where nothing was measured: `auto` then begins with 4 k beams.
    """

    widths: Mapping[int, int] = field(default_factory=dict)

    def of(self, k: int, buckets: Sequence[int]) -> int:
        """Return the narrowest of `buckets` (ascending) that is as wide as the table says; the widest if none is."""
        if not self.widths:
            return narrowest(START * k, buckets)
        larger = [asked for asked in self.widths if asked >= k]
        return narrowest(max(self.widths[min(larger)], k), buckets) if larger else buckets[-1]


def narrowest(width: int, buckets: Sequence[int]) -> int:
    """Return the first of `buckets` (ascending) that is at least `width` wide; the last if none is."""
    return next((bucket for bucket in buckets if bucket >= width), buckets[-1])


def surely_enough(score: float) -> int:
    """Return a beam width that surely finds all items which score above `score`, the log-probability of an item.

    Prefixes of one level are disjoint, so no more than 1 / exp(score) of them are more probable than that item.
    """
    return math.floor(math.exp(min(-score, 700.0)))


@dataclass(frozen=True)
class Policy:
    """Policy decides how wide an engine's searches are. default: the beam width of requests that name none."""

    buckets: Buckets
    default: BeamWidth
    starts: BeamStarts = field(default_factory=BeamStarts)

    def widths(self, asked: BeamWidth | None, k: int) -> Widths:
        """Return the beams at each level of a request of k items; InputError for what no bucket holds."""
        width = self.default if asked is None else asked
        if width == AUTO:
            if k > self._fixed[-1]:
                raise InputError("k", k, f"at most {self._fixed[-1]} in this engine")
            return self._at_levels(self.starts.of(k, self._fixed))
        check_k(k, width)
        widths = at_levels("beam_width", width, self.buckets.levels)
        self.buckets.beams_of(widths)
        return widths

    @property
    def default_beams(self) -> Widths:
        """Return the beams of a batch whose requests name none, nor many items."""
        return self.buckets.beams_of(self.widths(None, 1))

    def wider(self, widths: Widths, scores: Sequence[float], k: int) -> Widths | None:
        """Return the beams to repeat a search with that found `scores`, best first, and was not certified.

        None where it had the widest already. The k-th score says how wide is surely enough.
        """
        if widths[0] >= self._fixed[-1]:
            return None
        enough = surely_enough(scores[-1]) if len(scores) == k else self._fixed[-1]
        return self._at_levels(narrowest(max(enough, widths[0] + 1), self._fixed))

    @property
    def widest(self) -> Widths:
        """Return the widest beams that are as wide at each level."""
        return self._at_levels(self._fixed[-1])

    @property
    def _fixed(self) -> tuple[int, ...]:
        if not self.buckets.fixed:
            raise InputError("beam_width", AUTO, "this engine has schedules alone: give it a fixed width too")
        return self.buckets.fixed

    def _at_levels(self, width: int) -> Widths:
        return (width,) * self.buckets.levels
