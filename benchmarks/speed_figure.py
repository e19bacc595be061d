"""Requests a second by system, drawn from the rows of `engine`; the figure carries the data it was drawn from."""

import html
import io
import json
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from octorec.report.plots import COLOURS, STYLE, WIDTH

Bars = dict[str, dict[str, float]]  # shape -> system -> requests a second
HATCHES = ("", "//", "..", "xx", "\\\\", "++")  # so that nothing hangs on colour alone


def draw(bars: Bars) -> str:
    """An SVG with a panel a shape and a bar a system, each panel with an axis of its own."""
    systems = list(dict.fromkeys(system for panel in bars.values() for system in panel))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(systems)), layout="constrained")
        for index, (axes, (shape, panel)) in enumerate(
            zip(figure.subplots(1, len(bars), squeeze=False)[0], bars.items(), strict=True)
        ):
            for at, system in enumerate(systems):
                value = panel.get(system, 0)
                look = {"color": COLOURS[at], "hatch": HATCHES[at], "edgecolor": "#FFFFFF", "height": 0.72}
                axes.barh(at, value, **look)
                said = f"{value:.0f}" if system in panel else "not measured"
                axes.annotate(said, (value, at), (3, 0), textcoords="offset points", va="center", fontsize=8.5)
            axes.set_yticks(range(len(systems)), systems if index == 0 else [""] * len(systems))
            axes.set_ylim(len(systems) - 0.4, -0.6)
            axes.set_xlim(0, 1.28 * max(panel.values()))
            axes.grid(axis="y", visible=False)
            axes.set(title=shape, xlabel="requests/s")
        return svg(figure, bars)


def svg(figure: Figure, data: Bars) -> str:
    """The figure as SVG that carries its data; the same figure gives the same text."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Description": json.dumps(data)})
    text = file.getvalue()
    return text[text.index("<svg") :]


def data_of(svg: str) -> Bars:
    """What a figure was drawn from."""
    found = re.search(r"<dc:description>(.*?)</dc:description>", svg, re.S)
    return json.loads(html.unescape(found[1])) if found else {}
