"""Measure what E4M3 does to values that share a scale: the losses, and the spread inside a group that causes them.

Letters: N rows and K columns of a matrix of weights or activations; a group of h x w values has one scale.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels.fp8 import E4M3_MAX, GROUP, Granularity
from octorec.numerics.checkpoint_files import StoredTensor
from octorec.numerics.distribution import Distribution, pattern_values
from octorec.quant.rounding import sqnr_db

FLUSHED = 2.0**-10  # half of E4M3's smallest number: rounds to zero
SATURATED = E4M3_MAX + 16  # half a step above the largest
OUTLIER = 10  # times the median channel
SPLIT = 2.0**20 + 1  # Veltkamp's constant: c = SPLIT * y, c - (c - y) is y to 24 - 20 significant bits
SHIFT = 1.5 * 2.0**14  # float32 near it has a spacing of 2^-9, that of E4M3 below 2^-6


@dataclass(frozen=True)
class ScaleStats:
    """ScaleStats describe one matrix under one way of scaling.

    sqnr: signal-to-quantization-noise ratio in dB; infinite where nothing is lost.
    flushed: share of the values that are not zero and become zero.
    saturated: share that lies beyond 448 scales, and is cut; 0 by construction where the scale is absmax / 448.
    range_*: octaves from the median of a group's magnitudes, zeros left out, to its largest: log2(absmax / median). The
    median group, the 99th percentile and the largest, over the groups that are not all zeros. E4M3 spends 14.8 octaves
    on values of full precision, so half of a group of range 14.8 has lost bits.
    """

    sqnr: float
    flushed: float
    saturated: float
    range_p50: float
    range_p99: float
    range_max: float

    def row(self, suffix: str) -> dict[str, Any]:
        """Return a flat row for a table or JSON: what is infinite is None."""
        fields = {f"{name}_{suffix}": getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value if math.isfinite(value) else None for name, value in fields.items()}


class Scratch:
    """A Scratch is memory for three stripes, used again: to map and to fault new pages for each takes
    longer than the arithmetic.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(3, 0)

    def like(self, x: Tensor) -> list[Tensor]:
        """Return three tensors of x's shape, contiguous, with undefined contents."""
        if self._memory.shape[1] < x.numel():
            self._memory = torch.empty(3, x.numel())
        return [part[: x.numel()].view(x.shape) for part in self._memory]


class ScaleGroups:
    """ScaleGroups add up a matrix stripe by stripe under one granularity with scales absmax / 448.

    absmax: of each group, a piece a stripe.
    """

    def __init__(self, granularity: Granularity, scratch: Scratch):
        self.granularity = granularity
        self.absmax: list[np.ndarray] = []
        self._scratch = scratch
        self._ranges: list[np.ndarray] = []
        self._signal = self._noise = 0.0
        self._count = self._flushed = 0

    def add(self, x: Tensor) -> None:
        """Add x: float32 [R, K], finite; R a multiple of 128 in all stripes but the last when blocks are looked at."""
        groups = _grouped(x, self.granularity)  # [n, h, k, w]
        scratch = self._scratch.like(groups)
        absmax = self._absmax(groups, scratch)
        scale = absmax / E4M3_MAX
        gone = (scale == 0) & (absmax > 0)  # the quotient underflows: every value becomes zero, and is the error
        unit = torch.where(scale > 0, scale, torch.where(gone, absmax, 1.0))
        y = torch.div(groups, unit, out=scratch[0])
        error, kept = _rounding_error(y, *scratch[1:])
        if gone.any():
            error = torch.where(gone, y.abs(), error)
            kept -= int(torch.count_nonzero(torch.where(gone, y + SHIFT - SHIFT, 0.0)))
        squares = unit.double().square()
        self._signal += float((y.square_().sum((1, 3), keepdim=True).double() * squares).sum())
        noise = float((error.square_().sum((1, 3), keepdim=True).double() * squares).sum())
        flushed = int(torch.count_nonzero(x)) - kept
        self._noise += noise or (flushed and _flushed_squares(groups.double() / unit.double(), squares))
        self._flushed += flushed
        self._count += x.numel()

    def stats(self) -> ScaleStats:
        ranges = np.concatenate([np.zeros(0), *self._ranges])
        spread = np.quantile(ranges, [0.5, 0.99, 1.0]).tolist() if len(ranges) else [0.0, 0.0, 0.0]
        return ScaleStats(sqnr_db(self._signal, self._noise), self._flushed / max(self._count, 1), 0.0, *spread)

    def _absmax(self, groups: Tensor, scratch: list[Tensor]) -> Tensor:
        """Return the absmax [n, 1, k, 1]; keep it, and the range of each group."""
        n, h, k, w = groups.shape
        magnitudes = torch.abs(groups, out=scratch[0])
        absmax = magnitudes.amax((1, 3), keepdim=True)
        if h > 1:
            magnitudes = scratch[1].view(n, k, h, w).copy_(magnitudes.transpose(1, 2))
        largest = absmax.flatten().numpy().copy()
        some = largest > 0
        rows = magnitudes.view(n * k, h * w).numpy()
        medians = _medians(rows if some.all() else rows[some])
        self.absmax.append(largest)
        self._ranges.append(np.log2(largest[some].astype(np.float64) / medians))
        return absmax


def _flushed_squares(y: Tensor, squares: Tensor) -> float:
    """Return the sum of the squares of what becomes zero, in float64: nothing else was lost, and
    float32 flushed it too.
    """
    return float((torch.where(y.abs() <= FLUSHED, y, 0.0).square() * squares).sum())


def one_scale(
    tensor: StoredTensor, found: Distribution, scales: Mapping[str, float], counts: np.ndarray | None
) -> dict[str, ScaleStats]:
    """Return the statistics of a tensor under one scale for all its values, for each of `scales` by name.

    found: its distribution. counts: how often each pattern stands in it, if it is 16 bit.
    """
    if counts is not None:
        values = pattern_values(tensor.values.dtype)
        present = np.isfinite(values) & (counts > 0)
        x, times = torch.from_numpy(values[present]).float(), torch.from_numpy(counts[present]).double()
        sums = {name: _sums(x, scale, found.absmax, times) for name, scale in scales.items()}
    else:
        sums = {name: torch.zeros(4, dtype=torch.float64) for name in scales}
        for chunk in tensor.chunks():
            finite = chunk.nan_to_num(0, 0, 0) if found.nan + found.inf else chunk
            for name, scale in scales.items():
                sums[name] += _sums(finite, scale, found.absmax, None)
    octaves = math.log2(found.absmax / found.median) if found.median else 0.0
    out = {}
    for name, (signal, noise, flushed, saturated) in ((name, each.tolist()) for name, each in sums.items()):
        shares = flushed / max(found.count, 1), saturated / max(found.count, 1)
        out[name] = ScaleStats(sqnr_db(signal, noise), *shares, octaves, octaves, octaves)
    return out


def absmax_scale(largest: float) -> float:
    """Return absmax / 448 in float32, and 1 where that is 0."""
    return float(np.float32(largest) / np.float32(E4M3_MAX)) or 1.0


def outlier_share(absmax: np.ndarray) -> float:
    """Return the share of channels whose largest magnitude is over 10 times the median channel's;
    channels of zeros are left out.
    """
    some = absmax[absmax > 0].astype(np.float64)
    return float((some > OUTLIER * np.median(some)).mean()) if len(some) else 0.0


def _sums(x: Tensor, scale: float, absmax: float, times: Tensor | None) -> Tensor:
    """Return [signal, noise, flushed, saturated] of values x [n], each standing `times` (None: once),
    in units of scale.

    absmax: nothing in x is larger. float64, because squares of small values underflow in float32.
    """
    y = x / scale
    tiny = (y == 0) & (x != 0)  # in units of the scale below float32
    error, low = torch.empty_like(y), torch.empty_like(y)
    if absmax > scale * E4M3_MAX:
        clipped = y.clamp(-E4M3_MAX, E4M3_MAX)
        _rounding_error(clipped, error, low)
        error += (y - clipped).abs_()
    else:
        _rounding_error(y, error, low)
    parts = [y.double().square_(), torch.where(tiny, x.double() / scale, error.double()).square_()]
    y.abs_()
    parts += [((y <= FLUSHED) & (x != 0)).double(), (y > SATURATED).double()]
    return torch.stack([part.sum() if times is None else part @ times for part in parts])


def _rounding_error(y: Tensor, error: Tensor, low: Tensor) -> tuple[Tensor, int]:
    """Write |E4M3(y) - y| for y of any shape within 448 to `error`; return it, and how many values do not become zero.

    Rounded to 4 significant bits (Veltkamp), and to multiples of 2^-9: of the two the coarser is E4M3's, and has the
    larger error. Bit tricks instead of casts, because torch casts back from E4M3 at 6 ns a value.
    """
    torch.mul(y, SPLIT, out=error)
    torch.sub(error, y, out=low)
    error.sub_(low).sub_(y).abs_()
    torch.add(y, SHIFT, out=low).sub_(SHIFT)
    kept = int(torch.count_nonzero(low))
    return torch.maximum(error, low.sub_(y).abs_(), out=error), kept


def _grouped(x: Tensor, granularity: Granularity) -> Tensor:
    """View [R, K] as [n, h, k, w]; short edges are filled up with zeros, narrow matrices are not."""
    rows, columns = x.shape
    h = min(GROUP, rows) if granularity == "block" else 1
    w = min(GROUP, columns) if granularity in ("block", "group") else columns
    if rows % h or columns % w:
        x = F.pad(x, (0, -columns % w, 0, -rows % h))
    return x.unflatten(0, (-1, h)).unflatten(2, (-1, w))


def _medians(magnitudes: np.ndarray) -> np.ndarray:
    """Return the lower median of what is not zero in each row of [n, m], reordered in place; no row
    may be all zeros.
    """
    m = magnitudes.shape[1]
    magnitudes.partition((m - 1) // 2, axis=1)
    out = magnitudes[:, (m - 1) // 2].copy()
    holed = np.flatnonzero(magnitudes.min(1) == 0)
    if len(holed):
        ordered = np.sort(magnitudes[holed], axis=1)
        zeros = (ordered == 0).sum(1)
        out[holed] = ordered[np.arange(len(holed)), zeros + (m - zeros - 1) // 2]
    return out.astype(np.float64)
