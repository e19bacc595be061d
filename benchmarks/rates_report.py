"""Requests a second against k as a table and one figure, and what `auto` would take as a composed table."""

import math
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from benchmarks.composed import KS, Composed, compose, shares
from benchmarks.records import RESULTS
from benchmarks.rows import PolicyRow, RateRow, recorded
from benchmarks.speed_figure import Bars, svg
from benchmarks.speed_report import commits, nothing, where
from benchmarks.tables import newest, table
from octorec.engine.widths import Width, shown
from octorec.report.plots import COLOURS, MARKERS, STYLE, WIDTH

FIGURE = RESULTS.parent / "docs" / "figures" / "rates.svg"
WIDEST = 512
PRECISIONS = ("fp8", "bf16")
POLICIES: dict[Width, str] = {(128, 256, 512): "128-256-512", WIDEST: "512 beams"}
AUTO = "auto (composed)"
COMPARED = {"octorec", "stock graph"}  # systems without which a run is not whole


def newest_run() -> list[RateRow]:
    """The rows of the last run that measured our widest beams in both precisions and those of stock PyTorch."""
    runs: dict[str, list[RateRow]] = {}
    for row in recorded("policies.jsonl", RateRow):
        runs.setdefault(row.run, []).append(row)
    whole = [rows for rows in runs.values() if {row.system for row in rows} >= COMPARED and _both(rows)]
    return whole[-1] if whole else []


def _both(rows: Iterable[RateRow]) -> bool:
    widest = {row.precision for row in rows if row.system == "octorec" and row.beam_width == WIDEST and row.k == WIDEST}
    return widest == set(PRECISIONS)


def starts(rows: Iterable[RateRow], precision: str) -> dict[int, Composed]:
    """What `auto` would take in one precision, by k, from the times of the same run."""
    found = {}
    for k in KS:
        ours = [row for row in rows if (row.system, row.precision, row.k) == ("octorec", precision, k)]
        ms = {row.beam_width: row.ms_per_batch / row.batch for row in ours if isinstance(row.beam_width, int)}
        certified = shares(precision, k)
        if certified.keys() & ms.keys():
            found[k] = compose(certified, ms)
    return found


def series(rows: list[RateRow]) -> Bars:
    """Requests a second: what was asked, then k (as text) -> rate."""
    lines: Bars = {}
    for precision in PRECISIONS:
        ours = f"OctoRec {precision.upper()}"
        composed = starts(rows, precision)
        lines[f"{ours}, {AUTO}"] = {str(k): round(one.requests_per_s, 1) for k, one in composed.items()}
        for width, name in POLICIES.items():
            lines[f"{ours}, {name}"] = _rates(rows, "octorec", precision, width)
    others = dict.fromkeys((row.precision, row.beam_width) for row in rows if row.system == "stock graph")
    for precision, width in others:
        lines[f"stock {precision.upper()}, {shown(width)} beams"] = _rates(rows, "stock graph", precision, width)
    return {name: line for name, line in lines.items() if line}


def _rates(rows: Iterable[RateRow], system: str, precision: str, width: Width) -> dict[str, float]:
    same = [row for row in rows if (row.system, row.precision, row.beam_width) == (system, precision, width)]
    return {str(row.k): row.requests_per_s for row in sorted(same, key=lambda row: row.k)}


def rates() -> str:
    """A figure and a table of the newest run: what was asked, a column a k."""
    rows = newest_run()
    found = series(rows)
    if not found:
        return nothing("rates")
    lines = [[name, *(f"{line[str(k)]:,.0f}" if str(k) in line else "" for k in KS)] for name, line in found.items()]
    link = f"![Requests a second against k, by policy](figures/{FIGURE.name})"
    heads = [f"requests/s, batches of {rows[0].batch}", *(f"k {k}" for k in KS)]
    return "\n\n".join([link, table(heads, lines), _said(rows), where(rows[0])])


def _said(rows: list[RateRow]) -> str:
    begins = "; ".join(
        f"{precision.upper()} begins with " + ", ".join(f"{one.begins} at k {k}" for k, one in found.items())
        for precision in PRECISIONS
        if (found := starts(rows, precision))
    )
    return (
        "Compare within a column: each is one k. *Composed* is no measurement: shares that [the calibrated 0.5B]"
        "(exact.md) certifies, times what each width takes here, every repeat counted as the widest beams. "
        f"`auto` in {begins}. Stock PyTorch is compiled into one CUDA graph and has no item trie; it was asked for the "
        "same k, on which its time does not depend."
    )


def draw(lines: Bars) -> str:
    """An SVG with a line a policy, precision and system over k."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        axes = figure.subplots()
        alike = list(dict.fromkeys(map(_policy, lines)))  # of both precisions in one colour
        for name, line in lines.items():
            at = alike.index(_policy(name))
            look: dict[str, Any] = {"color": COLOURS[at], "marker": MARKERS[at], "linewidth": 1.8}
            look |= {"linestyle": "--", "markerfacecolor": "#FFFFFF"} if "BF16" in name else {}
            axes.plot([int(k) for k in line], list(line.values()), label=name, **look)
        axes.set(xscale="log", yscale="log", xlabel="k, items asked for", ylabel="requests/s")
        axes.set_xticks(KS, [str(k) for k in KS])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        ticks = [rate for rate in (100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000) if _near(rate, lines)]
        axes.set_yticks(ticks)
        figure.legend(loc="outside upper left", ncols=2)
        return svg(figure, lines)


def _policy(name: str) -> str:
    """The name of a line without its precision."""
    return name.replace(" FP8", "").replace(" BF16", "")


def _near(rate: float, lines: Bars) -> bool:
    every = [value for line in lines.values() for value in line.values()]
    return min(every) / 1.5 <= rate <= 1.5 * max(every)


def composed() -> str:
    """What `auto` would take of the MoE, by k and batch, from the newest row of each bucket."""
    found = newest(recorded("policies.jsonl", PolicyRow), lambda row: (row.precision, row.batch, row.beam_width))
    lines: list[list[Any]] = []
    for precision in PRECISIONS:
        rows = [row for row in found if row.precision == precision and isinstance(row.beam_width, int)]
        lines += [line for k in KS for line in _composed_lines(rows, precision, k)]
    if not lines:
        return nothing("policies")
    heads = ["k", "precision", "requests a batch", "begins with", "certified there", "requests/s, composed"]
    here = found[-1].environment
    times = f"Times: {here.card}, torch {here.torch}, `python -m benchmarks.policies`, {commits(found)}."
    return f"{table(heads, sorted(lines, key=lambda line: line[0]))}\n\n{times}"


def _composed_lines(rows: list[PolicyRow], precision: str, k: int) -> list[list[Any]]:
    """A line a batch size: that of the widest beams, and larger ones that take less a request."""
    certified, lines, least = shares(precision, k), list[list[Any]](), math.inf
    widest = next((row for row in rows if (row.batch, row.beam_width) == (32, WIDEST)), None)
    if widest is None:
        return []
    for batch in sorted({row.batch for row in rows if row.batch >= widest.batch}):
        ms = {int(str(row.beam_width)): row.ms_per_batch / batch for row in rows if row.batch == batch}
        ms[WIDEST] = widest.ms_per_batch / widest.batch
        if not certified.keys() & ms.keys():
            continue
        one = compose(certified, ms)
        if one.ms < least:
            least, certain = one.ms, f"{one.certified:.1%}"
            lines.append([k, precision.upper(), batch, one.begins, certain, f"{one.requests_per_s:,.0f}"])
    return lines
