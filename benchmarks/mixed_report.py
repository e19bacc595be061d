"""What requests of several widths that arrive together take, before and after, as a table and a figure."""

from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.records import RESULTS
from benchmarks.rows import MixedRow, recorded
from benchmarks.speed_figure import Bars, svg
from benchmarks.speed_report import nothing, where
from benchmarks.tables import table
from octorec.report.plots import COLOURS, DASHES, MARKERS, STYLE, WIDTH, legend

FIGURE = RESULTS.parent / "docs" / "figures" / "mixed.svg"
DRAWN = "mixed"  # the traffic that the figure shows
Sides = dict[str, list[MixedRow]]  # before or after -> rows of all turns


def newest_run() -> list[MixedRow]:
    """The rows of the last run that has both sides."""
    runs: dict[str, list[MixedRow]] = {}
    for row in recorded("before_after.jsonl", MixedRow):
        runs.setdefault(row.run, []).append(row)
    whole = [rows for rows in runs.values() if {row.side for row in rows} == {"before", "after"}]
    return whole[-1] if whole else []


def _by_size(rows: list[MixedRow]) -> dict[tuple[str, int], Sides]:
    """The rows of all turns by traffic and number of requests, and then by side; those that have both."""
    found: dict[tuple[str, int], Sides] = {}
    for row in rows:
        found.setdefault((row.traffic, row.requests), {}).setdefault(row.side, []).append(row)
    return {key: sides for key, sides in found.items() if len(sides) == 2}


def _mean(rows: list[MixedRow]) -> float:
    return sum(row.device_ms for row in rows) / len(rows)


def mixed() -> str:
    """Device milliseconds of requests that arrive together, before and after; a figure of the mixed ones."""
    rows = newest_run()
    if not rows:
        return nothing("mixed")
    lines = []
    for (traffic, number), sides in _by_size(rows).items():
        before, after = sides["before"], sides["after"]
        times = [f"{_mean(before):.1f}", f"{_mean(after):.1f}", f"{_mean(before) / _mean(after):.2f}x"]
        hosts = [f"{min(row.p50_ms for row in one):.1f}" for one in (before, after)]
        lines.append([traffic, number, f"{after[0].live_rows:,.0f}", *times, *hosts, f"{after[0].batches:.1f}"])
    heads = ["traffic", "requests", "live rows", "before, ms", "after, ms", "", "p50 before, host to host", "p50 after"]
    link = f"![Milliseconds on the device against live rows, before and after](figures/{FIGURE.name})"
    return "\n\n".join([link, table([*heads, "batches after"], lines), _sides(rows), where(rows[0])])


def _sides(rows: list[MixedRow]) -> str:
    said = []
    for side in ("before", "after"):
        row = next(row for row in rows if row.side == side)
        said.append(f"{side} is {row.tree}, batch sizes {', '.join(map(str, row.batch_sizes))}")
    first = rows[0]
    return f"{first.preset} in {first.precision.upper()}, beam widths {first.beam_widths}; {'; '.join(said)}."


def lines_of(rows: list[MixedRow]) -> Bars:
    """Milliseconds on the device by live rows (as text), of the traffic that is drawn, for each side."""
    found: Bars = {"before": {}, "after": {}}
    for (traffic, _), sides in _by_size(rows).items():
        for side, line in found.items():
            if traffic == DRAWN:
                line[f"{sides['after'][0].live_rows:.0f}"] = round(_mean(sides[side]), 3)
    return found


def draw(lines: Bars) -> str:
    """An SVG of device milliseconds against live rows, a line a side."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        axes = figure.subplots()
        for number, (side, line) in enumerate(lines.items()):
            look: dict[str, Any] = {"color": COLOURS[number], "linestyle": DASHES[number], "marker": MARKERS[number]}
            axes.plot([float(at) for at in line], list(line.values()), label=side, linewidth=1.8, **look)
        axes.set(xlabel="live rows: beams of all requests that arrive together", ylabel="ms on the device")
        axes.set_ylim(0)
        axes.set_xlim(0)
        legend(figure, [axes])
        return svg(figure, lines)
