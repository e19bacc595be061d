"""Render comparisons as tables for a terminal."""

import math
from collections.abc import Iterable, Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octorec.evaluate.compare import SIDES, Agreement, Comparison, Floor
from octorec.evaluate.margin import percent
from octorec.evaluate.origin import Origin
from octorec.evaluate.paired import Estimate
from octorec.evaluate.shadow import Shadow
from octorec.evaluate.single import Evaluation
from octorec.evaluate.verdict import Outcome

SID = "sid_"  # before the name of a metric by semantic ID
FLOORS = {"popularity": "popularity", "markov": "Markov chain"}
COLORS: dict[Outcome, str] = {"not_inferior": "green", "inferior": "red", "inconclusive": "yellow"}


def render(comparison: Comparison) -> RenderableType:
    """Render both sides' metrics with their differences, what was counted as a miss, and the verdict."""
    return Group(render_metrics(comparison), _agreement(comparison.agreement), _verdict(comparison))


def render_metrics(comparison: Comparison) -> RenderableType:
    """Render both sides' metrics with their differences, what was counted as a miss, and the floors."""
    return Group(_metrics(comparison), *_notes(comparison), *_floors(comparison))


def render_shadow(result: Shadow) -> RenderableType:
    """Render the agreement on requests without labels."""
    line = f"{result.requests:,} requests, {result.answers:,} answers of the baseline scored by both; "
    line += f"where a request does not say, {_seen(result.exclude_seen)}"
    left_out = [Text(note) for note in result.unknown.lines("requests")]
    sample = [Text(result.sample.line("requests", "line numbers"))] if result.sample else []
    return Group(line, *sample, *left_out, _agreement(result.agreement))


def headline(outcome: Outcome, said: str) -> Text:
    """Return a line that begins with the outcome in words, coloured where there is colour, and goes on with `said`."""
    return Text.assemble((outcome.replace("_", " "), f"bold {COLORS[outcome]}"), said)


def said_metric(name: str) -> str:
    """Return the name of a metric as people read it: `recall@10`, or `recall@10 by SID`."""
    return f"{name.removeprefix(SID)} by SID" if name.startswith(SID) else name


def said_targets(result: Comparison | Evaluation) -> str:
    """Return what was predicted, such as `500 targets of 300 users, seen items excluded`."""
    count = f"{result.targets:,} targets" if result.answers is None else f"{result.targets:,} rows"
    several = "" if result.answers is None else f" with {result.answers:,} targets"
    return f"{count} of {result.users:,} users{several}, {_seen(result.exclude_seen)}"


def said_names(names: Iterable[str], several: bool) -> list[RenderableType]:
    """Return lines that say what metrics are, and their other names."""
    one = "With one target a row, recall@k is also pass@k and HR@k"
    more = "recall@k is the share of a row's targets among the first k; pass@k, also HR@k, whether one is"
    by_sid = "by SID: of the k best semantic IDs, whichever items share them; the other rows are by item"
    return [more if several else one, *([by_sid] if any(name.startswith(SID) for name in names) else [])]


def _metrics(comparison: Comparison) -> Table:
    title = said_targets(comparison)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("metric", no_wrap=True)
    for name in ("baseline", "candidate", "difference", "95 % interval", "differ"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, difference in comparison.differences.items():
        _row(table, name, comparison, difference, "{:+.2%}")
    _row(table, "nll", comparison, comparison.nll, "{:+.4f}")
    return table


def _row(table: Table, name: str, comparison: Comparison, difference: Estimate, form: str) -> None:
    sides = [f"{side[name]:.4f}" for side in (comparison.baseline, comparison.candidate)]
    table.add_row(
        said_metric(name),
        *sides,
        said_value(difference, form),
        said_ends(difference, form),
        f"{difference.discordant:,}",
    )


def said_value(difference: Estimate, form: str) -> str:
    """Return a difference as `form` writes it; a ratio to a baseline without a hit has no value."""
    return "undefined" if math.isnan(difference.value) else form.format(difference.value)


def said_ends(difference: Estimate, form: str) -> str:
    """Return an interval as `form` writes its ends."""
    low, high = (form.format(end) if math.isfinite(end) else "no bound" for end in (difference.low, difference.high))
    return "not bounded" if low == high == "no bound" else f"{low} .. {high}"


def _notes(comparison: Comparison) -> list[RenderableType]:
    notes = said_names(comparison.differences, comparison.answers is not None)
    notes += said_origin(comparison.origin)
    if any(comparison.not_in_catalog):
        of_baseline, of_candidate = comparison.not_in_catalog
        notes.append(f"{missing(comparison)}: baseline {of_baseline}, candidate {of_candidate}")
    notes += in_history(comparison)
    baseline, candidate = comparison.unknown
    sides = {"": baseline} if baseline == candidate else {"Baseline: ": baseline, "Candidate: ": candidate}
    notes += [Text(f"{side}{line}") for side, unknown in sides.items() for line in unknown.lines()]
    for side, effect in zip(SIDES, comparison.said_caps, strict=False):
        notes += [Text(f"{side}: {line.strip()}") for line in effect.lines()]
    return notes


def _seen(excluded: bool) -> str:
    return "seen items excluded" if excluded else "seen items not excluded"


def missing(result: Comparison | Evaluation) -> str:
    """Return the words that go before a count of targets that a catalog lacks."""
    what = "Targets" if result.answers is None else "Rows with targets that are all"
    return f"{what} not in the catalog, counted as misses"


def in_history(comparison: Comparison | Evaluation) -> list[RenderableType]:
    """Say what excluding seen items costs these targets, or would cost them; nothing where that is not known."""
    return [] if comparison.in_history is None else [_in_history(comparison, comparison.in_history)]


def _in_history(comparison: Comparison | Evaluation, count: int) -> RenderableType:
    said = (
        f"{count:,} of the {comparison.targets:,} targets ({count / comparison.targets:.1%}) stand in their own history"
    )
    if comparison.exclude_seen and count:
        return warning(f"{said}, so that excluding seen items makes them misses for both: see --no-exclude-seen")
    if comparison.exclude_seen:
        return "No target stands in its own history: excluding seen items loses none"
    if count:
        return f"{said}: excluding seen items would lose them"
    return "No target stands in its own history: nobody comes back to an item here, see --exclude-seen"


def said_origin(origin: Origin | None) -> list[RenderableType]:
    """Return what a reader must know of where targets come from; nothing where that was not looked up."""
    return [] if origin is None else _origin(origin)


def _origin(origin: Origin) -> list[RenderableType]:
    notes: list[RenderableType] = [Text(origin.sample.line("users"))] if origin.sample else []
    if origin.users_left_out:
        notes.append(f"Users left out, as a single interaction leaves nothing to predict: {origin.users_left_out:,}")
    if any(origin.withdrawn.values()):
        counts = ", ".join(f"{name} {count:,}" for name, count in origin.withdrawn.items())
        notes.append(f"Targets that are withdrawn items, misses here while the floors may return them: {counts}")
    if not origin.warnings:
        notes.append("Catalog and training learned from none of the targets")
    return notes + [warning(sentence) for sentence in origin.warnings]


def warning(sentence: str) -> Text:
    """Return a line that begins with a word in colour."""
    return Text.assemble(("warning", "bold red"), f": {sentence}")


def _agreement(agreement: Agreement) -> str:
    return (
        f"Top-k overlap {agreement.overlap:.2%}, identical lists {agreement.identical:.2%}; "
        f"log-probabilities differ by {agreement.mean_drift:.2e} on average, {agreement.max_drift:.2e} at most"
    )


def _floors(comparison: Comparison) -> list[RenderableType]:
    """Return the floors' metrics below those of both sides, and in words whether the baseline beats them."""
    if not comparison.floors:
        return []
    sides = {"baseline": comparison.baseline, "candidate": comparison.candidate}
    return beside_floors("The baseline", sides, comparison.floors, comparison.verdict.metrics[0])


def beside_floors(
    who: str, sides: Mapping[str, Mapping[str, float]], floors: Mapping[str, Floor], metric: str
) -> list[RenderableType]:
    """Return a table of the metrics of `sides` and floors by item, and whether `who` beats each floor by `metric`."""
    table = Table("beside the floors", box=SIMPLE_HEAD, padding=0)
    names = list(next(iter(floors.values())).values)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for side, values in {**sides, **{FLOORS[name]: floor.values for name, floor in floors.items()}}.items():
        table.add_row(side, *(f"{values[name]:.4f}" for name in names))
    return [table, *(Text(said_lead(who, name, metric, floor.lead)) for name, floor in floors.items())]


def said_lead(who: str, floor: str, metric: str, lead: Estimate) -> str:
    """Return a sentence that says whether `who` beats a floor by `metric`."""
    word = "beats" if lead.low > 0 else ("is beaten by" if lead.high < 0 else "is level with")
    name = {"popularity": "popularity", "markov": "the Markov chain"}[floor]
    interval = f"95 % interval {said_ends(lead, '{:+.4f}')}"
    return f"{who} {word} {name}: {metric} {said_value(lead, '{:+.4f}')}, {interval}"


def _verdict(comparison: Comparison) -> Text:
    verdict = comparison.verdict
    said = f" at a margin of {percent(verdict.margin)}, by {' and '.join(verdict.metrics)}"
    if verdict.outcome == "inconclusive" and verdict.users_needed is None:
        said += f": the baseline has no hit in its top {comparison.k} to lose"
    elif verdict.outcome == "inconclusive":
        said += f": about {verdict.users_needed:,} users like these would decide it"
    return headline(verdict.outcome, said)
