"""The distribution of a tensor's values, exactly and in little memory."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CHUNK = 2**18  # values at a time: 1 MB of float32 stays in a core's cache


@dataclass(frozen=True)
class Distribution:
    """Of the finite values of a tensor (all measures are 0 when there is none).

    nan, inf: how many values are not finite. mean_abs: mean magnitude. variance: about the mean, over all values.
    p999: the smallest magnitude that at least 99.9 % of the values do not exceed. zero_share: share of exact zeros.
    octaves: 256 counts of magnitudes; octaves[e] counts those in [2^(e-127), 2^(e-126)), octaves[0] what is smaller.
    """

    count: int
    nan: int
    inf: int
    absmax: float
    mean: float
    mean_abs: float
    variance: float
    p999: float
    zero_share: float
    octaves: tuple[int, ...]


def distribution(x: Tensor) -> Distribution:
    """Of a floating-point tensor of any shape."""
    sums = _Sums()
    for chunk in x.flatten().split(CHUNK):
        sums.add(chunk.float())
    octaves = sums.patterns.reshape(256, 128).sum(1)
    return Distribution(
        count=sums.count,
        nan=sums.nan,
        inf=sums.inf,
        absmax=sums.absmax,
        mean=sums.mean,
        mean_abs=sums.total_abs / max(sums.count, 1),
        variance=sums.squares / max(sums.count, 1),
        p999=_quantile(x, sums.patterns, 0.999),
        zero_share=sums.zeros / max(sums.count, 1),
        octaves=tuple(int(count) for count in octaves),
    )


class _Sums:
    """What is added up chunk by chunk; mean and squares about it are merged by Chan's rule."""

    def __init__(self) -> None:
        self.count = self.nan = self.inf = self.zeros = 0
        self.absmax = self.mean = self.total_abs = self.squares = 0.0
        self.patterns = np.zeros(2**15, np.int64)  # of the upper 16 bits of a magnitude: bfloat16's own pattern

    def add(self, x: Tensor) -> None:
        """x: float32 [n]."""
        magnitude = x.abs()
        if len(x) and not math.isfinite(float(magnitude.amax())):
            self.nan += int(x.isnan().sum())
            self.inf += int(x.isinf().sum())
            x = x[x.isfinite()]
            magnitude = x.abs()
        if len(x) == 0:
            return
        self.absmax = max(self.absmax, float(magnitude.amax()))
        self.total_abs += float(magnitude.sum(dtype=torch.float64))
        self.zeros += len(x) - int(torch.count_nonzero(x))
        self.patterns += np.bincount(_bits(magnitude) >> 16, minlength=2**15)
        mean = float(x.sum(dtype=torch.float64)) / len(x)
        centred = x - mean
        shift, count = mean - self.mean, self.count + len(x)
        self.squares += float(torch.dot(centred, centred)) + shift * shift * self.count * len(x) / count
        self.mean += shift * len(x) / count
        self.count = count


def _quantile(x: Tensor, patterns: np.ndarray, share: float) -> float:
    """The smallest magnitude not exceeded by at least `share` of the finite values: two steps of a radix select."""
    total = int(patterns.sum())
    if total == 0:
        return 0.0
    upper, rank = _rank(patterns, math.ceil(share * total))
    lower = 0
    if x.dtype != torch.bfloat16:  # whose lower 16 bits are zeros
        counts = np.zeros(2**16, np.int64)
        for chunk in x.flatten().split(CHUNK):
            bits = _bits(chunk.float().abs())
            counts += np.bincount(bits[bits >> 16 == upper] & 0xFFFF, minlength=2**16)
        lower, _ = _rank(counts, rank)
    return float(np.array([upper << 16 | lower], np.int32).view(np.float32)[0])


def _rank(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """The bin that holds the rank-th value (counted from 1), and its rank within the bin."""
    sums = np.cumsum(counts)
    where = int(np.searchsorted(sums, rank))
    return where, rank - int(sums[where] - counts[where])


def _bits(magnitude: Tensor) -> np.ndarray:
    return magnitude.numpy().view(np.int32)
