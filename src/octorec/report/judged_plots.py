"""Draw how a verdict came about, and how a training went, in the style of `plots`."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from octorec.evaluate.paired import Estimate
from octorec.report.plots import COLOURS, MARKERS, STYLE, WIDTH, svg

ALLOWED, LOST = "#DDEFE4", "#F7DDD6"  # grounds on the two sides of the margin


def margin(differences: Mapping[str, Estimate], allowed: float) -> str:
    """Draw relative differences with their intervals, zero, and the loss `allowed` as the border of two grounds.

    An end that nothing bounds is drawn to the edge. It is small enough to stand beside words.
    """
    ends = [end for one in differences.values() for end in (one.low, one.value, one.high) if abs(end) < 1e9]
    low, high = min([-1.6 * allowed, *ends]), max([0.6 * allowed, *ends])
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(4.8, 1.05 + 0.34 * len(differences)), layout="constrained")
        axes = figure.subplots()
        axes.axvspan(low, -allowed, color=LOST, linewidth=0)
        axes.axvspan(-allowed, high, color=ALLOWED, linewidth=0)
        axes.axvline(0, color="#000000", linewidth=0.8)
        axes.axvline(-allowed, color="#000000", linewidth=1.4, linestyle="--")
        for row, one in enumerate(differences.values()):
            shown: Any = {"color": COLOURS[row % len(COLOURS)]}
            axes.plot([max(one.low, low), min(one.high, high)], [row, row], linewidth=2.4, **shown)
            axes.plot(one.value, row, MARKERS[row % len(MARKERS)], markersize=7, **shown)
        axes.set_yticks(range(len(differences)), list(differences))
        axes.set(xlim=(low, high), ylim=(len(differences) - 0.4, -0.6))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:+.3g} %" if x else "0")
        axes.set_xlabel(f"FP8 against BF16; dashed: the loss allowed, {100 * allowed:.4g} %", fontsize=9)
        return svg(figure)


def training(records: Sequence[Mapping[str, Any]], measured: str) -> str:
    """Draw the loss and a metric of validation, called `measured`, over the steps at which they were recorded."""
    panels = {"loss on a batch": "loss", f"{measured} on validation": measured}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = figure.subplots(1, 2)
        for index, (ax, (title, name)) in enumerate(zip(axes, panels.items(), strict=True)):
            points = [(record["step"], record[name]) for record in records if record.get(name) is not None]
            steps, values = zip(*points, strict=True) if points else ((), ())
            ax.plot(steps, values, MARKERS[index], linestyle="-", color=COLOURS[index], linewidth=1.8)
            ax.set(title=title, xlabel="step")
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return svg(figure)
