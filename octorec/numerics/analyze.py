"""Look at a checkpoint before quantizing it: a table, a report with plots, and every number as Parquet."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from octorec.files import new_folder, refuse_existing
from octorec.models.context import ContextBatch
from octorec.numerics import plots
from octorec.numerics.activations import SCHEMES, ActivationStats, activation_stats
from octorec.numerics.report import Figure, Section, Table, Text, write_report
from octorec.numerics.stats import TensorStats, finite, weight_stats
from octorec.quant.convert import Progress
from octorec.quant.load import load_dequantized
from octorec.quant.recipe import ActivationGranularity, WeightGranularity

WORST = 40  # rows of a figure that shows the worst


@dataclass(frozen=True)
class Analysis:
    """What was found in a checkpoint. notes: what one should know about it in words."""

    checkpoint: str
    weights: tuple[TensorStats, ...]
    activations: tuple[ActivationStats, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: rows without their histograms."""
        return {
            "checkpoint": self.checkpoint,
            "notes": list(self.notes),
            "weights": [_without_octaves(stats.row()) for stats in self.weights],
            "activations": [_without_octaves(stats.row()) for stats in self.activations],
        }


def analyze(
    folder: str | Path,
    out: str | Path,
    requests: tuple[ContextBatch, Tensor] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Analysis:
    """Measure the weights of a checkpoint folder, and its activations when `requests` are given.

    requests: a batch as the model reads it and the true codes [B, levels] of its answers; the checkpoint must then be a
    OneRec-V2. Writes report.html and stats.parquet (and activations.parquet) into `out`. `progress` is called after
    each tensor. Raises InputError as `Checkpoint` does, and when `out` exists without `force`; NaN and Inf are counted.
    """
    refuse_existing(out, force)
    weights = weight_stats(folder, progress)
    notes = _notes(weights)
    broken = any(stats.distribution and stats.distribution.nan + stats.distribution.inf for stats in weights)
    activations: list[ActivationStats] = []
    if requests is not None and broken:
        notes.append("Activations were not measured: with NaN or Inf among the weights they would mean nothing.")
    elif requests is not None:
        activations = activation_stats(load_dequantized(folder), *requests)
    analysis = Analysis(Path(folder).name, tuple(weights), tuple(activations), tuple(notes))
    with new_folder(out, force) as scratch:
        pq.write_table(pa.Table.from_pylist([stats.row() for stats in weights]), scratch / "stats.parquet")
        if activations:
            pq.write_table(
                pa.Table.from_pylist([stats.row() for stats in activations]), scratch / "activations.parquet"
            )
        lead = f"{len(weights):,} tensors, {sum(_count(stats) for stats in weights):,} values"
        write_report(scratch / "report.html", f"Numbers of {analysis.checkpoint}", lead, sections(analysis))
    return analysis


def sections(analysis: Analysis) -> list[Section]:
    """The report's sections, to stand alone or within a larger report."""
    out = [Section("Weights", [*(Text(note) for note in analysis.notes), *_weight_parts(analysis)])]
    if analysis.activations:
        out.append(Section("Activations", _activation_parts(analysis)))
    rows = [list(row.values()) for row in folded(analysis.weights)]
    caption = (
        "Experts of a block in one row: absmax and p99.9 the largest, SQNR the lowest, the others over all values."
    )
    columns = list(folded(analysis.weights[:1])[0])
    return [*out, Section("Every tensor", [Table(columns, rows, caption)])]


def folded(weights: Sequence[TensorStats]) -> list[dict[str, Any]]:
    """Rows for a table people read: the experts of a block are one."""
    groups: dict[str, list[TensorStats]] = defaultdict(list)
    for stats in sorted(weights, key=lambda stats: _natural(stats.name)):
        groups[re.sub(r"experts\.\d+\.", "experts.*.", stats.name)].append(stats)
    return [_row(name if len(group) > 1 else group[0].name, group) for name, group in groups.items()]


def _natural(name: str) -> list[tuple[int, str]]:
    """Orders block 2 before block 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _row(name: str, group: list[TensorStats]) -> dict[str, Any]:
    found = [stats.distribution for stats in group if stats.distribution is not None]
    count = sum(d.count for d in found)
    mean = sum(d.mean * d.count for d in found) / max(count, 1)
    squares = sum((d.variance + (d.mean - mean) ** 2) * d.count for d in found)
    shape = " x ".join(str(size) for size in group[0].shape)
    row: dict[str, Any] = {
        "tensor": name,
        "shape": f"{len(group)} x ({shape})" if len(group) > 1 else shape,
        "type": group[0].dtype,
        "absmax": max((d.absmax for d in found), default=None),
        "mean |w|": sum(d.mean_abs * d.count for d in found) / count if count else None,
        "variance": squares / count if count else None,
        "p99.9": max((d.p999 for d in found), default=None),
        "zeros": sum(d.zero_share * d.count for d in found) / count if count else None,
        "NaN/Inf": sum(d.nan + d.inf for d in found),
    }
    for kind in get_args(WeightGranularity):
        row[f"SQNR {kind}"] = finite(min((stats.sqnr[kind] for stats in group if stats.sqnr), default=None))
    return row


def _notes(weights: list[TensorStats]) -> list[str]:
    notes = [
        f"{stats.name} holds {stats.distribution.nan:,} NaN and {stats.distribution.inf:,} Inf; the rest was measured."
        for stats in weights
        if stats.distribution is not None and stats.distribution.nan + stats.distribution.inf
    ]
    if any(stats.dtype.startswith("float8") for stats in weights):
        notes.append("This checkpoint is quantized already: its FP8 tensors were read through their scales.")
    return notes


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
    return [*parts, _worst(matrices)]


def _worst(matrices: list[TensorStats]) -> Figure:
    """SQNR of the matrices where it is lowest."""
    columns = [f"SQNR {kind}" for kind in get_args(WeightGranularity)]

    def lowest(row: dict[str, Any]) -> float:
        return min((row[column] for column in columns if row[column] is not None), default=float("inf"))

    rows = sorted(folded(matrices), key=lowest)[:WORST]
    series = {column.removeprefix("SQNR "): [row[column] for row in rows] for column in columns}
    caption = (
        "Signal-to-quantization-noise ratio in E4M3 under each granularity of the scales, of the matrices where it is "
        "lowest. A bell curve gives about 31.5 dB; less means that a scale serves values too far apart."
    )
    return Figure(plots.dots([row["tensor"] for row in rows], {"SQNR in dB": series}, start=20), caption)


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
    columns = ["input of", "rows", "width", "absmax", "mean |x|", "variance", "p99.9"]
    columns += [f"SQNR {kind}" for kind in get_args(ActivationGranularity)] + [f"error {name}" for name in SCHEMES]
    return [*parts, Table(columns, [_activation_row(stats) for stats in found], "Error: both operands quantized.")]


def _activation_row(stats: ActivationStats) -> list[Any]:
    d = stats.distribution
    sqnr = [finite(stats.sqnr[kind]) for kind in get_args(ActivationGranularity)]
    errors = [stats.errors[scheme].both if scheme in stats.errors else None for scheme in SCHEMES]
    return [stats.name, stats.rows, stats.width, d.absmax, d.mean_abs, d.variance, d.p999, *sqnr, *errors]


def _by_role(found: Sequence[TensorStats | ActivationStats]) -> dict[str, list[int]]:
    """Octaves summed over each role."""
    sums: dict[str, list[int]] = {}
    for stats in found:
        if stats.distribution is not None:
            before = sums.get(stats.role, [0] * 256)
            sums[stats.role] = [a + b for a, b in zip(before, stats.distribution.octaves, strict=True)]
    return sums


def _by_block(found: Sequence[TensorStats | ActivationStats]) -> dict[str, dict[int, float]]:
    """role -> block -> absmax, of what has a block's number in its name."""
    lines: dict[str, dict[int, float]] = defaultdict(dict)
    for stats in found:
        number = re.search(r"(?:blocks|layers)\.(\d+)\.", stats.name)
        if number and stats.distribution is not None:
            line, block = lines[stats.role], int(number[1])
            line[block] = max(line.get(block, 0.0), stats.distribution.absmax)
    return dict(lines)


def _count(stats: TensorStats) -> int:
    found = stats.distribution
    return 0 if found is None else found.count + found.nan + found.inf


def _without_octaves(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "octaves"}
