"""Which variant a unit gets: a hash into integer buckets, the same on every replica and in every language.

A bucket is made of three texts, in UTF-8 with a zero byte between them:

    digest = SHA-256(salt 00 purpose 00 unit)
    bucket = (the first six bytes of the digest, as a big-endian integer) mod 10,000

Six bytes are exact in a double, so that JavaScript gives the same bucket; no quotient is taken. Three purposes draw
from hashes of their own, so that none of them says anything about another:

    "hold-out"  with the deployment's salt: below hold_out x 10,000 the unit is in no experiment
    "ramp"      with the experiment's salt: below ramp x 10,000 the unit is in this experiment; a higher ramp keeps all
    "variant"   with the experiment's salt: variant v has the buckets from the sum of the shares before it to its own

A border that is no whole bucket is rounded up; the last border is 10,000, so that every bucket has a variant.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from itertools import accumulate
from typing import Literal

from octorec.evaluate.online.experiment import CONTROL, Experiment

BUCKETS = 10_000
Group = Literal["experiment", "hold_out", "outside", "tester", "no_unit"]


@dataclass(frozen=True)
class Assignment:
    """variant: whose engine answers. group: only `experiment` is counted; `outside` is beyond the ramp, `tester` named
    in the file's overrides."""

    variant: str
    group: Group

    @property
    def counted(self) -> bool:
        return self.group == "experiment"


def bucket(salt: str, purpose: str, unit: str) -> int:
    """A bucket in 0..BUCKETS - 1, as the module's text says."""
    digest = sha256(f"{salt}\0{purpose}\0{unit}".encode()).digest()
    return int.from_bytes(digest[:6], "big") % BUCKETS


def borders(shares: Iterable[Fraction]) -> list[int]:
    """The first bucket after each variant's own."""
    return [math.ceil(share * BUCKETS) for share in accumulate(shares)]


def assign(experiment: Experiment, unit: str | None, hold_out_salt: str = "") -> Assignment:
    """The variant of a unit, which is as `unit_id` gives it; without one it is the control, and is not counted.

    hold_out_salt: the deployment's, the same for every experiment.
    """
    if unit is None:
        return Assignment(CONTROL, "no_unit")
    if unit in experiment.overrides:
        return Assignment(experiment.overrides[unit], "tester")
    if bucket(hold_out_salt, "hold-out", unit) < math.ceil(experiment.hold_out * BUCKETS):
        return Assignment(CONTROL, "hold_out")
    if bucket(experiment.salt, "ramp", unit) >= math.ceil(experiment.ramp * BUCKETS):
        return Assignment(CONTROL, "outside")
    return Assignment(variant_of(experiment, bucket(experiment.salt, "variant", unit)), "experiment")


def variant_of(experiment: Experiment, number: int) -> str:
    """The variant that has bucket `number`."""
    ends = borders(variant.share for variant in experiment.variants.values())
    return list(experiment.variants)[bisect_right(ends, number)]
