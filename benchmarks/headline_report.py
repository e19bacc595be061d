"""The rows of the newest `headline` as a table, as sentences, and as one figure of what bounds a batch."""

from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.records import RESULTS
from benchmarks.rows import HeadlineBatch, HeadlineBounds, HeadlineBoundsFailure, HeadlineFailure, recorded
from benchmarks.rows.engine import HeadlineRow
from benchmarks.speed_figure import HATCHES, Bars, svg
from benchmarks.speed_report import nothing, where
from benchmarks.tables import table
from octorec.report.plots import COLOURS, STYLE, WIDTH

FIGURE = RESULTS.parent / "docs" / "figures" / "bounds.svg"
BOUNDS = {"memory": "waits for memory", "arithmetic": "bound by arithmetic", "unknown": "not told"}
REFUSED = ("stock graph", "fp16")  # torch cannot compile or capture its grouped product in FP16
PRECISION = {"fp16": "FP16", "bf16": "BF16", "fp8": "FP8"}


def newest_run() -> list[HeadlineRow]:
    """The rows of the run that ended last and measured every batch it set out to, but those that torch cannot run."""
    runs: dict[str, list[HeadlineRow]] = {}
    for row in recorded("headline.jsonl", HeadlineRow):
        runs.setdefault(row.run, []).append(row)
    whole = [rows for rows in runs.values() if batches(rows) and not any(failed(row) for row in rows)]
    return whole[-1] if whole else []


def batches(rows: list[HeadlineRow]) -> dict[tuple[str, str], HeadlineBatch]:
    """The measured batches by system and precision."""
    return {(row.system, row.precision): row for row in rows if isinstance(row, HeadlineBatch)}


def failed(row: HeadlineRow) -> bool:
    """Whether a row is missing that torch could have given."""
    return isinstance(row, HeadlineFailure | HeadlineBoundsFailure) and (row.system, row.precision) != REFUSED


def not_run(rows: list[HeadlineRow]) -> str:
    """What torch itself refused, in its words; empty where it ran everything."""
    return " ".join(
        f"{called(row)} is missing: torch {row.environment.torch.split('+')[0]} refuses it "
        f'("{row.error.split(". ")[0]}").'
        for row in rows
        if isinstance(row, HeadlineFailure | HeadlineBoundsFailure)
    )


def called(row: HeadlineBatch | HeadlineFailure | HeadlineBounds | HeadlineBoundsFailure) -> str:
    return f"{row.system.replace('octorec', 'OctoRec')}, {PRECISION[row.precision]}"


def headline() -> str:
    """Stock PyTorch beside our engine in FP16, BF16 and FP8, how the gain divides, and what bounds the time."""
    rows = newest_run()
    if not rows:
        return nothing("headline")
    found = batches(rows)
    cells = [
        [called(row), f"{row.ms_per_batch:.1f}", f"{row.requests_per_s:.0f}", f"{row.mfu:.0%}", f"{row.p50_ms:.1f}"]
        for row in sorted(found.values(), key=lambda row: row.requests_per_s)
    ]
    heads = ["one batch of 32, 512 beams", "ms", "requests/s", "share of peak", "p50 ms, host to host"]
    said = [gains(found), bounded(rows), not_run(rows), where(next(iter(found.values())))]
    return "\n\n".join([table(heads, cells), *filter(None, said)])


def gains(found: dict[tuple[str, str], HeadlineBatch]) -> str:
    """How the way from stock FP16 to our FP8 divides into our stack and into FP8."""
    ms = {key: row.ms_per_batch for key, row in found.items()}
    stock, ours, eight = ms["stock eager", "fp16"], ms["octorec", "fp16"], ms["octorec", "fp8"]
    graph, sixteen = ms["stock graph", "bf16"], ms["octorec", "bf16"]
    return (
        f"From stock FP16 to OctoRec in FP8: **{stock / eight:.2f}x**, of it {stock / ours:.2f}x by our stack at FP16 "
        f"and **{ours / eight:.2f}x by FP8** at equal fusion ({sixteen / eight:.2f}x over our BF16). Over stock BF16 "
        f"compiled into one graph: {graph / eight:.2f}x, of it {graph / sixteen:.2f}x by our stack."
    )


def bounded(rows: list[HeadlineRow]) -> str:
    """What share of a batch's kernels waits for memory, before and after fusion."""
    said = []
    for system, parts in bars(rows).items():
        said.append(f"{system} {parts[BOUNDS['memory']] / sum(parts.values()):.0%} of {sum(parts.values()):.0f} ms")
    share = "Share of the time in kernels (profiled, without the pauses between them) that waits for memory"
    return f"{share}: {'; '.join(said)}."


def bars(rows: list[HeadlineRow]) -> Bars:
    """Milliseconds of a batch: system -> what bounds its kernels -> ms."""
    return {called(row): _parts(row) for row in rows if isinstance(row, HeadlineBounds)}


def _parts(row: HeadlineBounds) -> dict[str, float]:
    parts = {"memory": row.memory_ms, "arithmetic": row.arithmetic_ms, "unknown": row.unknown_ms}
    return {BOUNDS[by]: ms for by, ms in parts.items() if ms or by != "unknown"}


def draw(rows: list[HeadlineRow]) -> str:
    """An SVG with one bar a system, divided by what bounds its kernels."""
    found = bars(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.3 + 0.4 * len(found)), layout="constrained")
        axes = figure.subplots()
        for at, parts in enumerate(found.values()):
            left = 0.0
            for number, (name, value) in enumerate(parts.items()):
                look: dict[str, Any] = {"color": COLOURS[number], "hatch": HATCHES[number], "edgecolor": "#FFFFFF"}
                axes.barh(at, value, 0.72, left, label=name if at == 0 else None, **look)
                left += value
            said = f"{left:.0f} ms, {parts[BOUNDS['memory']] / left:.0%} waits for memory"
            axes.annotate(said, (left, at), (3, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set_yticks(range(len(found)), list(found))
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlim(0, 1.45 * max(sum(parts.values()) for parts in found.values()))
        axes.grid(axis="y", visible=False)
        axes.set(
            xlabel="ms in kernels, one batch of 32 requests with 512 beams",
            title=f"What bounds a batch, {rows[0].environment.card}",
        )
        axes.legend(loc="lower right")
        return svg(figure, found)
