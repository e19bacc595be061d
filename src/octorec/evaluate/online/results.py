"""These are the A/B verdict and all that leads to it, as text, JSON and HTML show it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from octorec.evaluate.verdict import EXIT_CODES, Outcome

BROKEN = 5  # exit code of an experiment whose sample ratio, rows or variants cannot be trusted

JUDGED = frozenset((*EXIT_CODES.values(), BROKEN))  # the exit codes of a report that was made


@dataclass(frozen=True)
class Effect:
    """An Effect sets a metric of one treatment beside the control at one look.

    value, low, high: the difference, relative to the control's mean or absolute as the metric's margin is, in the
    metric's own direction (above 0: more). The ends hold at every look together; one that nothing bounds is infinite,
    and a value or a mean that cannot be told is NaN. joint_high, joint_low: the ends that decide for `inferior` and for
    a goal's `better`, whose error is shared. control, treatment: the means, adjusted where there is a covariate. units:
    of control and treatment, whose windows have passed. outcome: of a guardrail as offline; a goal's margin is 0, so
    that not_inferior is: better. why: in words, where the numbers decide nothing.
    """

    metric: str
    variant: str
    control: float
    treatment: float
    value: float
    low: float
    high: float
    joint_low: float
    joint_high: float
    units: tuple[int, int]
    outcome: Outcome
    why: str | None = None


@dataclass(frozen=True)
class Look:
    """A Look is one planned look. time: seconds since 1970. units: counted, whose windows have passed. information:
    reached, as a share of the plan. alpha_spent: two-sided, of all looks so far. bound: how many standard errors an end
    is away.
    """

    number: int
    time: float
    units: int
    information: float
    alpha_spent: float
    bound: float
    final: bool
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class SampleRatio:
    """A SampleRatio holds the units of each variant beside those expected.

    p: the lowest that the check's always-valid p-value ever was.
    """

    assigned: Mapping[str, int]
    expected: Mapping[str, float]
    p: float
    broken: bool


@dataclass(frozen=True)
class AbReport:
    """An AbReport says what an experiment shows so far.

    verdict: of the last look; `broken` before everything, `inconclusive` before the first look. broken: why, in
    words. counts, ended: of `joined.Joined`. units: counted, whose windows have passed. next_look: units at which the
    next look is due, None after the last. power: by guardrail and treatment, the chance that the rest of the plan ends
    `not_inferior` if nothing differs.
    """

    experiment: str
    outcome: Literal["not_inferior", "inferior", "inconclusive", "broken"]
    broken: tuple[str, ...]
    sample_ratio: SampleRatio
    looks: tuple[Look, ...]
    units: int
    next_look: int | None
    counts: Mapping[str, int]
    ended: Mapping[str, Mapping[str, int]]
    power: Mapping[str, float]

    @property
    def exit_code(self) -> int:
        return BROKEN if self.outcome == "broken" else EXIT_CODES[self.outcome]
