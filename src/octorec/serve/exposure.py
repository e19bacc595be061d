"""One assigned request, from its unit to its row."""

import time
from dataclasses import dataclass, field
from typing import Any

from octorec.engine.engine import Engine
from octorec.engine.rank import Ranked
from octorec.evaluate.online.assign import Assignment
from octorec.evaluate.online.unit import unit_id
from octorec.serve.config import ServeConfig
from octorec.serve.variants import Answering

FAILED = {"failed", "nonfinite", "cancelled"}  # other outcomes without an answer are refusals


def unit_path(config: ServeConfig) -> str:
    """Return the field of a request that has its unit, as errors name it."""
    return f"user.{config.ab.unit_field}"


def without_unit(user: dict[str, Any], config: ServeConfig, engine: Engine) -> dict[str, Any]:
    """Return the user fields that are for the model: the unit's field is among them only where the model has it too.

    Raises InputError for what is no unit id.
    """
    unit_id(user[config.ab.unit_field], unit_path(config))
    if any(field.name == config.ab.unit_field for field in engine.user_fields):
        return user
    return {name: value for name, value in user.items() if name != config.ab.unit_field}


@dataclass(eq=False)
class Exposure:
    """An Exposure is a request of a unit that is in the experiment, held out, or a tester's.

    answering: whose engine answers, the control's where by_control. time: of its arrival, in seconds since 1970.
    ranked: what the engine found, None until then.
    """

    unit: str
    assignment: Assignment
    stage: int
    answering: Answering
    by_control: bool
    time: float = field(default_factory=time.time)
    ranked: Ranked | None = None

    def row(self, experiment: str, request_id: str, outcome: str, seconds: float) -> dict[str, Any]:
        """Return the row of `rows.EXPOSURES`. outcome: how the request ended, a key of `refusal.STATUS`."""
        answered = outcome == "ok" and self.ranked is not None
        return {
            "time": self.time,
            "experiment": experiment,
            "stage": self.stage,
            "unit": self.unit,
            "variant": self.assignment.variant,
            "group": self.assignment.group,
            "request_id": request_id,
            "ended": self.ended(outcome),
            "items": self.ranked.items() if answered and self.ranked is not None else [],
            "model": self.answering.model if answered else "",
            "catalog": self.ranked.catalog.version if answered and self.ranked is not None else "",
            "latency_ms": seconds * 1e3,
        }

    def ended(self, outcome: str) -> str:
        """Return what became of the request, one of `rows.ENDED`."""
        if outcome != "ok":
            return "failed" if outcome in FAILED else "refused"
        if self.by_control:
            return "by_control"
        return "short" if self.ranked is not None and not self.ranked.complete else "answered"


@dataclass(frozen=True)
class Ended:
    """An Ended says how one counted request ended, for the watchers of the variants.

    outcome: a key of `refusal.STATUS`. seconds: from the decoded body to its end. by_control: an experiment that was
    stopped sent it to the control, so that it says nothing of its variant.
    """

    variant: str
    outcome: str
    seconds: float
    by_control: bool
