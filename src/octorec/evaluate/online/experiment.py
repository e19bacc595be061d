"""An experiment as its YAML file says it, checked strictly."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from octorec.errors import InputError, check_keys
from octorec.evaluate.margin import check_margin
from octorec.evaluate.online.unit import unit_id
from octorec.reading import read_yaml
from octorec.settings import check_range, check_types

CONTROL = "control"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(s|m|h|d)")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MOST_VARIANTS, MOST_METRICS, MOST_LOOKS, MOST_OVERRIDES = 5, 20, 20, 1000
LONGEST_SALT = 128
Kind = Literal["mean", "proportion", "ratio"]


@dataclass(frozen=True)
class Variant:
    """What answers a unit. Fields that are None are those of the server that runs the experiment.

    share: of the units in the ramp. beam_width: of requests that state none.
    """

    name: str
    share: Fraction
    checkpoint: str | None = None
    catalog: str | None = None
    beam_width: int | None = None


@dataclass(frozen=True)
class Metric:
    """What a unit's outcomes are counted as, from its first exposure for `window_s` seconds.

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
    """How long, and when it is looked at. units: counted units in all whose windows have passed, of all variants.

    days: the end, whatever came; one of the two is there. looks: shares of `units`, or else of `days`, at which it is
    judged, the last 1. alpha: two-sided, over all looks together. power: to show what the metrics ask for, if nothing
    differs for a guardrail.
    """

    units: int | None = None
    days: float | None = None
    looks: tuple[float, ...] = (1.0,)
    alpha: float = 0.05
    power: float = 0.8

    def __post_init__(self) -> None:
        check_types(self)
        if self.units is None and self.days is None:
            raise InputError("plan", None, "must have units, days or both")
        check_range(self, 20, 10**12, "units")
        check_range(self, 0, 3650, "days", above=True)
        check_range(self, 0, 0.5, "alpha", above=True)
        check_range(self, 0.05, 0.999, "power")
        rising = all(before < after for before, after in zip((0.0, *self.looks), self.looks, strict=False))
        if not (self.looks and rising and self.looks[-1] == 1 and len(self.looks) <= MOST_LOOKS):
            raise InputError("plan.looks", self.looks, f"must rise from above 0 to 1, at most {MOST_LOOKS} of them")


@dataclass(frozen=True)
class Guard:
    """When a variant loses its traffic at once: over the last `window_s` seconds, once it had `requests` of them.

    latency_ms: of the 99th percentile. error_rate: share of requests that failed, or were refused through no fault of
    their sender. None: not looked at. What outcomes say is looked at with the plan's looks.
    """

    window_s: float = 60.0
    requests: int = 200
    latency_ms: float | None = None
    error_rate: float | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, 1, 86400, "window_s")
        check_range(self, 10, 10**9, "requests")
        check_range(self, 0, 3_600_000, "latency_ms", above=True)
        check_range(self, 0, 1, "error_rate", above=True)


@dataclass(frozen=True)
class Experiment:
    """unit: the user field of a request that names the unit. variants, metrics: by name, in the file's order.

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
        """Every variant but the control."""
        return tuple(name for name in self.variants if name != CONTROL)

    @property
    def longest_window_s(self) -> float:
        return max(metric.window_s for metric in self.metrics.values())


def read_experiment(path: str | Path) -> Experiment:
    """The experiment of a YAML file. Raises InputError, which names file and field."""
    raw = read_yaml(path, "experiment")
    try:
        return parse_experiment(raw)
    except InputError as error:
        raise InputError(f"experiment {path}: {error.field}", error.value, error.allowed) from None


def parse_experiment(raw: Any) -> Experiment:
    """The experiment of a file's plain values."""
    check_keys("experiment", raw, Experiment, required=("name", "salt", "unit", "variants", "metrics", "plan"))
    variants = {name: _variant(name, one) for name, one in _named("variants", raw["variants"], MOST_VARIANTS).items()}
    _check_variants(variants)
    plan = _plan(raw["plan"])
    metrics = {name: _metric(name, one) for name, one in _named("metrics", raw["metrics"], MOST_METRICS).items()}
    for metric in metrics.values():
        _check_sound(metric, plan)
    overrides = raw.get("overrides") or {}
    return Experiment(
        name=_text("name", raw["name"], NAME, "must be letters, digits, . _ - and at most 64 of them"),
        salt=_salt(raw["salt"]),
        unit=_text("unit", raw["unit"], re.compile(r"[^\0]{1,64}"), "must be the name of a user field"),
        variants=variants,
        metrics=metrics,
        plan=plan,
        ramp=_share("ramp", raw.get("ramp", 1)),
        hold_out=_share("hold_out", raw.get("hold_out", 0), most=Fraction(1, 2)),
        overrides=_overrides(overrides, variants),
        guard=_guard(raw.get("guard") or {}),
    )


def seconds(field_name: str, value: Any) -> float:
    """The seconds of a duration such as `30m` or `7d`."""
    found = DURATION.fullmatch(value) if isinstance(value, str) else None
    length = float(found[1]) * SECONDS[found[2]] if found else 0.0
    if not 0 < length <= 3650 * 86400:
        raise InputError(field_name, value, "must be a duration above 0, such as 90s, 30m, 12h or 7d")
    return length


def _variant(name: str, raw: Any) -> Variant:
    where = f"variants.{name}"
    values = _keys(where, raw, ("share", "checkpoint", "catalog", "beam_width"), ("share",))
    for key in ("checkpoint", "catalog"):
        if values.get(key) is not None and (not isinstance(values[key], str) or not values[key]):
            raise InputError(f"{where}.{key}", values[key], "must be a folder")
    width = values.get("beam_width")
    if width is not None and (type(width) is not int or width < 1):
        raise InputError(f"{where}.beam_width", width, "must be an integer of at least 1")
    return Variant(name, _share(f"{where}.share", values.pop("share")), **values)


def _check_variants(variants: Mapping[str, Variant]) -> None:
    if CONTROL not in variants or len(variants) < 2:
        raise InputError("variants", ", ".join(variants), f"must be {CONTROL} and at least one other")
    total = sum(variant.share for variant in variants.values())
    if total != 1:
        shown = ", ".join(f"{variant.name} {variant.share}" for variant in variants.values())
        raise InputError("variants: share", shown, f"must add up to 1, and are {total}")


def _metric(name: str, raw: Any) -> Metric:
    where = f"metrics.{name}"
    keys = ("kind", "event", "window", "role", "per", "direction", "margin", "covariate")
    values = _keys(where, raw, keys, ("kind", "event", "window", "role"))
    kind = _one_of(f"{where}.kind", values["kind"], "mean", "proportion", "ratio")
    role = _one_of(f"{where}.role", values["role"], "guardrail", "goal")
    direction = _one_of(f"{where}.direction", values.get("direction", "up"), "up", "down")
    event = _text(f"{where}.event", values["event"], NAME, "must be the name of an event")
    per = values.get("per")
    if (per is not None) != (kind == "ratio"):
        raise InputError(f"{where}.per", per, "must name the event to divide by, for a ratio and for nothing else")
    per = None if per is None else _text(f"{where}.per", per, NAME, "must be the name of an event")
    margin, margin_kind = _margin(f"{where}.margin", values.get("margin"), role)
    covariate = values.get("covariate")
    before = None if covariate is None else seconds(f"{where}.covariate", covariate)
    window = seconds(f"{where}.window", values["window"])
    return Metric(name, kind, event, window, role, per, direction, margin, margin_kind, before)  # type: ignore[arg-type]


def _margin(where: str, value: Any, role: str) -> tuple[float, str]:
    """`1 %` is relative to the control, `{absolute: 0.01}` in the metric's own unit."""
    if role == "goal":
        if value is not None:
            raise InputError(where, value, "a goal has none: it is to become better; make it a guardrail for a margin")
        return 0.0, "relative"
    if isinstance(value, dict) and list(value) == ["absolute"]:
        number = value["absolute"]
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
            raise InputError(f"{where}.absolute", number, "must be a number above 0")
        return float(number), "absolute"
    if isinstance(value, bool) or not isinstance(value, int | float):
        allowed = "must be a share of the control, such as 0.01, or {absolute: number}; a guardrail needs it"
        raise InputError(where, value, allowed)
    try:
        check_margin(float(value))
    except InputError as error:
        raise InputError(where, value, error.allowed) from None
    return float(value), "relative"


def _check_sound(metric: Metric, plan: Plan) -> None:
    """Refuse what is not analysed soundly."""
    if metric.kind == "ratio" and len(plan.looks) > 1:
        allowed = "a ratio is judged once, at the end: give one look, or make it a mean"
        raise InputError(f"metrics.{metric.name}.kind", metric.kind, allowed)
    if metric.kind == "ratio" and metric.covariate_s is not None:
        raise InputError(f"metrics.{metric.name}.covariate", "given", "a ratio takes none: leave it out")


def _overrides(raw: Any, variants: Mapping[str, Variant]) -> dict[str, str]:
    if not isinstance(raw, dict) or len(raw) > MOST_OVERRIDES:
        raise InputError("overrides", raw, f"must be at most {MOST_OVERRIDES} unit ids with their variants")
    found: dict[str, str] = {}
    for unit, variant in raw.items():
        known = unit_id(unit, "overrides: unit")
        if known is None or known in found:
            raise InputError("overrides: unit", unit, "must be an id, named once")
        found[known] = _one_of(f"overrides.{known}", variant, *variants)
    return found


def _named(where: str, raw: Any, most: int) -> dict[str, Any]:
    if not isinstance(raw, dict) or not 1 <= len(raw) <= most:
        raise InputError(where, raw, f"must be 1 to {most} entries by name")
    for name in raw:
        _text(where, name, NAME, "names are letters, digits, . _ - and at most 64 of them")
    return raw


def _keys(where: str, raw: Any, known: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise InputError(where, raw, f"must have the keys {', '.join(known)}")
    for key in raw:
        if key not in known:
            raise InputError(where, key, f"unknown key; known: {', '.join(known)}")
    for key in required:
        if key not in raw:
            raise InputError(f"{where}.{key}", None, "is required")
    return dict(raw)


def _plan(raw: Any) -> Plan:
    return _made("plan", Plan, _keys("plan", raw, tuple(one.name for one in dataclasses.fields(Plan)), ()))


def _guard(raw: Any) -> Guard:
    values = _keys("guard", raw, ("window", "requests", "latency_ms", "error_rate"), ())
    if "window" in values:
        values["window_s"] = seconds("guard.window", values.pop("window"))
    return _made("guard", Guard, values)


def _made(where: str, kind: type, values: dict[str, Any]) -> Any:
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{where}.{error.field.removeprefix(f'{where}.')}", error.value, error.allowed) from None


def _share(where: str, value: Any, most: Fraction = Fraction(1)) -> Fraction:
    """A share as it is written: 0.05, or 1/3 as text; no binary rounding."""
    try:
        share = Fraction(str(value)) if not isinstance(value, bool) and len(str(value)) <= 40 else None
    except (ValueError, ZeroDivisionError):
        share = None
    if share is None or not 0 <= share <= most:
        raise InputError(where, value, f"must be a number from 0 to {most}, or a fraction such as 1/3")
    return share


def _salt(value: Any) -> str:
    pattern = re.compile(rf"[^\0]{{1,{LONGEST_SALT}}}", re.DOTALL)
    return _text("salt", value, pattern, f"must be text of 1 to {LONGEST_SALT} characters")


def _text(where: str, value: Any, pattern: "re.Pattern[str]", allowed: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(where, value, allowed)
    return value


def _one_of(where: str, value: Any, *allowed: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InputError(where, value, f"allowed: {', '.join(allowed)}")
    return value
