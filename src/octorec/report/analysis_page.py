"""Write an analysis as the sections of a report, to stand alone or within a larger one."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, get_args

from octorec.numerics.activations import SCHEMES, ActivationStats
from octorec.numerics.advice import ACTIVATIONS, BELL_SQNR_DB, MAX_FLUSHED, MAX_OUTPUT_ERROR, MAX_RANGE, MIN_SQNR_DB
from octorec.numerics.analysis import Analysis, folded, folded_advice
from octorec.numerics.intensity import GPUS, Roofline
from octorec.numerics.roles import MATRIX_ROLES, block
from octorec.numerics.stats import TensorStats, finite
from octorec.quant.recipe import ActivationGranularity, Group, Recipe, WeightGranularity
from octorec.report import plots
from octorec.report.dataflow import dataflow_section
from octorec.report.page import Figure, Section, Table, Text

WORST = 40  # rows of a figure that shows the worst


def sections(analysis: Analysis) -> list[Section]:
    """Return the sections of a report: weights first, every tensor last."""
    out = [Section("Weights", [*(Text(note) for note in analysis.notes), *_weight_parts(analysis)])]
    if analysis.activations:
        out.append(Section("Activations", _activation_parts(analysis)))
    out += [
        Section("Layer by layer", _advice_parts(analysis)),
        *_dataflow(analysis),
        Section("Does speed follow?", speed_parts(analysis.speed)),
    ]
    rows = [list(row.values()) for row in folded(analysis.weights)]
    caption = (
        "Experts of a block in one row: the largest, SQNR the lowest, mean and variance over all values. 10x channels: "
        "share of output channels whose absmax is over 10 times the median's. Octaves: log2(absmax / median magnitude) "
        "inside a channel, 99th percentile. Flushed: what becomes zero under a scale a channel."
    )
    return [*out, Section("Every tensor", [Table(list(folded(analysis.weights[:1])[0]), rows, caption)])]


def _advice_parts(analysis: Analysis) -> list[Text | Table]:
    advice = analysis.advice
    rows = folded_advice(advice.layers)
    parts: list[Text | Table] = [Text(f"{advice.outcome.capitalize()}. {advice.reason}")]
    if analysis.recipe is not None:
        parts.append(Text("recipe.yaml beside this page says so to `octorec quantize --recipe`."))
    caption = (
        f"A matrix is quantized when its weights keep {MIN_SQNR_DB} dB (a bell curve: {BELL_SQNR_DB}), 99 % of its "
        f"groups span at most {MAX_RANGE:g} octaves, at most {MAX_FLUSHED:.0%} of it becomes zero, the same holds for "
        f"its input, and its output loses at most {MAX_OUTPUT_ERROR:.1%}, the last two where activations were "
        "measured; with blocks, when only they do. What is kept costs MB more than FP8 would, and MFLOP a row."
    )
    return [*parts, Table(list(rows[0]), [list(row.values()) for row in rows], caption)] if rows else parts


def _dataflow(analysis: Analysis) -> list[Section]:
    """Return pictures of the advised recipe, where it quantizes something."""
    layers = [layer for layer in analysis.advice.layers if layer.role in (*MATRIX_ROLES, "head")]
    targets = {kind: [re.escape(layer.module) for layer in layers if layer.decision == kind] for kind in ACTIVATIONS}
    groups = []
    if targets["channel"]:
        groups.append(Group(tuple(targets["channel"]), "channel", "token"))
    if targets["block"]:
        groups.append(Group(tuple(targets["block"]), "block", "group"))
    if not groups:
        return []
    return [dataflow_section(Recipe("of the verdict", tuple(groups)), [layer.module for layer in layers])]


def speed_parts(speed: Roofline) -> list[Text | Table | Figure]:
    """Return the roofline in words, as a plot and as tables."""
    gpu = speed.gpu
    rows = [list(row.values()) for row in speed_rows(speed)]
    roofs = {"16 bit": gpu.bf16} | ({"FP8": gpu.fp8} if gpu.fp8 is not None else {})
    points = {
        f"{part.name} ({part.seconds_16 / speed.seconds:.0%})": (part.intensity, part.flops / part.seconds_16)
        for part in speed.parts
        if part.flops
    }
    caption = (
        f"Roofline of an {gpu.name}: the rate each part can reach in 16 bit, and its share of the least time. "
        "Left of the ridge memory decides. Parts without arithmetic are in the table alone."
    )
    said = "At least: each part at the peak rate or the peak bandwidth, whichever takes longer, nothing overlapped."
    gains = [[GPUS[name].name, GPUS[name].balance, gain] for name, gain in speed.gains.items()]
    gained = "The most that FP8 can gain under this recipe; 1 where a GPU has no FP8 tensor cores."
    parts: list[Text | Table | Figure] = [Text(speed.reason), *(Text(note) for note in speed.notes)]
    if points:
        parts.append(Figure(plots.roofline(points, roofs, gpu.bandwidth), caption))
    if rows:
        parts.append(Table(list(speed_rows(speed)[0]), rows, said))
    return [*parts, Table(["GPU", "balance, FLOP/byte", "FP8 gains at most"], gains, gained)]


def speed_rows(speed: Roofline) -> list[dict[str, Any]]:
    """Return a row for each part, the slowest first."""
    return [
        {
            "part": part.name,
            "GFLOP": part.flops / 1e9,
            "MB": part.bytes_16 / 1e6,
            "FLOP/byte": part.intensity,
            "bound by": part.bound,
            "ms, 16 bit": part.seconds_16 * 1e3,
            "ms, FP8": part.seconds_8 * 1e3,
            "share of time": part.seconds_16 / speed.seconds,
        }
        for part in sorted(speed.parts, key=lambda part: -part.seconds_16)
    ]


def _weight_parts(analysis: Analysis) -> list[Text | Figure]:
    matrices = [stats for stats in analysis.weights if stats.sqnr]
    if not matrices:
        return [Text("The checkpoint holds no floating-point matrix.")]
    caption = "Weights by magnitude and role: the share in each power of two."
    parts: list[Text | Figure] = [Figure(plots.magnitudes(_by_role(matrices), "weights"), caption)]
    panels = {"weights": _by_block(matrices), "activations": _by_block(analysis.activations)}
    panels = {title: lines for title, lines in panels.items() if lines}
    if panels:
        parts.append(Figure(plots.absmax_by_block(panels), "Largest magnitude in each block by role, on log axes."))
    return [*parts, *_worst(matrices)]


def _worst(matrices: list[TensorStats]) -> list[Figure]:
    """Return figures of SQNR and range of the matrices where SQNR is lowest."""
    columns = [f"SQNR {kind}" for kind in get_args(WeightGranularity)]

    def lowest(row: dict[str, Any]) -> float:
        return min((row[column] for column in columns if row[column] is not None), default=float("inf"))

    rows = sorted(folded(matrices), key=lowest)[:WORST]
    series = {column.removeprefix("SQNR "): [row[column] for row in rows] for column in columns}
    caption = (
        "Signal-to-quantization-noise ratio in E4M3 under each granularity of the scales, of the matrices where it is "
        "lowest. A bell curve gives about 31.5 dB; less means that a scale serves values too far apart."
    )
    return [Figure(plots.dots([row["tensor"] for row in rows], {"SQNR in dB": series}, start=20), caption)]


def _activation_parts(analysis: Analysis) -> list[Text | Figure | Table]:
    found = analysis.activations
    products = [stats for stats in found if stats.errors]
    panels = {
        f"relative error of the output, {scheme}": {
            part: [getattr(stats.errors[scheme], part) for stats in products]
            for part in ("weights", "activations", "both")
        }
        for scheme in ("channel/token", "block/group")
    }
    parts: list[Text | Figure | Table] = [
        Figure(plots.magnitudes(_by_role(found), "activations"), "Inputs of the products by magnitude and role."),
        Figure(
            plots.dots([stats.name for stats in products], panels, percent=True),
            "What each layer's output loses in FP8 when its weights, its activations or both are quantized, under two "
            "granularities of scales (weights/activations).",
        ),
    ]
    columns = ["input of", "rows", "width", "absmax", "mean |x|", "variance", "p99.9", "10x channels"]
    columns += ["octaves token", "flushed token"]
    columns += [f"SQNR {kind}" for kind in get_args(ActivationGranularity)] + [f"error {name}" for name in SCHEMES]
    caption = "Error: both operands quantized. Octaves: inside a token, 99th percentile."
    return [*parts, Table(columns, [_activation_row(stats) for stats in found], caption)]


def _activation_row(stats: ActivationStats) -> list[Any]:
    d, token = stats.distribution, stats.scales["token"]
    sqnr = [finite(stats.sqnr[kind]) for kind in get_args(ActivationGranularity)]
    errors = [finite(stats.errors[scheme].both) if scheme in stats.errors else None for scheme in SCHEMES]
    about = [stats.name, stats.rows, stats.width, d.absmax, d.mean_abs, d.variance, d.p999, stats.outlier_channels]
    return [*about, token.range_p99, token.flushed, *sqnr, *errors]


def _by_role(statistics: Sequence[TensorStats | ActivationStats]) -> dict[str, list[int]]:
    """Sum octaves over each role."""
    sums: dict[str, list[int]] = {}
    for stats in statistics:
        if stats.distribution is not None:
            before = sums.get(stats.role, [0] * 256)
            sums[stats.role] = [a + b for a, b in zip(before, stats.distribution.octaves, strict=True)]
    return sums


def _by_block(statistics: Sequence[TensorStats | ActivationStats]) -> dict[str, dict[int, float]]:
    """Return role -> block -> absmax, of what has a block's number in its name."""
    lines: dict[str, dict[int, float]] = defaultdict(dict)
    for stats in statistics:
        number = block(stats.name)
        if number is not None and stats.distribution is not None:
            line = lines[stats.role]
            line[number] = max(line.get(number, 0.0), stats.distribution.absmax)
    return dict(lines)
