"""Turn intervals into one word that a program can act on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from octorec.evaluate.margin import check_margin
from octorec.evaluate.paired import JOINT, Estimate

MIN_USERS = 10  # fewer cannot decide
Outcome = Literal["not_inferior", "inferior", "inconclusive"]
EXIT_CODES: dict[Outcome, int] = {"not_inferior": 0, "inferior": 3, "inconclusive": 4}
MOST_TIMES = 1e6  # its square times today's users is the most that is said to be needed


@dataclass(frozen=True)
class Verdict:
    """A Verdict is the outcome for `margin`. users_needed: only when inconclusive, None where that cannot be told."""

    outcome: Outcome
    margin: float
    metrics: tuple[str, ...]
    users_needed: int | None = None

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "margin": self.margin,
            "metrics": list(self.metrics),
            "users_needed": self.users_needed,
        }


def decide(differences: Mapping[str, Estimate], margin: float) -> Verdict:
    """Judge relative differences (candidate / baseline - 1), one a metric, against the loss `margin` that is allowed.

    not_inferior: every low end is above -margin; as all must be, the verdict errs no more often than one of them.
    inferior: some high end is below it; as any may be, they share the error of one (`joint_high`). inconclusive:
    neither, or fewer than MIN_USERS users.
    """
    check_margin(margin)
    assert len(differences) <= JOINT, "the error of `inferior` is shared among so many"
    metrics = tuple(differences)
    users = min(difference.users for difference in differences.values())
    if users < MIN_USERS:
        return Verdict("inconclusive", margin, metrics, _most(differences, margin))
    if all(difference.low > -margin for difference in differences.values()):
        return Verdict("not_inferior", margin, metrics)
    if any(difference.joint_high < -margin for difference in differences.values()):
        return Verdict("inferior", margin, metrics)
    return Verdict("inconclusive", margin, metrics, _most(differences, margin))


def users_needed(difference: Estimate, margin: float) -> int | None:
    """Return how many users in all would bring the low end above -margin if those still to come showed no difference.

    With n users the interval reaches h = value - low below the observed value. With N > n of them the value becomes
    value * n / N and the reach h * sqrt(n / N). Put x = sqrt(n / N): value x^2 - h x = -margin has the root

        x = 2 margin / (h + sqrt(h^2 - 4 value margin)),    N = n / x^2,

    which is n (h / margin)^2 where value is 0, and more than n wherever low <= -margin. Users who do show a loss decide
    for `inferior` instead. None where the low end is unbounded: the baseline has no hit to lose. Where few users
    differ the interval narrows faster than the square root, so that there this is an upper limit.
    """
    reach = difference.value - difference.low
    if not math.isfinite(reach):
        return None
    root = reach + math.sqrt(max(0.0, reach**2 - 4 * difference.value * margin))
    return math.ceil(difference.users * min(root / (2 * margin), MOST_TIMES) ** 2)


def _most(differences: Mapping[str, Estimate], margin: float) -> int | None:
    """Return the users that the slowest of the undecided metrics needs; None where one of them cannot tell."""
    open_ = [difference for difference in differences.values() if difference.low <= -margin]
    needed = [users_needed(difference, margin) for difference in open_]
    return None if None in needed else max([MIN_USERS, *(n for n in needed if n is not None)])
