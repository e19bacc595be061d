"""Show people what the load tool found: a table, and latency and goodput against rate."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from rich.console import Group
from rich.table import Table

from octorec.report.plots import COLOURS, DASHES, MARKERS, STYLE, WIDTH

Row = dict[str, Any]
LATE_MS = 5.0  # a tool that sends later than this is the bottleneck itself


def render(rows: Sequence[Row]) -> Group:
    """Render a line for each rate; the times inside the server are medians."""
    columns = ("asked/s", "answered/s", "good/s", "within", "p50 ms", "p90", "p99", "queue", "device", "encode", "else")
    shown = [row for row in rows if "refused" not in row]
    if not shown:
        return Group(*_refused(rows))
    table = Table(*columns, "errors", title=f"good: within {shown[0]['bound_ms']:g} ms")
    for row in shown:
        errors = ", ".join(f"{count} x {name.replace('_', ' ')}" for name, count in row["errors"].items())
        rates = [_rate(row), f"{row['requests_per_s']:.1f}", f"{row['goodput_per_s']:.1f}"]
        latency = [_ms(row["e2el_ms"], name) for name in ("p50", "p90", "p99")]
        stages = [_ms(row[name], "p50") for name in ("queue_ms", "device_ms", "encode_ms")]
        table.add_row(*rates, "yes" if row["within"] else "no", *latency, *stages, _else(row), errors)
    return Group(table, *_said(shown), *_refused(rows))


def _refused(rows: Sequence[Row]) -> list[str]:
    return [f"refused: {_rate(row)} requests/s: {row['refused']}" for row in rows if "refused" in row]


def _said(rows: Sequence[Row]) -> list[str]:
    best = max((row["goodput_per_s"] for row in rows if row["within"]), default=None)
    said = [
        f"goodput: {best:g} requests/s with 99 % within {rows[0]['bound_ms']:g} ms"
        if best is not None
        else "no rate had 99 % of its requests within the bound"
    ]
    nonfinite = sum(row.get("nonfinite", 0) for row in rows)
    if nonfinite:
        said.append(f"the model gave {nonfinite} requests scores of NaN or infinity: its checkpoint is broken")
    if most := rows[0].get("capacity_per_s"):
        said.append(f"capacity: {most:g} requests/s, with as many on their way as it takes")
    busy = max(row.get("tool_busy", 0.0) for row in rows)
    said.append(f"the tool: {rows[0].get('processes', 1)} processes, the busiest took {busy:.0%} of a core")
    late = max(row["late_ms"].get("p99", 0.0) for row in rows)
    if late > LATE_MS:
        said.append(f"the tool itself sent up to {late:.0f} ms late (p99): part of these latencies is its own")
    return said


def draw(rows: Sequence[Row]) -> str:
    """Draw an SVG with two panels over the rate that was asked for."""
    shown = sorted((row for row in rows if row.get("answered")), key=_x)
    xs = [_x(row) for row in shown]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        latency, goodput = figure.subplots(1, 2)
        for at, name in enumerate(("p50", "p90", "p99")):
            latency.plot(xs, [row["e2el_ms"][name] for row in shown], **_look(at), label=name)
        if shown:
            latency.axhline(shown[0]["bound_ms"], color="#000000", linewidth=1.0, linestyle=":", label="bound")
        latency.set(ylabel="latency, ms", yscale="log")
        latency.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        latency.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        latency.yaxis.set_minor_formatter(NullFormatter())
        goodput.plot(xs, xs, color="#000000", linewidth=1.0, linestyle=":", label="all that was asked")
        goodput.plot(xs, [row["requests_per_s"] for row in shown], **_look(3), label="answered")
        goodput.plot(xs, [row["goodput_per_s"] for row in shown], **_look(4), label="within the bound")
        goodput.set(ylabel="requests/s", ylim=(0, None))
        for axes in (latency, goodput):
            axes.set(xlabel="requests/s asked", xlim=(0, None))
            axes.legend()
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _look(at: int) -> dict[str, Any]:
    return {"color": COLOURS[at], "linestyle": DASHES[at % len(DASHES)], "marker": MARKERS[at]}


def _x(row: Row) -> float:
    return row["requests_per_s"] if row["request_rate"] is None else row["request_rate"]


def _rate(row: Row) -> str:
    return f"{row['max_concurrency']} at once" if row["request_rate"] is None else f"{row['request_rate']:g}"


def _ms(found: dict[str, float], name: str) -> str:
    return f"{found[name]:.1f}" if found else ""


def _else(row: Row) -> str:
    """Return HTTP and network: the median outside the device less the medians of queue and encoding."""
    if not row["outside_device_ms"]:
        return ""
    return f"{row['outside_device_ms']['p50'] - row['queue_ms']['p50'] - row['encode_ms']['p50']:.1f}"
