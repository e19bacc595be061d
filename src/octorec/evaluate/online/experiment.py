"""Read an experiment as its YAML file says it, checked strictly."""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from octorec.engine.widths import read_beam_width
from octorec.errors import InputError, check_keys
from octorec.evaluate.margin import check_margin
from octorec.evaluate.online.buckets import BUCKETS
from octorec.evaluate.online.design import CONTROL, MOST_LOOKS, Experiment, Guard, Kind, Metric, Plan, Variant
from octorec.evaluate.online.fields import (
    NAME,
    QUOTES,
    SECONDS,
    free_text,
    is_number,
    keys_of,
    named_of,
    one_of,
    seconds,
    share_of,
    text_of,
)
from octorec.evaluate.online.unit import unit_id
from octorec.reading import read_yaml

__all__ = ["CONTROL", "MOST_LOOKS", "Experiment", "Guard", "Kind", "Metric", "Plan", "Variant"]  # from `design`
__all__ += ["parse_experiment", "read_experiment", "seconds"]

MOST_VARIANTS, MOST_METRICS, MOST_OVERRIDES = 5, 20, 1000
LONGEST_SALT, LONGEST_FIELD, LONGEST_PATH = 128, 64, 4096  # characters
SMALLEST_MARGIN, LARGEST_MARGIN = 1e-6, 1e12


def read_experiment(path: str | Path) -> Experiment:
    """Read the experiment of a YAML file. Raises InputError, which names file and field."""
    raw = read_yaml(path, "experiment")
    try:
        return parse_experiment(raw)
    except InputError as error:
        raise InputError(f"experiment {path}: {error.field}", error.value, error.allowed) from None


def parse_experiment(raw: Any) -> Experiment:
    """Check a file's plain values and return the experiment."""
    check_keys("experiment", raw, Experiment, required=("name", "salt", "unit", "variants", "metrics", "plan"))
    variants = {name: _variant(name, one) for name, one in named_of("variants", raw["variants"], MOST_VARIANTS).items()}
    _check_variants(variants)
    plan = _plan(raw["plan"])
    metrics = {name: _metric(name, one) for name, one in named_of("metrics", raw["metrics"], MOST_METRICS).items()}
    for metric in metrics.values():
        _check_sound(metric, plan)
    _check_different(metrics)
    return Experiment(
        name=text_of("name", raw["name"], NAME, f"must be letters, digits, . _ - and at most 64 of them, {QUOTES}"),
        salt=check_salt("salt", raw["salt"]),
        unit=free_text("unit", raw["unit"], LONGEST_FIELD, "must be the name of a user field"),
        variants=variants,
        metrics=metrics,
        plan=plan,
        ramp=share_of("ramp", raw.get("ramp", 1)),
        hold_out=share_of("hold_out", raw.get("hold_out", 0), most=Fraction(1, 2)),
        overrides=_overrides(raw.get("overrides"), variants),
        guard=_guard(raw.get("guard")),
    )


def check_salt(field_name: str, value: Any) -> str:
    """Return `value` where it can be a salt, an experiment's or the deployment's."""
    allowed = f"must be text of 1 to {LONGEST_SALT} characters without a zero byte, {QUOTES}"
    return free_text(field_name, value, LONGEST_SALT, allowed)


def _variant(name: str, raw: Any) -> Variant:
    where = f"variants.{name}"
    values = keys_of(where, raw, ("share", "checkpoint", "catalog", "beam_width"), ("share",))
    for key in ("checkpoint", "catalog"):
        if values.get(key) is not None:
            free_text(f"{where}.{key}", values[key], LONGEST_PATH, "must be a folder")
    width = values.get("beam_width")
    if width is not None:
        values["beam_width"] = read_beam_width(f"{where}.beam_width", width)
    share = share_of(f"{where}.share", values.pop("share"))
    if share == 0:
        raise InputError(f"{where}.share", 0, f"must be at least 1/{BUCKETS}: leave out a variant that nobody gets")
    return Variant(name, share, **values)


def _check_variants(variants: Mapping[str, Variant]) -> None:
    if CONTROL not in variants or len(variants) < 2:
        raise InputError("variants", ", ".join(variants), f"must be {CONTROL} and at least one other")
    total = sum(variant.share for variant in variants.values())
    if total != 1:
        listed = ", ".join(f"{variant.name} {variant.share}" for variant in variants.values())
        raise InputError("variants: share", listed, f"must add up to 1, and are {total}; write thirds as 1/3")


def _metric(name: str, raw: Any) -> Metric:
    where = f"metrics.{name}"
    keys = ("kind", "event", "window", "role", "per", "direction", "margin", "covariate")
    values = keys_of(where, raw, keys, ("kind", "event", "window", "role"))
    kind = one_of(f"{where}.kind", values["kind"], "mean", "proportion", "ratio")
    role = one_of(f"{where}.role", values["role"], "guardrail", "goal")
    direction = one_of(f"{where}.direction", values.get("direction", "up"), "up", "down")
    event = text_of(f"{where}.event", values["event"], NAME, f"must be the name of an event, {QUOTES}")
    per = values.get("per")
    if (per is not None) != (kind == "ratio"):
        raise InputError(f"{where}.per", per, "must name the event to divide by, for a ratio and for nothing else")
    per = None if per is None else text_of(f"{where}.per", per, NAME, f"must be the name of an event, {QUOTES}")
    margin, margin_kind = _margin(f"{where}.margin", values.get("margin"), role, kind)
    covariate = values.get("covariate")
    before = None if covariate is None else seconds(f"{where}.covariate", covariate)
    window = seconds(f"{where}.window", values["window"])
    return Metric(name, kind, event, window, role, per, direction, margin, margin_kind, before)  # type: ignore[arg-type]


def _margin(where: str, value: Any, role: str, kind: str) -> tuple[float, str]:
    """Return a margin and its kind: `0.01` is 1 % of the control, `{absolute: 0.01}` is in the metric's own unit."""
    if role == "goal":
        if value is not None:
            raise InputError(where, value, "a goal has none: it is to become better; make it a guardrail for a margin")
        return 0.0, "relative"
    if isinstance(value, dict) and list(value) == ["absolute"]:
        number, most = value["absolute"], 1 if kind == "proportion" else LARGEST_MARGIN
        if not is_number(number) or not SMALLEST_MARGIN <= number < most:
            allowed = f"must be a number of at least {SMALLEST_MARGIN:f} and below {most:g}"
            raise InputError(f"{where}.absolute", number, allowed)
        return float(number), "absolute"
    if not is_number(value):
        allowed = "must be a share of the control, such as 0.01, or {absolute: number}; a guardrail needs it"
        raise InputError(where, value, allowed)
    try:
        check_margin(value)
    except InputError as error:
        raise InputError(where, value, error.allowed) from None
    if value < SMALLEST_MARGIN:
        raise InputError(where, value, f"must be at least {SMALLEST_MARGIN:f}")
    return float(value), "relative"


def _check_sound(metric: Metric, plan: Plan) -> None:
    """Refuse what is not analysed soundly, or cannot come to an end."""
    where = f"metrics.{metric.name}"
    if metric.kind == "ratio" and len(plan.looks) > 1:
        allowed = "a ratio is judged once, at the end: give one look, or make it a mean"
        raise InputError(f"{where}.kind", metric.kind, allowed)
    if metric.kind == "ratio" and metric.covariate_s is not None:
        raise InputError(f"{where}.covariate", "given", "a ratio takes none: leave it out")
    if metric.per == metric.event:
        raise InputError(f"{where}.per", metric.per, "is the event itself, so that the ratio is always 1")
    if plan.days is not None and metric.window_s >= plan.days * SECONDS["d"]:
        allowed = f"must be shorter than the plan's {plan.days:g} days: nobody's window would have passed at its end"
        raise InputError(f"{where}.window", f"{metric.window_s:g}s", allowed)


def _check_different(metrics: Mapping[str, Metric]) -> None:
    """Refuse two names for one metric: what is looked at twice takes a correction twice."""
    seen: dict[Metric, str] = {}
    for name, metric in metrics.items():
        plain = dataclasses.replace(metric, name="", margin=0.0, margin_kind="relative", covariate_s=None)
        if plain in seen:
            raise InputError(f"metrics.{name}", metric.event, f"is the same as {seen[plain]}: leave one out")
        seen[plain] = name


def _overrides(raw: Any, variants: Mapping[str, Variant]) -> dict[str, str]:
    raw = {} if raw is None else raw
    if not isinstance(raw, dict) or len(raw) > MOST_OVERRIDES:
        raise InputError("overrides", raw, f"must be at most {MOST_OVERRIDES} unit ids with their variants")
    found: dict[str, str] = {}
    for unit, variant in raw.items():
        if not isinstance(unit, str):
            raise InputError("overrides: unit", unit, "must be in quotes: YAML reads 007 as 7, and 0123 as 83")
        known = unit_id(unit, "overrides: unit")
        if known is None or known in found:
            raise InputError("overrides: unit", unit, "must be an id, named once")
        found[known] = one_of(f"overrides.{known}", variant, *variants)
    return found


def _plan(raw: Any) -> Plan:
    return _made("plan", Plan, keys_of("plan", raw, tuple(one.name for one in dataclasses.fields(Plan)), ()))


def _guard(raw: Any) -> Guard:
    raw = {} if raw is None else raw
    values = keys_of("guard", raw, ("window", "requests", "latency_ms", "error_rate", "outcomes"), ())
    if "window" in values:
        values["window_s"] = seconds("guard.window", values.pop("window"))
    return _made("guard", Guard, values)


def _made(where: str, kind: type, values: dict[str, Any]) -> Any:
    try:
        return kind(**values)
    except InputError as error:
        field = where if error.field == where else f"{where}.{error.field.removesuffix('_s')}"
        raise InputError(field, error.value, error.allowed) from None
