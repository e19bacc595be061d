"""Draw plots of an A/B experiment: intervals at each look, and power against units."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from octorec.evaluate.online.experiment import Experiment, Metric
from octorec.evaluate.online.results import Effect, Look
from octorec.report.ab_signs import PLOT
from octorec.report.plots import COLOURS, DASHES, MARKERS, STYLE, WIDTH, as_label, svg

LONGEST = 40  # characters of a name in a plot
BESIDE = 0.012  # share of the shown days between the intervals of two variants at one look


def over_time(looks: Sequence[Look], experiment: Experiment, metric: Metric, started: float) -> Figure:
    """Draw a metric's difference and its interval at each look, by treatment, with zero and the margin as lines.

    An end that nothing bounds is drawn as an arrow at the edge. started: in seconds since 1970, where the axis begins.
    """
    days = [(look.time - started) / 86400 for look in looks]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0.0, color="#000000", linewidth=0.8)
        if metric.role == "guardrail":
            axes.axhline(_signed(metric), color="#000000", linewidth=1.4, linestyle="--", label="margin")
        edges = _range(looks, metric)
        axes.set(xlabel="days since the start", xlim=(0, 1.08 * max(*days, 1e-3)), ylim=edges)
        treatments = experiment.treatments
        for place, variant in enumerate(treatments):
            aside = (place - (len(treatments) - 1) / 2) * BESIDE * max(days)
            effects = [_effect(look, metric, variant) for look in looks]
            shown = [(day + aside, effect) for day, effect in zip(days, effects, strict=True) if effect is not None]
            _intervals(axes, shown, place, variant, edges)
        if metric.margin_kind == "relative":
            axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:+.3g} %" if y else "0")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        figure.legend(loc="outside upper left", ncols=6)
        return figure


def power_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], units: int | None) -> Figure:
    """Draw power against units in all, a line a metric: name -> (units, power).

    units: the plan's, marked where known.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
        axes = figure.subplots()
        for place, (name, (xs, ys)) in enumerate(curves.items()):
            axes.plot(xs, ys, color=_colour(place), linestyle=_dash(place), linewidth=1.8, label=_label(name))
        if units is not None:
            axes.axvline(units, color="#000000", linewidth=1.0, linestyle=":", label=f"plan: {units:,} units")
        axes.set(xlabel="units in all, of all variants", ylabel="power", ylim=(0, 1.02), xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:g} %")
        figure.legend(loc="outside upper left", ncols=3)
        return figure


def save(figure: Figure, path: Path) -> None:
    """Write a plot of power as its name's suffix says."""
    metadata: dict[str, Any] = {"Title": PLOT}
    with mpl.rc_context(STYLE):
        figure.savefig(path, dpi=150, metadata=metadata | ({"Date": None} if path.suffix == ".svg" else {}))


def as_svg(figure: Figure) -> str:
    """Return a figure as SVG whose words stay text."""
    with mpl.rc_context(STYLE):
        return svg(figure)


def _intervals(
    axes: Axes, shown: Sequence[tuple[float, Effect]], place: int, variant: str, edges: tuple[float, float]
) -> None:
    """Draw points with their intervals; a point that has no value is left out, its interval is not."""
    style: dict[str, Any] = {"color": _colour(place), "linewidth": 1.8}
    axes.plot([], [], marker=MARKERS[place], label=_label(variant), **style)
    for at, effect in shown:
        ends = [end if math.isfinite(end) else edge for end, edge in zip((effect.low, effect.high), edges, strict=True)]
        axes.plot([at, at], ends, **style)
        for end, edge, marker in zip((effect.low, effect.high), edges, ("v", "^"), strict=True):
            bounded = math.isfinite(end)
            axes.plot([at], [end if bounded else edge], marker="_" if bounded else marker, clip_on=False, **style)
        if math.isfinite(effect.value):
            axes.plot([at], [effect.value], marker=MARKERS[place], **style)


def _range(looks: Sequence[Look], metric: Metric) -> tuple[float, float]:
    """Return the range of the axis: it holds zero, the margin and all finite ends."""
    seen = [0.0, _signed(metric)]
    for look in looks:
        for effect in look.effects:
            if effect.metric == metric.name:
                seen += [end for end in (effect.low, effect.value, effect.high) if math.isfinite(end)]
    room = 0.08 * (max(seen) - min(seen)) or 0.01
    return min(seen) - room, max(seen) + room


def _signed(metric: Metric) -> float:
    return -metric.margin if metric.direction == "up" else metric.margin


def _effect(look: Look, metric: Metric, variant: str) -> Effect | None:
    return next((one for one in look.effects if (one.metric, one.variant) == (metric.name, variant)), None)


def _label(name: str) -> str:
    return as_label(name[:LONGEST])


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _dash(place: int) -> str:
    return DASHES[place % len(DASHES)]
