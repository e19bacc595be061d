"""A change of shares gives some units to another variant while their outcomes are still counted.

Whether such a unit comes back, and is then seen in both variants, depends on how often it comes: to leave out those
that are seen would leave out the heavy ones, all of one variant. So all units of the buckets that moved are left out,
seen again or not, which no outcome can have any part in.

Letters: U units, S stages.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np

from octorec.evaluate.online.buckets import VARIANT, borders, bucket
from octorec.evaluate.online.design import Experiment


class Stage(Protocol):
    """A Stage is what is read of a stage: since when, in seconds since 1970, its units have had these shares."""

    @property
    def number(self) -> int: ...
    @property
    def since(self) -> float: ...
    @property
    def shares(self) -> Mapping[str, Fraction]: ...


def moved(
    experiment: Experiment, stages: Sequence[Stage], units: Sequence[str], stage: np.ndarray, first: np.ndarray
) -> np.ndarray:
    """Tell whether a later stage that began before its windows passed has another variant for a unit: [U] bool.

    units [U]: ids. stage [U]: place in `stages` of the first exposure. first [U]: its time, microseconds since 1970.
    """
    ends = [borders(one.shares[name] for name in experiment.variants) for one in stages]
    since = np.array([round(one.since * 1e6) for one in stages])
    open_until = first + round(experiment.longest_window_s * 1e6)
    found = np.zeros(len(units), bool)
    for place in range(len(stages)):
        later = [n for n in range(place + 1, len(stages)) if ends[n] != ends[place]]
        for number in np.flatnonzero((stage == place) & (open_until > min(since[later], default=np.inf))).tolist():
            drawn = bucket(experiment.salt, VARIANT, units[number])
            own = bisect_right(ends[place], drawn)
            found[number] = any(since[n] < open_until[number] and bisect_right(ends[n], drawn) != own for n in later)
    return found
