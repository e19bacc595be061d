"""Say in sentences what an experiment's file makes happen."""

from collections.abc import Iterator
from fractions import Fraction

from octorec.evaluate.margin import percent
from octorec.evaluate.online import words
from octorec.evaluate.online.experiment import Experiment, Guard, Metric, Plan, Variant

COUNTED = {
    "mean": "the sum of the values of {event} a unit",
    "proportion": "the share of units with {event}",
    "ratio": "the sum of {event} over the sum of {per}",
}
FIXED = (
    "while it runs, ramp may only go up; other shares, checkpoints or catalogs open a stage, which is analysed apart",
    "any other change of this file, a salt that was used before, and a second experiment beside it are refused",
)


def described(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield pairs of a heading and a sentence; a heading stands once for each of its sentences."""
    yield "experiment", f"{experiment.name}; a unit is a request's user field {experiment.unit}"
    for variant in experiment.variants.values():
        yield "variant", _variant(variant)
    yield "ramp", _ramp(experiment.ramp)
    if experiment.hold_out:
        held_out = f"{words.share(experiment.hold_out)} of all units, the same in every experiment"
        yield "hold-out", f"{held_out}, get the control and are not counted"
    if experiment.overrides:
        testers = words.counted(len(experiment.overrides), "unit")
        yield "testers", f"{testers} with a variant given by the file; not counted"
    for metric in experiment.metrics.values():
        yield metric.role, metric_sentence(metric)
    yield "verdict", _verdict(experiment)
    for sentence in _plan(experiment.plan, experiment.longest_window_s):
        yield "plan", sentence
    for sentence in _guard(experiment.guard):
        yield "guard", sentence
    for sentence in FIXED:
        yield "changes", sentence


def metric_sentence(metric: Metric) -> str:
    """Return what a metric counts, over how long, and what is asked of it."""
    counted = COUNTED[metric.kind].format(event=metric.event, per=metric.per)
    said = f"{metric.name}: {counted}, over {words.duration(metric.window_s)} from a unit's first exposure"
    if metric.covariate_s is not None:
        said += f", less what the {words.duration(metric.covariate_s)} before explain (CUPED)"
    return f"{said}; {asked(metric)}"


def asked(metric: Metric) -> str:
    """Return what has to be shown, such as `must not fall by 1 % of the control's mean or more`."""
    up = metric.direction == "up"
    if metric.role == "goal":
        return f"is to {'rise' if up else 'fall'}"
    of = " of the control's mean" if metric.margin_kind == "relative" else ""
    return f"must not {'fall' if up else 'rise'} by {words.margin(metric)}{of} or more"


def _variant(variant: Variant) -> str:
    parts = {"checkpoint": variant.checkpoint, "catalog": variant.catalog, "beam width": variant.beam_width}
    own = ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)
    return f"{variant.name}: {words.share(variant.share)} of the units; {own or 'as the server itself answers'}"


def _ramp(ramp: Fraction) -> str:
    if ramp == 1:
        return "all units take part"
    return f"{words.share(ramp)} of the units take part; the others get the control and are not counted"


def _verdict(experiment: Experiment) -> str:
    """Say when the verdict is `not inferior`."""
    roles = {metric.role for metric in experiment.metrics.values()}
    each, one = (" in each treatment", " in one") if len(experiment.treatments) > 1 else ("", "")
    needed = {"guardrail": f"every guardrail is clear of its margin{each}", "goal": f"a goal became better{one}"}
    said = words.listed([words_of for role, words_of in needed.items() if role in roles])
    worse = {"guardrail": "a guardrail is beyond its margin", "goal": "a goal became worse"}
    bad = " or ".join(words_of for role, words_of in worse.items() if role in roles)
    return f"not inferior when {said}; inferior when {bad}"


def _plan(plan: Plan, window_s: float) -> Iterator[str]:
    window = words.duration(window_s)
    if plan.units is not None:
        units = words.listed([f"{plan.units * look:,.0f}" for look in plan.looks])
        yield f"{_looks(plan)} at {units} units whose windows ({window} at most) have passed"
    else:
        assert plan.days is not None
        days = words.listed([f"{plan.days * look:.4g}" for look in plan.looks])
        yield f"{_looks(plan)}, {days} days after the start"
    if plan.units is not None and plan.days is not None:
        yield f"the last look is {plan.days:.4g} days after the start at the latest, whatever came"
    yield f"an interval errs in {percent(plan.alpha)} at most, over all looks; power {percent(plan.power)} is planned"


def _looks(plan: Plan) -> str:
    return words.counted(len(plan.looks), "look")


def _guard(guard: Guard) -> Iterator[str]:
    limits = {
        "the 99th percentile of its latency is above": guard.latency_ms and f"{guard.latency_ms:g} ms",
        "the share of its requests that fail is above": guard.error_rate is not None and percent(guard.error_rate),
    }
    for what, limit in limits.items():
        if limit:
            over = f"over {words.duration(guard.window_s)} and at least {guard.requests:,} requests"
            yield f"a variant loses its traffic when {what} {limit}, {over}"
    if not guard.outcomes:
        yield "outcomes come as files: the server makes no look, and a report needs them"
