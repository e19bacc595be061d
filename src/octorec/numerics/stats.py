"""Statistics of a checkpoint's weights are computed one tensor at a time.

They work on 16-bit and FP8 checkpoints alike, the latter through their scales; any safetensors file or folder will do.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from octorec.kernels.fp8 import Granularity
from octorec.numerics.checkpoint_files import CheckpointFiles, StoredTensor, WeightFiles
from octorec.numerics.distribution import (
    VALUES_AT_ONCE,
    Distribution,
    count_patterns,
    distribution_of_chunks,
    distribution_of_patterns,
)
from octorec.numerics.roles import role
from octorec.numerics.scale_groups import ScaleGroups, ScaleStats, Scratch, absmax_scale, one_scale, outlier_share
from octorec.progress import Progress, silent
from octorec.quant.rounding import one_thread

GROUPED: tuple[Granularity, ...] = ("channel", "block")  # granularities of weights
SCALINGS = ("channel", "block", "tensor", "unscaled")
WORKERS = 4  # most threads; each holds a few stripes


@dataclass(frozen=True)
class TensorStats:
    """TensorStats describe one tensor. distribution is None for what holds no floating-point value.

    scales: of a floating-point matrix, what each of SCALINGS does to it; `unscaled` is a plain cast.
    outlier_channels: share of its output channels (rows) whose absmax is over 10 times the median channel's.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    distribution: Distribution | None
    scales: dict[str, ScaleStats]
    outlier_channels: float | None

    @property
    def sqnr(self) -> dict[str, float]:
        """Return dB by weight granularity, infinite where nothing is lost; empty for what is no matrix."""
        return {name: stats.sqnr for name, stats in self.scales.items()}

    def row(self) -> dict[str, Any]:
        """Return a flat row for a table or JSON: what is infinite or does not exist is None."""
        row: dict[str, Any] = {"name": self.name, "role": self.role, "shape": list(self.shape), "dtype": self.dtype}
        return {
            **row,
            **flat(self.distribution),
            "outlier_channels": self.outlier_channels,
            **flat_scales(self.scales, SCALINGS),
        }


@dataclass(frozen=True)
class Measured:
    """A Measured holds a distribution, what each scaling does, and the largest magnitude of each row (a
    matrix's alone).
    """

    distribution: Distribution
    scales: dict[str, ScaleStats]
    row_absmax: np.ndarray


def weight_stats(checkpoint: str | Path | WeightFiles, progress: Progress = silent) -> list[TensorStats]:
    """Measure every tensor of a checkpoint, a few at a time on as many cores. `progress` counts bytes, after each."""
    files = checkpoint if isinstance(checkpoint, WeightFiles) else CheckpointFiles(checkpoint)
    names, total, done, out = files.names(), files.nbytes(), 0, []
    workers = min(WORKERS, torch.get_num_threads())
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        for stats in pool.map(lambda name: tensor_stats(files.tensor(name)), names):
            out.append(stats)
            done += stats.nbytes
            progress(done, total)
    return out


def tensor_stats(tensor: StoredTensor) -> TensorStats:
    """Measure one tensor."""
    about = (
        tensor.name,
        role(tensor.name),
        tensor.shape,
        str(tensor.values.dtype).removeprefix("torch."),
        tensor.nbytes,
    )
    if not tensor.is_number:
        return TensorStats(*about, None, {}, None)
    found = measure(tensor, GROUPED)
    return TensorStats(
        *about, found.distribution, found.scales, outlier_share(found.row_absmax) if found.scales else None
    )


def measure(tensor: StoredTensor, granularities: tuple[Granularity, ...]) -> Measured:
    """Measure weights or activations; the first of `granularities` must be that of a whole row.

    scales: of a matrix those of `granularities`, then `tensor` and `unscaled`.
    """
    counts = count_patterns(tensor.values) if tensor.sixteen_bit else None
    if counts is not None:
        found = distribution_of_patterns(counts, tensor.values.dtype)
    else:
        found = distribution_of_chunks(tensor.chunks)
    if len(tensor.shape) != 2 or not tensor.is_number:
        return Measured(found, {}, np.zeros(0))
    scratch = Scratch()
    groups = [ScaleGroups(granularity, scratch) for granularity in granularities]
    for stripe in tensor.stripes():
        if found.nan + found.inf:
            stripe.nan_to_num_(0, 0, 0)
        for each in groups:
            each.add(stripe)
    scales: dict[str, ScaleStats] = {each.granularity: each.stats() for each in groups}
    scales |= one_scale(tensor, found, {"tensor": absmax_scale(found.absmax), "unscaled": 1.0}, counts)
    if tensor.values.dtype == torch.float64:
        scales = _with_vanished(scales, tensor.values, found)
    return Measured(found, scales, np.concatenate(groups[0].absmax))


def _with_vanished(scales: dict[str, ScaleStats], values: torch.Tensor, found: Distribution) -> dict[str, ScaleStats]:
    """Return `scales` with what becomes zero in float32 already, and so is lost under every scaling."""
    pieces = values.flatten().split(VALUES_AT_ONCE)
    vanished = sum(int(((piece != 0) & (piece.float() == 0)).sum()) for piece in pieces) / max(found.count, 1)
    if not vanished:
        return scales
    lost = {"sqnr": 0.0} if found.absmax == 0 else {}  # beside values that do not vanish, those that do are nothing
    return {name: replace(each, flushed=each.flushed + vanished, **lost) for name, each in scales.items()}


def flat(found: Distribution | None) -> dict[str, Any]:
    """Return a distribution's fields, all None where there is none."""
    fields = Distribution.__dataclass_fields__
    return {name: None if found is None else getattr(found, name) for name in fields}


def flat_scales(scales: dict[str, ScaleStats], names: tuple[str, ...]) -> dict[str, Any]:
    """Return sqnr_channel, flushed_channel, ...

    for each of `names`, all None where there is none. for each of `names`, all None where there is none.
    """
    row: dict[str, Any] = {}
    for name in names:
        empty = {f"{field}_{name}": None for field in ScaleStats.__dataclass_fields__}
        row.update(scales[name].row(name) if name in scales else empty)
    return row


def finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None
