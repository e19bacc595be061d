"""Draw plots as SVG texts for reports: legible in print, in grey and to the colour-blind.

Colours are Okabe and Ito's; line styles and markers differ too, so that nothing hangs on colour alone.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from octorec.errors import one_line

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
ROLES = (  # look alike in every figure
    "attention", "ffn", "expert", "router", "embedding", "context", "head", "norm", "cross", "mlp", "other"
)  # fmt: skip
WIDTH = 8.0  # inches
LONGEST = 400  # characters of a name
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, searchable
    "svg.hashsalt": "octorec",  # the same figure is the same file
}


def magnitudes(series: Mapping[str, Sequence[int]], what: str) -> str:
    """Draw a histogram of magnitudes: the share of values in each power of two, from `Distribution.octaves` by name."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = _figure(1, height=3.6)
        low, high = _used([counts[1:] for counts in series.values()])
        for index, (name, counts) in enumerate(series.items()):
            shares = [counts[e + 127] / max(sum(counts), 1) for e in range(low, high + 1)]
            line = {**_line(name, index), "linewidth": 1.8}
            line.pop("marker")
            axes.stairs([share or float("nan") for share in shares], range(low, high + 2), baseline=None, **line)
        if any(sum(counts[1:]) for counts in series.values()):
            axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:g} %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.xaxis.set_major_formatter(lambda x, _: f"$2^{{{int(x)}}}$")
        axes.set(xlabel=f"magnitude of {what}", ylabel="share of values")
        legend(figure, [axes])
        return svg(figure)


def absmax_by_block(panels: Mapping[str, Mapping[str, Mapping[int, float]]]) -> str:
    """Draw the largest magnitude in each block on a log axis: panel title -> role -> block -> value."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(len(panels), height=3.4)
        for ax, (title, lines) in zip(axes, panels.items(), strict=True):
            for index, (role, values) in enumerate(lines.items()):
                ax.plot(list(values), list(values.values()), **_line(role, index))
            if any(value > 0 for values in lines.values() for value in values.values()):
                ax.set_yscale("log")
                low, high = ax.get_ylim()
                ax.set_ylim(low / 1.5, high * 1.5)  # room for at least two labels
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set(title=title, xlabel="block", ylabel="absmax")
        legend(figure, axes)
        return svg(figure)


def dots(
    names: Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[float | None]]],
    start: float = 0.0,
    percent: bool = False,
) -> str:
    """Draw a row for each name and a dot for each series, in panels beside each other: errors or SQNR per layer.

    panels: the axis' label -> series -> a value for each name; None, NaN and infinity are no dot. The axes begin at
    `start`, or below it where values do, so that small differences look small. percent: values are shares, shown in per
    cent.
    """
    names = list(map(as_label, names))
    with mpl.rc_context(STYLE):
        figure, axes = _figure(len(panels), height=1.1 + 0.2 * len(names))
        figure.set_figwidth(max(WIDTH, 0.09 * max(map(len, names), default=0) + 2.5 * len(panels)))  # names are whole
        for index, (ax, (label, series)) in enumerate(zip(axes, panels.items(), strict=True)):
            for at, (name, values) in enumerate(series.items()):
                xs = [math.nan if value is None or not math.isfinite(value) else value for value in values]
                style: dict[str, Any] = {"marker": MARKERS[at % len(MARKERS)], "color": COLOURS[at % len(COLOURS)]}
                ax.plot(xs, range(len(names)), linestyle="", markersize=5.5, alpha=0.9, label=name, **style)
            ax.set_yticks(range(len(names)), names if index == 0 else [""] * len(names))
            ax.set_ylim(len(names) - 0.4, -0.6)
            ax.set_xlabel(label)
            every = [value for values in series.values() for value in values if value is not None]
            found = [value for value in every if math.isfinite(value)]
            low, high = min([start, *found]), max([start, *found])
            ax.set_xlim(low, high + 0.04 * (high - low or 1))
            if percent:
                ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:g} %")
        legend(figure, axes)
        return svg(figure)


def intervals(panels: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> str:
    """Draw means with confidence intervals: panel title (a metric) -> system -> (low, mean, high)."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(len(panels), height=1.2 + 0.36 * max(len(rows) for rows in panels.values()))
        for index, (ax, (title, rows)) in enumerate(zip(axes, panels.items(), strict=True)):
            for row, (low, mean, high) in enumerate(rows.values()):
                style: dict[str, Any] = {"fmt": MARKERS[row % len(MARKERS)], "color": COLOURS[row % len(COLOURS)]}
                ax.errorbar(mean, row, xerr=[[mean - low], [high - mean]], capsize=4, linewidth=1.8, **style)
                ax.annotate(f"{mean:.4f}", (mean, row), (0, 6), textcoords="offset points", ha="center", fontsize=8.5)
            ax.set_yticks(range(len(rows)), list(rows) if index == 0 else [""] * len(rows))
            ax.set_ylim(len(rows) - 0.4, -0.8)
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.set(title=title, xlabel="mean and 95 % interval")
        return svg(figure)


def roofline(points: Mapping[str, tuple[float, float]], roofs: Mapping[str, float], bandwidth: float) -> str:
    """Draw the attainable rate over intensity, both on log axes.

    points: name -> (FLOP/byte, FLOP/s). roofs: a type's name -> peak FLOP/s. bandwidth: bytes/s.
    """
    with mpl.rc_context(STYLE):
        figure, (axes,) = _figure(1, height=4.6)
        ridge = max(roofs.values()) / bandwidth
        low = min([0.5, *(x / 2 for x, _ in points.values())])
        high = max([8 * ridge, *(2 * x for x, _ in points.values())])
        for index, (name, peak) in enumerate(roofs.items()):
            xs = [low, peak / bandwidth, high]
            ys = [min(x * bandwidth, peak) / 1e12 for x in xs]
            axes.plot(xs, ys, color="#000000", linestyle=DASHES[index % len(DASHES)], linewidth=1.4, label=name)
        for index, (name, (x, y)) in enumerate(points.items()):
            style = {**_line(name, index), "linestyle": ""}
            axes.plot(x, y / 1e12, markersize=9, alpha=0.9, **style)
        axes.set(xscale="log", yscale="log", xlabel="FLOP per byte, in 16 bit", ylabel="attainable TFLOP/s")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        figure.legend(loc="outside upper left", ncols=3)
        return svg(figure)


def _figure(panels: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _line(name: str, index: int) -> dict[str, Any]:
    """Return the style of the line called `name`, the index-th of its figure."""
    at = ROLES.index(name) if name in ROLES else index
    turn = at // len(COLOURS)  # a colour that comes again has another dash and another marker
    dash, marker = DASHES[(at + turn) % len(DASHES)], MARKERS[(at + 3 * turn) % len(MARKERS)]
    return {"label": as_label(name), "color": COLOURS[at % len(COLOURS)], "linestyle": dash, "marker": marker}


def as_label(name: str) -> str:
    """Return a name that strangers gave, as matplotlib shows it: between two dollar signs it would read mathematics."""
    return one_line(name, LONGEST).replace("$", r"\$")


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw one legend above all panels."""
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=min(len(handles), 7))


def _used(octaves: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Return the lowest and the highest power of two that any value reaches; octaves begin at 2^-126."""
    present = [index for counts in octaves for index, count in enumerate(counts) if count]
    return (min(present) - 126, max(present) - 126) if present else (-1, 0)


def svg(figure: Figure) -> str:
    """Return a figure as SVG; the same figure gives the same text."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
