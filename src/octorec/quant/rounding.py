"""Round a weight to FP8 and measure what that loses, in stripes of rows that stay in a core's cache.

The cast is that of `kernels.fp8`; `fp8.quantize` asks for several times the weight's memory, this one for the FP8
values and a few MB.

Letters: N and K the output and input width of a weight, R the rows of a stripe.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels.fp8 import E4M3, GROUP, scale_of, to_e4m3
from octorec.quant.recipe import WeightGranularity

SMALL = 1e-15  # the square of a smaller error comes near the end of float32's range
STRIPE = 2**18  # float32 values a stripe holds, about 1 MB
_VALUES = (
    torch.arange(256, dtype=torch.uint8).view(E4M3).float()
)  # the value of each bit pattern; a look-up beats the cast 5x


@dataclass(frozen=True)
class Rounded:
    """A Rounded is a weight in FP8 and what the rounding lost.

    values [N, K] E4M3; scale float32 in compressed-tensors' shape: channel [N, 1], block [ceil(N/128), ceil(K/128)],
    tensor [1]. absmax of the weight in float32, NaN or Inf when it holds one there. lost: the sum of the squared errors
    over that of the weight's squares; 0 only where no value changed.
    """

    values: Tensor
    scale: Tensor
    absmax: float
    lost: float

    @property
    def sqnr_db(self) -> float:
        """Return the signal-to-quantization-noise ratio in dB; infinite where nothing is lost."""
        return sqnr_db(1.0, self.lost)

    @property
    def relative_error(self) -> float:
        """Return |error| / |weight|, both root-sum-square."""
        return math.sqrt(self.lost)


def sqnr_db(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise): infinite where noise is 0, and -infinite where there is noise and no signal."""
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal else -math.inf


class Squares:
    """Squares add up the squares of values and of their errors, which float32 would lose at both ends of its range.

    Each group of values is divided by its largest magnitude before it is squared, and the sums are kept in units of the
    square of the largest of these so far.
    """

    def __init__(self) -> None:
        self._unit = 1.0
        self._changed = False
        self._signal = self._noise = 0.0

    def add(self, values: Tensor, error: Tensor, largest: Tensor) -> None:
        """Add a stripe.

        values and error of one shape [n, h, k, w], and the largest magnitude of each group of values [n, 1, k, 1];
        values and error are overwritten.
        """
        top = float(largest.amax()) or self._unit
        unit = torch.where(largest > 0, largest, top)
        largest_error = float(error.abs().amax())
        if 0 < largest_error < SMALL * top:  # float32 would lose the squares of such small errors
            error = error.double()
        signal, noise = ((part.div_(unit).square_().sum((1, 3), keepdim=True).double()) for part in (values, error))
        if not self._signal:
            self._unit = top
        elif top > self._unit:
            ratio = self._unit / top
            self._signal, self._noise, self._unit = self._signal * ratio * ratio, self._noise * ratio * ratio, top
        weight = (unit.double() / self._unit).square()
        self._changed |= largest_error > 0
        self._signal += float((signal * weight).sum())
        self._noise += float((noise * weight).sum())

    @property
    def lost(self) -> float:
        """Return noise over signal; above 0 wherever any value changed."""
        return max(self._noise / self._signal, sys.float_info.min) if self._changed else 0.0


def round_weight(weight: Tensor, granularity: WeightGranularity) -> Rounded:
    """Quantize `weight` [N, K] of any float type. What float64 holds and float32 does not counts as lost."""
    values = torch.empty(weight.shape, dtype=E4M3)
    whole = None
    if granularity == "tensor":
        whole = max((x.float().abs().amax() for _, x in _stripes(weight)), default=None)
    scales, absmax, squares = [], [], Squares()
    for rows, x in _stripes(weight):
        exact = _groups(x, granularity)  # [R/h, h, K/w, w] with a scale for each h x w
        groups = exact.float()
        largest = groups.abs().amax((1, 3), keepdim=True)
        absmax.append(largest.amax())
        scale = scale_of(largest if whole is None else whole.view(1, 1, 1, 1))
        rounded = to_e4m3(groups, scale)
        values[rows].copy_(rounded.view(x.shape)[: len(values[rows]), : weight.shape[1]])
        back = _VALUES.index_select(0, rounded.view(torch.uint8).flatten().int()).view(groups.shape)
        error = back.mul_(scale).sub_(exact) if exact is groups else back.mul_(scale) - exact
        squares.add(exact, error, largest if exact is groups else exact.abs().amax((1, 3), keepdim=True))
        scales.append(scale.squeeze(3).squeeze(1))
    scale = scales[0].view(1) if granularity == "tensor" else torch.cat(scales)
    rows_of_scales = {"tensor": 1, "channel": len(weight), "block": -(-len(weight) // GROUP)}[granularity]
    return Rounded(values, scale[:rows_of_scales].clone(), float(torch.stack(absmax).amax()), squares.lost)


def absmax(tensor: Tensor) -> float:
    """Return the largest magnitude of a tensor of any shape, NaN or Inf when it holds one; 0 when it is empty."""
    pieces = [piece.float().abs().amax() for piece in tensor.flatten().split(STRIPE) if piece.numel()]
    return float(torch.stack(pieces).amax()) if pieces else 0.0


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work on one core: handing a stripe to several takes longer than rounding it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stripes(weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of `weight` in float32, of float64 as they are, [R, K], both filled up with zeros to multiples of 128;
    the buffer is used again.
    """
    n, k = weight.shape
    height = max(GROUP, STRIPE // max(k, 1) // GROUP * GROUP)
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    buffer = torch.zeros(min(height, n + -n % GROUP), k + -k % GROUP, dtype=dtype)
    for start in range(0, n, height):
        rows = slice(start, min(start + height, n))
        count = rows.stop - start
        buffer[:count, :k].copy_(weight[rows])
        yield rows, F.pad(buffer[:count], (0, 0, 0, -count % GROUP))


def _groups(x: Tensor, granularity: WeightGranularity) -> Tensor:
    if granularity == "block":
        return x.view(-1, GROUP, x.shape[1] // GROUP, GROUP)
    return x.view(-1, 1, 1, x.shape[1])
