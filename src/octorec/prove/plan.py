"""A plan says what a proof of a checkpoint needs, before there is an FP8 form of it: how good 16 bit is, and how many
users its margin asks for.

Of H hits in the baseline's lists FP8 loses or gains some. Where a share MOVED of the hits does, as many lost as gained,
their sum has a standard deviation of sqrt(MOVED H), so that the 95 % interval of the relative difference reaches
z sqrt(MOVED / H), which is below the margin m from H = z^2 MOVED / m^2 on. Where nothing moves, m H must still be more
than what 2.5 % of samples hide: -ln(0.025).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from octorec.errors import InputError
from octorec.evaluate.origin import Origin
from octorec.evaluate.single import Evaluation
from octorec.evaluate.verdict import MIN_USERS

MOVED = 0.05  # of the hits, assumed: the intervals in docs/quality.md are those of 3 to 4 %
Z = 1.96
HIDDEN = -math.log(0.025)


@dataclass(frozen=True)
class Plan:
    """A Plan is what a proof needs. evaluation: of 16 bit. margin: relative loss that is accepted."""

    evaluation: Evaluation
    margin: float

    @property
    def metric(self) -> str:
        """Return the metric that is planned by: recall of the whole lists."""
        return f"recall@{self.evaluation.k}"

    @property
    def hits_needed(self) -> int:
        """Return the hits of 16 bit from which on the margin is decided, if MOVED of them move."""
        return math.ceil(max(Z**2 * MOVED / self.margin**2, HIDDEN / self.margin))

    @property
    def users_needed(self) -> int | None:
        """Return how many users like these have as many hits; None where 16 bit has none."""
        hits = self.evaluation.metrics[self.metric].value * self.evaluation.targets
        if not hits > 0:
            return None
        return max(MIN_USERS, math.ceil(self.hits_needed / hits * self.evaluation.users))

    def of(self, origin: Origin) -> "Plan":
        """Return the plan with what is known of where its targets come from."""
        return replace(self, evaluation=replace(self.evaluation, origin=origin))

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        plan: Mapping[str, Any] = {
            "margin": self.margin,
            "metric": self.metric,
            "moved": MOVED,
            "hits_needed": self.hits_needed,
            "users_needed": self.users_needed,
            "users": self.evaluation.users,
        }
        return {"plan": dict(plan), "evaluation": self.evaluation.to_dict()}


def refuse_language_model(checkpoint: str) -> None:
    """Raise the InputError of a language model, of which no FP8 form can be made."""
    allowed = "a language model is not quantized by this version, so that the proof ends with its plan"
    raise InputError("checkpoint", checkpoint, allowed)
