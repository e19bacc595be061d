"""The shapes that an engine runs batches in: a batch size and the beams that each request may keep, level by level."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from octorec.engine.widths import Width, Widths, as_width, at_levels, by_cost, holds, shown
from octorec.errors import InputError


class Bucket(NamedTuple):
    """A Bucket is the shape of a batch. widths: beams that a request may keep, at each level."""

    size: int
    widths: Widths

    @property
    def rows(self) -> int:
        """Return the number of rows of the largest step."""
        return self.size * max(self.widths)


@dataclass(frozen=True)
class Buckets:
    """Buckets are all shapes of an engine. A batch runs in the smallest that holds it.

    sizes: batch sizes, ascending. beams: widths by level, those of fewest rows first. max_rows: of a bucket; a larger
    one is not made, but for the smallest size. None: of any number.
    """

    sizes: tuple[int, ...]
    beams: tuple[Widths, ...]
    max_rows: int | None = None

    @classmethod
    def of(
        cls, sizes: tuple[int, ...], beam_widths: Iterable[Width], levels: int, max_rows: int | None = None
    ) -> "Buckets":
        """Make the buckets of an engine whose model has `levels` levels."""
        beams = {at_levels("beam_widths", width, levels) for width in beam_widths}
        return cls(sizes, tuple(sorted(beams, key=by_cost)), max_rows)

    def all(self) -> list[Bucket]:
        """Return every bucket, the one of most rows first: its capture makes the memory pool of the others."""
        made = [Bucket(size, beams) for beams in self.beams for size in self.sizes_of(beams)]
        return sorted(made, key=lambda bucket: (bucket.rows, bucket), reverse=True)

    def ends(self) -> list[Bucket]:
        """Return the buckets of fewest and of most requests for each beams, the one of most rows first."""
        return [bucket for bucket in self.all() if bucket.size in (self.sizes[0], self.most(bucket.widths))]

    def sizes_of(self, beams: Widths) -> tuple[int, ...]:
        """Return the batch sizes that there are for some beams, ascending."""
        if self.max_rows is None:
            return self.sizes
        return tuple(size for size in self.sizes if size == self.sizes[0] or Bucket(size, beams).rows <= self.max_rows)

    def most(self, beams: Widths) -> int:
        """Return how many requests a batch with these beams may have."""
        return self.sizes_of(beams)[-1]

    def size_of(self, requests: int, beams: Widths) -> int:
        """Return the smallest batch size for a number of requests, at most `most(beams)`."""
        return next(size for size in self.sizes_of(beams) if size >= requests)

    def beams_of(self, widths: Widths) -> Widths:
        """Return the smallest beams that hold those of a request; InputError where none do."""
        for beams in self.beams:
            if holds(beams, widths):
                return beams
        raise InputError("beam_width", as_width(widths), self._allowed())

    @property
    def levels(self) -> int:
        return len(self.beams[0])

    @property
    def fixed(self) -> tuple[int, ...]:
        """Return the widths of the beams that are as wide at each level, ascending."""
        return tuple(beams[0] for beams in self.beams if len(set(beams)) == 1)

    def together(self, many: Sequence[Widths]) -> Widths:
        """Return the smallest beams that hold those of all of `many`, which each fit in some."""
        return self.beams_of(tuple(map(max, zip(*many, strict=True))))

    def _allowed(self) -> str:
        if len(self.fixed) == len(self.beams):
            return f"at most {self.fixed[-1]} in this engine"
        return f"this engine has the beam widths {', '.join(shown(as_width(beams)) for beams in self.beams)}"
