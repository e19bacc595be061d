"""Tell what an experiment's plan reaches, by past data: the units that each metric asks for, power, and days."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from octorec.evaluate.margin import percent
from octorec.evaluate.online import words
from octorec.evaluate.online.describe import asked
from octorec.evaluate.online.experiment import Experiment, Metric
from octorec.evaluate.online.past import Past
from octorec.evaluate.online.reached import reached
from octorec.evaluate.online.sections import Part, said_counts
from octorec.evaluate.online.size import Size, plan_units, sizes

CURVE = 60  # points of a power curve


@dataclass(frozen=True)
class Reached:
    """A Reached says what a plan reaches. units: counted, of all variants, at its end; None where that is not known.

    sizes: by metric in the file's order. power: of the guardrails whose size is known, at `units`.
    """

    units: int | None
    past: Mapping[str, Past]
    sizes: tuple[Size, ...]
    power: Mapping[str, float]


def reach(experiment: Experiment, past: Mapping[str, Past], units_a_day: float | None) -> Reached:
    """Compute sizes and power of an experiment. units_a_day: seen for the first time, in the ramp, of all variants."""
    units = plan_units(experiment, units_a_day)
    found = sizes(experiment, past, units_a_day)
    power = {one.metric: reached(experiment, one, [units])[0] for one in found if one.units and units}
    return Reached(units, past, found, power)


def curves(experiment: Experiment, found: Reached) -> dict[str, tuple[list[float], list[float]]]:
    """Return power against units, a curve a guardrail: from far too few units to more than any needs."""
    known = [size for size in found.sizes if size.units]
    ends = [size.units for size in known if size.units] + ([found.units] if found.units else [])
    if not known:
        return {}
    low, high = min(ends) / 20, max(ends) * 2
    xs = [low * (high / low) ** (place / (CURVE - 1)) for place in range(CURVE)]
    return {size.metric: (xs, reached(experiment, size, xs)) for size in known}


def verdict_of_plan(experiment: Experiment, found: Reached) -> str:
    """Say in one sentence whether the plan's units are enough."""
    if found.units is None:
        return "The plan states no units: give --units-per-day to learn how many its days reach"
    wanted = {size.metric: size.units for size in found.sizes if size.units is not None}
    short = {name: units for name, units in wanted.items() if units > found.units}
    unknown = [size.metric for size in found.sizes if _is_guardrail(experiment, size) and size.units is None]
    plan = f"The plan's {words.counted(found.units, 'unit')}"
    if short:
        needs = words.listed([f"{name} ({units:,})" for name, units in short.items()])
        return f"{plan} are too few for {needs}"
    if unknown:
        return f"No number of units can be said for {words.listed(unknown)}"
    return f"{plan} are enough for every guardrail" if wanted else f"{plan}: there is no guardrail to size them for"


def parts_of_plan(experiment: Experiment, found: Reached, counts: Mapping[str, int]) -> Iterator[Part]:
    """Yield a table of what each metric asks for, and how it was counted.

    counts: what was left out of the past, by words.
    """
    rows = [_row(experiment.metrics[size.metric], size, found) for size in found.sizes]
    columns = ("metric", "margin", "units needed", "power", "smallest shown", "days")
    lines = [f"{size.metric}: {asked(experiment.metrics[size.metric])}; {size.why}" for size in found.sizes]
    yield Part(f"What each metric asks for, at {_at(found)}", tuple(lines), columns, tuple(rows))
    past = [_past_row(experiment.metrics[name], one) for name, one in found.past.items()]
    yield Part("The past", (), ("metric", "units", "mean", "standard deviation", "correlation"), tuple(past))
    if counts:
        yield Part("Left out of the past", said_counts(counts))


def needs(experiment: Experiment) -> Iterator[str]:
    """Yield in sentences what past data has to hold."""
    yield "Give past outcomes by --data, Parquet or CSV: time, unit, event, and value where it is not 1"
    for metric in experiment.metrics.values():
        events = words.listed([metric.event, *([metric.per] if metric.per else [])])
        before = metric.covariate_s or 0.0
        yield f"{metric.name}: rows of {events} over {words.duration(metric.window_s + before)} or more"
    yield "Rows of other events, such as a visit, are welcome: each unit with a row counts, whatever it did"


def _at(found: Reached) -> str:
    return "no known number of units" if found.units is None else words.counted(found.units, "unit")


def _is_guardrail(experiment: Experiment, size: Size) -> bool:
    return experiment.metrics[size.metric].role == "guardrail"


def _row(metric: Metric, size: Size, found: Reached) -> tuple[str, ...]:
    power = found.power.get(metric.name)
    return (
        metric.name,
        words.signed_margin(metric),
        "-" if size.units is None else f"{size.units:,}",
        "-" if power is None else percent(round(power, 3)),
        "-" if size.found is None else words.size_of_difference(size.found, metric),
        "-" if size.days is None else f"{size.days:.1f}",
    )


def _past_row(metric: Metric, past: Past) -> tuple[str, ...]:
    correlation = "-" if metric.covariate_s is None else f"{past.correlation:.2f}"
    return (metric.name, f"{past.units:,}", f"{past.mean:.4g}", f"{past.variance**0.5:.4g}", correlation)
