"""An experiment that was started may change in few things: the ramp, and what opens a new stage."""

from typing import Any

from octorec.errors import InputError, shown
from octorec.evaluate.online.design import Experiment
from octorec.evaluate.online.written import experiment_values

STAGED = ("share", "checkpoint", "catalog")  # fields of a variant that open a new stage; versions are compared apart
Difference = tuple[str, Any, Any]


def refuse_changes(old: Experiment, new: Experiment, how_to_end: str) -> None:
    """Raise InputError about the first field that may not change, and has; a ramp may go up only."""
    before, after = _lasting(old), _lasting(new)
    found = _difference(before, after, "") or _other_order(before["variants"], after["variants"])
    if found:
        field, was, now = found
        allowed = (
            f"was {shown(was, 100)} when the experiment was started, and may not change: only the ramp may, and "
            f"shares, checkpoints and catalogs, which open a new stage; {how_to_end} and start one of another name "
            "and salt"
        )
        raise InputError(field, now, allowed)
    if new.ramp < old.ramp:
        allowed = f"was {old.ramp} and may only go up: units that are in would be thrown out; stop it, or {how_to_end}"
        raise InputError("ramp", str(new.ramp), allowed)


def _lasting(experiment: Experiment) -> dict[str, Any]:
    """Return the values of an experiment that may not change."""
    values = experiment_values(experiment)
    del values["ramp"]
    for variant in values["variants"].values():
        for name in STAGED:
            variant.pop(name, None)
    return values


def _difference(old: Any, new: Any, where: str) -> Difference | None:
    """Return the field, the old and the new value of the first difference of two trees of plain values."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return None if old == new else (where, old, new)
    for key in {**old, **new}:
        path = f"{where}.{key}" if where else key
        if key not in old or key not in new:
            return path, old.get(key), new.get(key)
        if found := _difference(old[key], new[key], path):
            return found
    return None


def _other_order(old: dict[str, Any], new: dict[str, Any]) -> Difference | None:
    """Return a difference where variants stand in another order, for they then have other buckets."""
    return None if list(old) == list(new) else ("variants", list(old), list(new))
