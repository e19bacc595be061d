"""What `auto` would take, composed: shares certified by width of one model, times by width of another.

Random weights certify nothing, so no batch of the MoE of 4 billion parameters shows what `auto` costs. The shares are
those of the trained and calibrated 0.5B (`results/exact.jsonl`), the times those of the MoE. Each answer that is not
certified is counted as one repeat with the widest beams, which is the most that it can take: a repeat's width is surely
enough. So a composed rate is the least that these shares give.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.rows import CertifiedRow, recorded

MODEL = "dense 0.5B, three shops"  # whose shares are taken, as rows of `studies.exact.run` name it
KS = (10, 50, 100, 512)  # items asked for, of which shares are recorded


@dataclass(frozen=True)
class Composed:
    """How wide `auto` begins, what share that certifies, and milliseconds a request with its repeats."""

    begins: int
    certified: float
    ms: float

    @property
    def requests_per_s(self) -> float:
        return 1e3 / self.ms


def compose(certified: Mapping[int, float], ms: Mapping[int, float]) -> Composed:
    """The cheapest width to begin with, and of those that cost the same the widest, as `octorec widths` chooses.

    certified: share of requests by width. ms: a request's, by width; its widest is the one that repeats take.
    """
    widest = max(ms)
    found = [Composed(width, certified[width], ms[width] + _repeats(certified[width], width, ms, widest))
             for width in sorted(ms, reverse=True) if width in certified]  # fmt: skip
    return min(found, key=lambda one: one.ms)


def _repeats(certified: float, width: int, ms: Mapping[int, float], widest: int) -> float:
    return 0.0 if width == widest else (1 - certified) * ms[widest]


def shares(precision: str, k: int) -> dict[int, float]:
    """Share of answers that each width certifies, of the calibrated model on the real catalog, in the newest run."""
    found = [row for row in recorded("exact.jsonl", CertifiedRow) if row.model == MODEL]
    last = max((row.run for row in found), default="")
    of_run = [row for row in found if row.run == last and row.precision == precision and not row.made_up]
    calibrated = [row for row in of_run if row.temperature != 1] or of_run
    return {row.beam_width: row.certified[str(k)] for row in calibrated if str(k) in row.certified}
