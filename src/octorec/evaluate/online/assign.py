"""Tell which variant a unit gets: the same on every replica, after every restart and in every language.

`buckets` says how a salt, a purpose and a unit make a bucket in 0..9,999. Three purposes draw from hashes of their own,
so that none of them says anything about another:

    "hold-out"  with the deployment's salt: below hold_out x 10,000 the unit is in no experiment
    "ramp"      with the experiment's salt: below ramp x 10,000 the unit is in this experiment; a higher ramp keeps all
    "variant"   with the experiment's salt: variant v has the buckets from the sum of the shares before it to its own

A border that is no whole bucket is rounded up; the last border is 10,000, so that every bucket has a variant.
docs/online-assignment.md says it to the bit.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from octorec.evaluate.online.buckets import BUCKETS, VARIANT, borders, bucket
from octorec.evaluate.online.design import CONTROL, Experiment
from octorec.evaluate.online.unit import unit_id

__all__ = ["BUCKETS", "Assignment", "Group", "assign", "borders", "bucket", "variant_of"]

Group = Literal["experiment", "hold_out", "outside", "tester", "no_unit"]


@dataclass(frozen=True)
class Assignment:
    """An Assignment is what a unit gets. variant: whose engine answers. group: only `experiment` is counted; `outside`
    is beyond the ramp, `tester` named in the file's overrides.
    """

    variant: str
    group: Group

    @property
    def counted(self) -> bool:
        return self.group == "experiment"


def assign(experiment: Experiment, unit: str | int | None, hold_out_salt: str = "") -> Assignment:
    """Return the variant of a unit; a unit without an id gets the control, and is not counted.

    hold_out_salt: the deployment's, the same for every experiment. Raises InputError as `unit_id` does.
    """
    unit = unit_id(unit)
    if unit is None:
        return Assignment(CONTROL, "no_unit")
    if unit in experiment.overrides:
        return Assignment(experiment.overrides[unit], "tester")
    if bucket(hold_out_salt, "hold-out", unit) < experiment.hold_out_border:
        return Assignment(CONTROL, "hold_out")
    if bucket(experiment.salt, "ramp", unit) >= experiment.ramp_border:
        return Assignment(CONTROL, "outside")
    return Assignment(variant_of(experiment, bucket(experiment.salt, VARIANT, unit)), "experiment")


def variant_of(experiment: Experiment, number: int) -> str:
    """Return the variant that has bucket `number`."""
    return tuple(experiment.variants)[bisect_right(experiment.variant_borders, number)]
