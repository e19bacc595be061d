"""Batches are timed, so that it is known beforehand which deadlines cannot be kept."""

from dataclasses import dataclass, field

from octorec.engine.widths import Widths

KEPT = 0.9  # weight of what is known beside the next batch: some ten batches count
FLAT = 1e-3  # variance of the number of rows below which batches say nothing of what a row more costs
UNSURE = 2.0  # mean deviations by which a batch may well be longer than expected
AT_MOST = 2.0  # times the expected that it is taken to be longest


@dataclass
class _Line:
    """A _Line is fitted to the seconds of batches by their rows; older batches count less. It does not fall."""

    weight: float = 0.0
    rows: float = 0.0  # means, weighted
    seconds: float = 0.0
    squares: float = 0.0  # of rows
    products: float = 0.0  # of rows and seconds
    slope: float = 0.0
    deviation: float = 0.0

    def add(self, rows: int, seconds: float) -> None:
        if self.weight:
            self.deviation += (1 - KEPT) * (abs(seconds - self.at(rows)) - self.deviation)
        self.weight = KEPT * self.weight + 1
        share = 1 / self.weight
        self.rows += share * (rows - self.rows)
        self.seconds += share * (seconds - self.seconds)
        self.squares += share * (rows * rows - self.squares)
        self.products += share * (rows * seconds - self.products)
        variance = self.squares - self.rows**2
        if variance > FLAT:
            self.slope = (self.products - self.rows * self.seconds) / variance
        self.slope = min(max(self.slope, 0.0), self.seconds / self.rows)

    def at(self, rows: int) -> float:
        return self.seconds + self.slope * (rows - self.rows)


@dataclass
class Pace:
    """A Pace says how long an engine's batches take, by their beams and rows. All times are in seconds."""

    _lines: dict[Widths, _Line] = field(default_factory=dict)

    def add(self, beams: Widths, rows: int, seconds: float) -> None:
        """Count a batch. rows: requests, and those that a bucket of fixed rows leaves empty."""
        self._lines.setdefault(beams, _Line()).add(rows, seconds)

    def expected(self, beams: Widths, rows: int) -> float:
        """Return how long such a batch takes; 0 where none with these beams has run."""
        line = self._lines.get(beams)
        return 0.0 if line is None else line.at(rows)

    def longest(self, beams: Widths, rows: int) -> float:
        """Return how long such a batch may well take."""
        line = self._lines.get(beams)
        if line is None:
            return 0.0
        return min(line.at(rows) + UNSURE * line.deviation, AT_MOST * line.at(rows))
