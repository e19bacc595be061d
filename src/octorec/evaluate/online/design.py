"""An experiment consists of variants, metrics, a plan and a guard. `experiment` reads them from a file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Literal

from annotated_types import Interval

from octorec.engine.widths import BeamWidth
from octorec.errors import InputError
from octorec.evaluate.online.buckets import BUCKETS, borders
from octorec.settings import check_types

CONTROL = "control"
MOST_LOOKS = 20
Kind = Literal["mean", "proportion", "ratio"]


@dataclass(frozen=True)
class Variant:
    """A Variant is what answers a unit. Fields that are None are those of the server that runs the experiment.

    share: of the units in the ramp. beam_width: of requests that state none.
    """

    name: str
    share: Fraction
    checkpoint: str | None = None
    catalog: str | None = None
    beam_width: BeamWidth | None = None


@dataclass(frozen=True)
class Metric:
    """A Metric says what a unit's outcomes are counted as, from its first exposure for `window_s` seconds.

    mean: the sum of the values of `event`. proportion: whether there was one. ratio: that sum over the sum of `per`,
    both over units. direction: whether more is better. margin: the loss that is allowed, of the control's mean
    (`relative`) or in the metric's own unit; 0 for a goal, which is to become better. covariate_s: seconds before the
    first exposure whose events of the same name take noise out (CUPED); None for without.
    """

    name: str
    kind: Kind
    event: str
    window_s: float
    role: Literal["guardrail", "goal"]
    per: str | None = None
    direction: Literal["up", "down"] = "up"
    margin: float = 0.0
    margin_kind: Literal["relative", "absolute"] = "relative"
    covariate_s: float | None = None


@dataclass(frozen=True)
class Plan:
    """A Plan says how long an experiment takes, and when it is looked at.

    units: counted units in all whose windows have passed, of all variants.

    days: the end, whatever came; one of the two is there. looks: shares of `units`, or else of `days`, at which it is
    judged, the last 1. alpha: two-sided, over all looks together. power: to show what the metrics ask for, if nothing
    differs for a guardrail.
    """

    units: Annotated[int, Interval(ge=20, le=10**12)] | None = None
    days: Annotated[float, Interval(ge=1e-6, le=3650)] | None = None
    looks: tuple[Annotated[float, Interval(gt=0, le=1)], ...] = (1.0,)
    alpha: Annotated[float, Interval(ge=1e-6, le=0.5)] = 0.05
    power: Annotated[float, Interval(ge=0.05, le=0.999)] = 0.8

    def __post_init__(self) -> None:
        check_types(self)
        if self.units is None and self.days is None:
            raise InputError("plan", None, "must have units, days or both")
        rising = all(before < after for before, after in zip((0.0, *self.looks), self.looks, strict=False))
        if not (self.looks and rising and self.looks[-1] == 1 and len(self.looks) <= MOST_LOOKS):
            raise InputError("looks", self.looks, f"must rise from above 0 to 1, at most {MOST_LOOKS} of them")


@dataclass(frozen=True)
class Guard:
    """A Guard says when a variant loses its traffic at once: over the last `window_s` seconds, once it
    had `requests` of them.

    latency_ms: of the 99th percentile. error_rate: share of requests that failed, or were refused through no fault of
    their sender. None: not looked at. outcomes: whether the server makes the plan's looks by itself, of what came over
    HTTP; False where outcomes, or some of them, come as files, which it would judge without.
    """

    window_s: Annotated[float, Interval(ge=1, le=86400)] = 60.0
    requests: Annotated[int, Interval(ge=10, le=10**9)] = 200
    latency_ms: Annotated[float, Interval(gt=0, le=3_600_000)] | None = None
    error_rate: Annotated[float, Interval(gt=0, le=1)] | None = None
    outcomes: bool = True

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class Experiment:
    """An Experiment is a comparison of variants on users' requests.

    unit: the user field of a request that names the unit.

    variants, metrics: by name, in the file's order. ramp: share of all units that take part; it may only go up.
    hold_out: share of all units that are in no experiment of the deployment.
    overrides: testers by unit id, with their variants; they are not counted.
    """

    name: str
    salt: str
    unit: str
    variants: Mapping[str, Variant]
    metrics: Mapping[str, Metric]
    plan: Plan
    ramp: Fraction = Fraction(1)
    hold_out: Fraction = Fraction(0)
    overrides: Mapping[str, str] = field(default_factory=dict)
    guard: Guard = field(default_factory=Guard)

    @property
    def treatments(self) -> tuple[str, ...]:
        """Return every variant but the control."""
        return tuple(name for name in self.variants if name != CONTROL)

    @property
    def longest_window_s(self) -> float:
        return max(metric.window_s for metric in self.metrics.values())

    @cached_property
    def variant_borders(self) -> list[int]:
        """Return the first bucket after each variant's own.

        It is made once, like the next two, as each request needs it.
        """
        return borders(variant.share for variant in self.variants.values())

    @cached_property
    def ramp_border(self) -> int:
        """Return the first bucket that is outside of the ramp."""
        return math.ceil(self.ramp * BUCKETS)

    @cached_property
    def hold_out_border(self) -> int:
        """Return the first bucket after the hold-out's."""
        return math.ceil(self.hold_out * BUCKETS)
