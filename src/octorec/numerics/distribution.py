"""Compute the distribution of a tensor's values, exactly and in little memory.

A 16-bit tensor has 65,536 values: one count of bit patterns says everything. Others are added up chunk by chunk.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

VALUES_AT_ONCE = 2**18  # values at a time: 1 MB of float32 stays in a core's cache
Chunks = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class Distribution:
    """A Distribution describes the finite values of a tensor (all measures are 0 when there is none).

    nan, inf: how many values are not finite. mean_abs: mean magnitude. variance: about the mean, over all values.
    p999: the smallest magnitude that at least 99.9 % of the values do not exceed. median: the same of half the values
    that are not zero. zero_share: share of exact zeros.
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
    median: float
    zero_share: float
    octaves: tuple[int, ...]


def distribution(x: Tensor) -> Distribution:
    """Return the distribution of a floating-point tensor of any shape."""
    if x.dtype in (torch.bfloat16, torch.float16):
        return distribution_of_patterns(count_patterns(x), x.dtype)
    return distribution_of_chunks(lambda: (chunk.float() for chunk in x.flatten().split(VALUES_AT_ONCE)))


def count_patterns(x: Tensor) -> np.ndarray:
    """Return how often each of the 65,536 bit patterns stands in a 16-bit tensor: [65536] int64."""
    counts = np.zeros(2**16, np.int64)
    patterns = x.flatten().view(torch.int16).numpy().view(np.uint16)
    wide = np.empty(
        min(4 * VALUES_AT_ONCE, len(patterns)), np.int64
    )  # used again: bincount would allocate it for each chunk
    for start in range(0, len(patterns), 4 * VALUES_AT_ONCE):
        chunk = patterns[start : start + 4 * VALUES_AT_ONCE]
        wide[: len(chunk)] = chunk
        counts += np.bincount(wide[: len(chunk)], minlength=2**16)
    return counts


def pattern_values(dtype: torch.dtype) -> np.ndarray:
    """Return the value of each bit pattern of a 16-bit type: [65536] float64."""
    patterns = np.arange(2**16, dtype=np.uint16).view(np.int16)
    return torch.from_numpy(patterns).view(dtype).double().numpy()


def distribution_of_patterns(counts: np.ndarray, dtype: torch.dtype) -> Distribution:
    """Return the distribution of a 16-bit tensor whose `count_patterns` are `counts`; sums in float64."""
    values = pattern_values(dtype)
    finite = np.isfinite(values)
    nan, inf = int(counts[np.isnan(values)].sum()), int(counts[np.isinf(values)].sum())
    values, counts = values[finite], counts[finite]
    order = np.argsort(np.abs(values), kind="stable")
    values, counts = values[order], counts[order]
    magnitudes, count = np.abs(values), int(counts.sum())
    zeros = int(counts[magnitudes == 0].sum())
    mean = float(counts @ values) / max(count, 1)
    present = counts > 0
    return Distribution(
        count=count,
        nan=nan,
        inf=inf,
        absmax=float(magnitudes[present].max(initial=0.0)),
        mean=mean,
        mean_abs=float(counts @ magnitudes) / max(count, 1),
        variance=float(counts @ (values - mean) ** 2) / max(count, 1),
        p999=float(magnitudes[_rank(counts, math.ceil(0.999 * count))[0]]) if count else 0.0,
        median=float(magnitudes[_rank(counts, zeros + math.ceil((count - zeros) / 2))[0]]) if count else 0.0,
        zero_share=zeros / max(count, 1),
        octaves=_octaves(magnitudes, counts),
    )


def distribution_of_chunks(chunks: Chunks) -> Distribution:
    """Return the distribution of float32 values that `chunks()` gives some at a time, in one dimension;
    it is called twice.
    """
    sums = _Sums()
    for chunk in chunks():
        sums.add(chunk)
    ranks = [math.ceil(0.999 * sums.count), sums.zeros + math.ceil((sums.count - sums.zeros) / 2)]
    p999, median = _select(chunks, sums.patterns, ranks) if sums.count else (0.0, 0.0)
    return Distribution(
        count=sums.count,
        nan=sums.nan,
        inf=sums.inf,
        absmax=sums.absmax,
        mean=sums.mean,
        mean_abs=sums.total_abs / max(sums.count, 1),
        variance=sums.squares / max(sums.count, 1),
        p999=p999,
        median=median,
        zero_share=sums.zeros / max(sums.count, 1),
        octaves=tuple(int(count) for count in sums.patterns.reshape(256, 128).sum(1)),
    )


class _Sums:
    """_Sums are what is added up chunk by chunk; mean and squares about it are merged by Chan's rule."""

    def __init__(self) -> None:
        self.count = self.nan = self.inf = self.zeros = 0
        self.absmax = self.mean = self.total_abs = self.squares = 0.0
        self.patterns = np.zeros(2**15, np.int64)  # counts of the upper 16 bits of a magnitude: bfloat16's own pattern

    def add(self, x: Tensor) -> None:
        """Add x: float32 [n]."""
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
        centred = x.double() - mean  # float32's squares have half its range
        shift, count = mean - self.mean, self.count + len(x)
        self.squares += float(torch.dot(centred, centred)) + shift * shift * self.count * len(x) / count
        self.mean += shift * len(x) / count
        self.count = count


def _select(chunks: Chunks, patterns: np.ndarray, ranks: list[int]) -> list[float]:
    """Return the finite magnitudes of `ranks` (counted from 1), by two steps of a radix select."""
    upper = [_rank(patterns, rank) for rank in ranks]
    lower = [np.zeros(2**16, np.int64) for _ in ranks]
    for chunk in chunks():
        bits = _bits(chunk.abs())
        for (pattern, _), counts in zip(upper, lower, strict=True):
            counts += np.bincount(bits[bits >> 16 == pattern] & 0xFFFF, minlength=2**16)
    found = []
    for (pattern, rank), counts in zip(upper, lower, strict=True):
        bits = np.array([pattern << 16 | _rank(counts, rank)[0]], np.int32)
        found.append(float(bits.view(np.float32)[0]))
    return found


def _rank(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """Return the bin that holds the rank-th value (counted from 1), and its rank within the bin."""
    sums = np.cumsum(counts)
    where = int(np.searchsorted(sums, rank))
    return where, rank - int(sums[where] - counts[where])


def _octaves(magnitudes: np.ndarray, counts: np.ndarray) -> tuple[int, ...]:
    at = np.clip(np.frexp(magnitudes)[1] + 126, 0, 255)  # frexp: [0.5, 1) x 2^e
    at[magnitudes < 2.0**-126] = 0
    return tuple(int(count) for count in np.bincount(at, weights=counts, minlength=256))


def _bits(magnitude: Tensor) -> np.ndarray:
    return magnitude.numpy().view(np.int32)
