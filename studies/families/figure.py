"""Models side by side in one figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from octorec.report.plots import COLOURS, MARKERS, STYLE, WIDTH, legend, svg


def draw_families(
    columns: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], marks: Mapping[str, Mapping[str, float]]
) -> str:
    """Models side by side on log axes: model -> measure -> `weights`, `inputs` -> a value a matrix, in their order.

    A row of panels a measure, with one axis for all models. marks: measure -> what a line says -> its value.
    """
    measures = list(next(iter(columns.values())))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.1 * len(measures) + 0.6), layout="constrained")
        grid = figure.subplots(len(measures), len(columns), sharey="row", squeeze=False)
        for axes, measure in zip(grid, measures, strict=True):
            for ax, (model, panels) in zip(axes, columns.items(), strict=True):
                for at, (name, values) in enumerate(panels[measure].items()):
                    shown = [value if value > 0 else float("nan") for value in values]
                    style: dict[str, Any] = {"marker": MARKERS[at], "color": COLOURS[at], "alpha": 0.8, "label": name}
                    ax.plot(range(1, len(shown) + 1), shown, linestyle="", markersize=3.5, **style)
                for said, value in marks.get(measure, {}).items():
                    ax.axhline(value, color="#000000", linewidth=1.0, linestyle=":")
                    if ax is axes[-1]:  # beside the last panel: a label inside would lie over points
                        where: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "va": "center", "fontsize": 7}
                        ax.annotate(said, (1.03, value), **where)
                ax.set_yscale("log")
                ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
                if measure == measures[0]:
                    ax.set_title(model, fontsize=9)
                if measure == measures[-1]:
                    ax.set_xlabel("matrix, first to last", fontsize=9)
            axes[0].set_ylabel(measure)
        legend(figure, [*grid.flat])
        return svg(figure)
