"""Exposures and outcomes are joined to a row a unit: all that the analysis reads.

Letters: U counted units, S stages, V variants in the experiment's order.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

LOST = "exposures lost"  # key of `Joined.counts` for rows that a log had to drop
LOST_OUTCOMES = "outcomes lost"
IN_TWO = "units seen in two variants"


@dataclass(frozen=True)
class Column:
    """A Column holds a metric's numbers, [U] each.

    y: the sum of its event's values in the window, or 0 and 1 for a proportion.

    per: the sum of a ratio's denominator. x: the covariate, the same sum as y over the time before the first exposure,
    0 for a unit without a past. mature: whether the whole window has passed.
    """

    y: np.ndarray
    mature: np.ndarray
    per: np.ndarray | None = None
    x: np.ndarray | None = None


@dataclass(frozen=True)
class Joined:
    """A Joined holds the counted units and their columns. unit: ids [U]. variant: place in the experiment's order [U].
    stage: of its first exposure [U]. first: time of it, in seconds since 1970 [U]. columns: by metric.

    A unit that was seen in two variants before its windows passed, or that a change of shares moved, is left out of
    these, but not of assigned [S, V]: all units by the stage and variant of their first exposure, for the sample ratio.
    counts: what was left out, doubled, late, lost or odd, by a few words that a report prints, none of them 0. ended:
    what became of the requests, by variant and word. outcomes: how many there were, of all units.
    """

    unit: np.ndarray
    variant: np.ndarray
    stage: np.ndarray
    first: np.ndarray
    columns: Mapping[str, Column]
    assigned: np.ndarray
    counts: Mapping[str, int]
    ended: Mapping[str, Mapping[str, int]]
    outcomes: int = 0
