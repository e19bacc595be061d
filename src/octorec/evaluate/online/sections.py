"""Write an A/B report as titled tables and sentences, which the terminal and the HTML page show alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from octorec.evaluate.margin import percent
from octorec.evaluate.online import words
from octorec.evaluate.online.experiment import CONTROL, Experiment, Metric
from octorec.evaluate.online.record import Record
from octorec.evaluate.online.results import AbReport, Effect, Look, SampleRatio
from octorec.evaluate.online.rows import ENDED
from octorec.evaluate.online.sample_ratio import LEVEL

MOST_NOTES = 20  # notes of the record that are shown, the newest
GOAL_WORDS = {"not_inferior": "better", "inferior": "worse", "inconclusive": "inconclusive"}


@dataclass(frozen=True)
class Part:
    """A Part has a title, a table below it where there are columns, and sentences.

    The first `left` columns hold words.
    """

    title: str
    lines: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    left: int = 1


def parts_of(report: AbReport, record: Record) -> list[Part]:
    """Return all that a report says below its verdict."""
    experiment = record.experiment
    parts = [Part("Why nothing can be said", report.broken)] if report.broken else []
    parts.append(_sample_ratio(report.sample_ratio))
    if report.looks:
        parts += [_effects(report.looks[-1], experiment, treatment) for treatment in experiment.treatments]
        parts.append(_looks(report.looks, experiment))
    parts.append(Part("What comes", tuple(_ahead(report, record))))
    if report.counts:
        parts.append(Part("Left out, doubled, late or lost", said_counts(report.counts)))
    if report.ended:
        parts.append(_ended(report.ended, experiment))
    done = tuple(f"{words.moment(note.time)}: {note.text}" for note in record.notes[-MOST_NOTES:])
    return [*parts, Part("What was done to it", done)]


def verdict(report: AbReport, experiment: Experiment) -> tuple[str, str]:
    """Return the verdict's word or two, and the words that complete the sentence."""
    if report.outcome == "broken":
        return "broken", f": {report.broken[0] if report.broken else 'the sample ratio is not the planned one'}"
    word = report.outcome.replace("_", " ")
    if not report.looks:
        return word, f"{_at_margins(_judging(experiment))}: no look was due yet"
    last = report.looks[-1]
    decided = _deciding(report, experiment, last)
    said = f"{_at_margins(decided)} at {_look_name(last, experiment)}"
    named = set() if report.outcome == "not_inferior" else {metric.name for metric in decided}
    return word, said + _goals(last, experiment, named)


def said_counts(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return a sentence for each count, such as `17 outcomes of units that were never exposed`."""
    return tuple(f"{count:,} {what}" for what, count in counts.items())


def outcome_word(effect: Effect, metric: Metric) -> str:
    """Return a metric's outcome in words; that of a goal says whether it became better."""
    return GOAL_WORDS[effect.outcome] if metric.role == "goal" else effect.outcome.replace("_", " ")


def _judging(experiment: Experiment) -> list[Metric]:
    """Return the guardrails; the goals where there is none."""
    guardrails = [metric for metric in experiment.metrics.values() if metric.role == "guardrail"]
    return guardrails or list(experiment.metrics.values())


def _deciding(report: AbReport, experiment: Experiment, last: Look) -> list[Metric]:
    """Return the metrics by which the verdict is what it is: all that have its word, and of a good one
    the guardrails.
    """
    if report.outcome == "not_inferior":
        return _judging(experiment)
    alike = {effect.metric for effect in last.effects if effect.outcome == report.outcome}
    return [metric for metric in experiment.metrics.values() if metric.name in alike] or _judging(experiment)


def _at_margins(metrics: list[Metric]) -> str:
    """Return a text such as ` at a margin of 1 %, by clicks and orders`."""
    margins = list(dict.fromkeys(words.margin(metric) for metric in metrics if metric.role == "guardrail"))
    many = f"margins of {words.listed(margins)}" if margins[1:] else f"a margin of {margins[0]}" if margins else ""
    return f"{f' at {many},' if many else ''} by {words.listed([metric.name for metric in metrics])}"


def _goals(last: Look, experiment: Experiment, said: set[str]) -> str:
    """Return a text such as `; spent (fp8) is better`, for the goals that are decided and were not `said`."""
    more = ""
    for effect in last.effects:
        metric = experiment.metrics[effect.metric]
        if metric.role == "goal" and metric.name not in said and effect.outcome != "inconclusive":
            more += f"; {effect.metric} ({effect.variant}) is {outcome_word(effect, metric)}"
    return more


def _look_name(look: Look, experiment: Experiment) -> str:
    return f"{'the last look' if look.final else f'look {look.number} of {len(experiment.plan.looks)}'}"


def _sample_ratio(ratio: SampleRatio) -> Part:
    rows = tuple((name, f"{count:,}", f"{ratio.expected[name]:,.1f}") for name, count in ratio.assigned.items())
    word = "is broken" if ratio.broken else "is as planned"
    line = f"The sample ratio {word}: p {words.chance(ratio.p)}, the lowest that it ever was; broken below {LEVEL}"
    return Part("Sample ratio", (line,), ("variant", "assigned units", "expected"), rows)


def _effects(look: Look, experiment: Experiment, treatment: str) -> Part:
    effects = [effect for effect in look.effects if effect.variant == treatment]
    rows = tuple(_effect_row(effect, experiment.metrics[effect.metric]) for effect in effects)
    level = percent(1 - experiment.plan.alpha)
    columns = ("metric", "outcome", "difference", f"{level} interval", "margin", CONTROL, treatment)
    lines = [f"{effect.metric}: {effect.why}" for effect in effects if effect.why]
    by_units: dict[tuple[int, int], list[str]] = {}
    for effect in effects:
        by_units.setdefault(effect.units, []).append(effect.metric)
    by_units.pop((0, 0), None)  # a metric of which nothing can be said has no units
    for (control, treated), names in by_units.items():
        whose = f" ({', '.join(names)})" if len(by_units) > 1 else ""
        lines.append(f"Units whose windows have passed: control {control:,}, {treatment} {treated:,}{whose}")
    return Part(f"{treatment} beside {CONTROL} at {_look_name(look, experiment)}", tuple(lines), columns, rows, left=2)


def _effect_row(effect: Effect, metric: Metric) -> tuple[str, ...]:
    means = (words.number(effect.control), words.number(effect.treatment))
    value, ends = words.difference(effect.value, metric), words.interval(effect.low, effect.high, metric)
    return (metric.name, outcome_word(effect, metric), value, ends, words.signed_margin(metric), *means)


def _looks(looks: tuple[Look, ...], experiment: Experiment) -> Part:
    rows = []
    for look in looks:
        reached = (
            f"{look.units:,}",
            percent(look.information),
            f"{look.alpha_spent:.4f}",
            words.number(look.bound, ".2f"),
        )
        rows.append((f"{look.number}{' (last)' if look.final else ''}", words.moment(look.time), *reached))
    planned = len(experiment.plan.looks)
    columns = ("look", "time", "units", "of the plan", "alpha spent", "bound")
    return Part(f"Looks so far, of {planned} planned", (), columns, tuple(rows), left=2)


def _ahead(report: AbReport, record: Record) -> Iterator[str]:
    """Say whether the experiment still runs, when the next look is due, and what it is likely to show."""
    plan, started = record.experiment.plan, record.stages[0].since
    if record.ended is not None:
        yield f"Ended on {words.moment(record.ended)}"
    elif record.stop is not None:
        why = f": {record.stop.why}" if record.stop.why else ""
        yield f"Stopped on {words.moment(record.stop.time)}, and the control answers until it is resumed{why}"
    yield f"{words.counted(report.units, 'unit')} so far whose windows have passed"
    if report.outcome == "broken":
        yield "No look is made while the experiment is broken"
        return
    if report.looks and report.looks[-1].final:
        yield "The last look has been made: nothing is judged again"
        return
    if report.next_look is not None:
        yield f"The next look is due at {report.next_look:,} units"
    reached = report.looks[-1].information if report.looks else 0.0
    if plan.days is not None:
        rest = plan.looks if plan.units is None else (1.0,)
        share = next((look for look in rest if look > reached), 1.0)
        end = words.moment(started + share * plan.days * 86400)
        yield f"The {'last' if share == 1 else 'next'} look is due on {end} at the latest"
    for whose, power in report.power.items():
        chance = percent(round(power, 3))
        yield f"{whose}: if nothing differs, the rest of the plan ends not inferior with a chance of {chance}"


def _ended(ended: Mapping[str, Mapping[str, int]], experiment: Experiment) -> Part:
    """Return what became of requests, as shares of each variant's."""
    found = dict.fromkeys(word for counts in ended.values() for word in counts)
    names = sorted(found, key=lambda word: ENDED.index(word) if word in ENDED else len(ENDED))
    rows = []
    for variant in [*experiment.variants, *(name for name in ended if name not in experiment.variants)]:
        counts = ended.get(variant, {})
        total = sum(counts.values())
        shares = (f"{counts.get(word, 0) / total:.2%}" if total else "-" for word in names)
        rows.append((variant, f"{total:,}", *shares))
    columns = ("variant", "requests", *(name.replace("_", " ") for name in names))
    return Part("What became of requests", (), columns, tuple(rows))
