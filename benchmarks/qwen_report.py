"""The rows of the Qwen benchmarks as tables, and one figure: ms of a batch against beams, and against tokens."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from benchmarks.qwen_goals import FP8, HEADS, called, goal_lines, wanted_of
from benchmarks.records import RESULTS
from benchmarks.rows import recorded
from benchmarks.rows.qwen import QwenParityRow
from benchmarks.rows.qwen_speed import ProbeRow, QwenRunRow, QwenSpeedFailure, QwenSpeedRow, QwenStepRow, QwenWanted
from benchmarks.speed_figure import Bars, svg
from benchmarks.speed_report import nothing, where
from benchmarks.tables import newest, table
from octorec.report.plots import COLOURS, MARKERS, STYLE, WIDTH

FIGURE = RESULTS.parent / "docs" / "figures" / "qwen.svg"
SPEED, STEPS, KERNELS, OVERLAP = (f"qwen_{name}.jsonl" for name in ("speed", "ablation", "kernels", "overlap"))
LINES = {  # of the figure: system and precision
    ("octorec", "fp8"): "OctoRec FP8", ("octorec", "bf16"): "OctoRec BF16",
    ("stock graph", "fp8"): "stock FP8", ("stock graph", "bf16"): "stock BF16",
}  # fmt: skip
PANELS = "beams", "tokens"


def speed_rows() -> list[QwenSpeedRow]:
    """The newest row of each batch, of the card that was measured last."""
    rows = recorded(SPEED, QwenSpeedRow)
    return newest([row for row in rows if row.environment.gpu == rows[-1].environment.gpu], wanted_of)


def goals() -> str:
    """Goals beside the newest rows."""
    rows = speed_rows()
    if not (lines := goal_lines(rows)):
        return nothing("qwen_speed --quick")
    return table([*HEADS[:1], f"ms, {rows[-1].environment.card}", *HEADS[2:]], lines) + "\n\n" + where(rows[-1])


def speed() -> str:
    """Every shape of ours, FP8 beside BF16."""
    found = {wanted_of(row): row for row in speed_rows() if row.system == "octorec"}
    lines = []
    for wanted, row in found.items():
        if wanted.precision == "bf16":
            continue
        other = found.get(QwenWanted(**{**vars(wanted), "precision": "bf16"}))
        mine = f"{row.ms_per_batch:.1f}", f"{row.requests_per_s:.0f}", f"{row.mfu:.0%}", f"{row.p50_ms:.1f}"
        theirs = (f"{other.ms_per_batch:.1f}", f"{other.mfu:.0%}") if other else ("", "")
        gain = f"{other.ms_per_batch / row.ms_per_batch:.2f}x" if other else ""
        lines.append((_order(wanted), [called(wanted), *mine, *theirs, gain]))
    if not lines:
        return nothing("qwen_speed")
    columns = ["batch", "ms", "requests/s", "MFU", "p50 ms, host to host", "BF16 ms", "MFU", "FP8 over BF16"]
    ordered = [cells for _, cells in sorted(lines, key=lambda each: each[0])]
    return table(columns, ordered) + "\n\n" + where(speed_rows()[-1])


def _order(row: QwenWanted) -> tuple[Any, ...]:
    return row.model, row.context, -row.beam, -row.batch, row.lengths, row.prefix, row.precision


def beside() -> str:
    """All systems of the last run that measured stock PyTorch, those that failed too."""
    rows: list[QwenRunRow] = [*recorded(SPEED, QwenSpeedRow), *recorded(SPEED, QwenSpeedFailure)]
    if (run := _with_stock(rows)) is None:
        return nothing("qwen_stock")
    mine = sorted((row for row in rows if row.run == run), key=lambda row: (_order(row)[:4], row.system))
    lines = [[called(row), row.system.replace("octorec", "OctoRec"), *_result(row)] for row in mine]
    return table(["batch", "system", "ms", "requests/s", "MFU"], lines) + "\n\n" + where(mine[-1])


def _with_stock(rows: Iterable[QwenRunRow]) -> str | None:
    """The last run that measured stock PyTorch."""
    return max((row.run for row in rows if row.system.startswith("stock")), default=None)


def line() -> str:
    """The main shape of that run, for docs/numbers.md: each system and precision that answered."""
    rows = recorded(SPEED, QwenSpeedRow)
    if (run := _with_stock(rows)) is None:
        return nothing("qwen_stock")
    shape = FP8.batch, FP8.beam, FP8.context
    mine = [row for row in rows if row.run == run and (row.batch, row.beam, row.context) == shape]
    mine = [row for row in mine if "no trie" not in row.system]
    cells = [
        [
            f"{row.model.upper()}, {row.system.replace('octorec', 'OctoRec')}, {row.precision.upper()}",
            f"{row.ms_per_batch:.1f}",
            f"{row.requests_per_s:.0f}",
            f"{row.mfu:.0%}",
        ]
        for row in sorted(mine, key=lambda row: (row.model, -row.ms_per_batch))
    ]
    head = f"Qwen3, {FP8.batch} requests of {FP8.context:,} tokens, {FP8.beam} beams"
    return f"{table([head, 'ms a batch', 'requests/s', 'share of peak'], cells)}\n\n{where(mine[-1])}"


def _result(row: QwenRunRow) -> list[str]:
    if isinstance(row, QwenSpeedRow):
        return [f"{row.ms_per_batch:.1f}", f"{row.requests_per_s:.1f}", f"{row.mfu:.0%}"]
    assert isinstance(row, QwenSpeedFailure)
    return ["out of memory" if "OutOfMemory" in row.error else row.error.partition(":")[0], "", ""]


def ablation() -> str:
    """The steps of the last run: what their kernels take."""
    rows = recorded(STEPS, QwenStepRow)
    mine = [row for row in rows if row.run == rows[-1].run]
    if not mine:
        return nothing("qwen_ablation")
    lines, before = [], None
    for row in mine:
        spent = row.ms_per_batch if row.kernels_ms is None else row.kernels_ms
        saved = "" if before is None else f"{before - spent:+.1f}"
        lines.append([row.system, row.precision, f"{spent:.1f}", saved, f"{row.ms_per_batch:.1f}"])
        before = spent
    return (
        table(["one more a row", "weights", "ms in kernels", "saved", "ms a batch"], lines) + "\n\n" + where(mine[-1])
    )


def kernels() -> str:
    """Ours at each operation and shape, and the fastest of the other ways that do all of the work."""
    rows = newest(recorded(KERNELS, ProbeRow), lambda row: (row.operation, row.model, row.shape, row.by, row.precision))
    groups: dict[tuple[str, str, str], list[ProbeRow]] = {}
    for row in rows:
        groups.setdefault((row.operation, row.model, row.shape), []).append(row)
    lines = [[*key, *_fastest(found)] for key, found in groups.items()]
    if not lines:
        return nothing("attention_probe")
    columns = ["operation", "model", "shape", "ours, us", "TFLOP/s", "GB/s", "fastest other", "us"]
    return table(columns, lines) + "\n\n" + where(rows[-1])


def _fastest(rows: Sequence[ProbeRow]) -> list[str]:
    ours = min((row for row in rows if _is_ours(row)), key=lambda row: row.us)
    others = [row for row in rows if not row.by.startswith(("ours", "by the table", "tried")) and row.error is not None]
    best = min(others, key=lambda row: row.us, default=None)
    mine = [f"{ours.us:.1f} ({ours.by}, {ours.precision})", f"{ours.tflops:.0f}", f"{ours.gb_s:.0f}"]
    return [*mine, *(("", "") if best is None else (f"{best.by}, {best.precision}", f"{best.us:.1f}"))]


def _is_ours(row: ProbeRow) -> bool:
    return row.by.startswith("ours") or row.by == "by the table"


def overlap() -> str:
    """What share of transformers' beams in BF16 each side has, of the last run."""
    rows = recorded(OVERLAP, QwenParityRow)
    mine = [row for row in rows if row.run == rows[-1].run]
    if not mine:
        return "Not measured yet: `python -m studies.qwen.overlap`."
    widths = sorted({row.beam_width for row in mine})
    lines = []
    for one in dict.fromkeys(row.one for row in mine):
        shared = {row.beam_width: row.overlap for row in mine if row.one == one}
        lines.append([one, *(f"{shared[width]:.2%}" if width in shared else "" for width in widths)])
    said = f"{mine[-1].model}, {mine[-1].prompts} prompts. {where(mine[-1])}"
    heads = [f"beams shared with {mine[-1].other}", *(f"{width} beams" for width in widths)]
    return table(heads, lines) + "\n\n" + said


def figure() -> str:
    """The figure, once there is one."""
    return f"![ms of a batch against beams and tokens](figures/{FIGURE.name})" if lines() else nothing("qwen_speed")


def lines() -> Bars:
    """ms of 8 requests of the 1.7B: a line of a panel -> beams or tokens (as text) -> ms; none without our FP8."""
    found: Bars = {}
    rows = [row for row in speed_rows() if (row.model, row.batch, row.lengths, row.prefix) == _DRAWN]
    for key, name in LINES.items():
        mine = [row for row in rows if (row.system, row.precision) == key]
        against = (
            {str(row.beam): row.ms_per_batch for row in _ascending(mine) if row.context == 1000},
            {str(row.context): row.ms_per_batch for row in _ascending(mine) if row.beam == 256},
        )
        found |= {f"{panel}: {name}": line for panel, line in zip(PANELS, against, strict=True) if len(line) > 1}
    return found if f"{PANELS[0]}: OctoRec FP8" in found else {}


_DRAWN = ("1.7b", 8, "equal", "off")


def _ascending(rows: Iterable[QwenSpeedRow]) -> list[QwenSpeedRow]:
    return sorted(rows, key=lambda row: (row.context, row.beam))


def draw(found: Bars) -> str:
    """An SVG with a panel against beams and one against tokens, a line a system and precision."""
    names = [*LINES.values()]
    with mpl.rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        for panel, axes in zip(PANELS, picture.subplots(1, 2), strict=True):
            for at, name in enumerate(names):
                if (line := found.get(f"{panel}: {name}")) is not None:
                    look: dict[str, Any] = {"color": COLOURS[at], "marker": MARKERS[at], "linewidth": 1.8}
                    axes.plot([int(x) for x in line], list(line.values()), label=name, **look)
            ticks = sorted({int(x) for key, line in found.items() if key.startswith(panel) for x in line})
            axes.set(xscale="log", xlabel=_axis(panel), ylabel="ms a batch of 8", ylim=(0, None))
            axes.set_xticks(ticks, [f"{x:,}" for x in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_minor_formatter(NullFormatter())
        handles, labels = picture.axes[0].get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside upper center", ncols=4)
        return svg(picture, found)


def _axis(panel: str) -> str:
    return "beams, prompts of 1,000 tokens" if panel == "beams" else "tokens a prompt, 256 beams"
