"""A `Quantized` holds FP8 values with their scales. The cast is in plain PyTorch; `kernels.cast` is its twin.

Scales multiply on the way back: `x ≈ values * scale`, `scale = absmax / 448`, float32; a group of zeros has scale 1.

Letters: T rows of activations, N and K the output and input widths of a weight [N, K].

| granularity | of | one scale for | scale's shape |
| --- | --- | --- | --- |
| tensor | weights, activations | everything | [1, 1] |
| channel | weights | an output channel | [N, 1] |
| block | weights | 128 x 128 values | [ceil(N/128), ceil(K/128)] |
| token | activations | a row | [T, 1] |
| group | activations | 128 values of a row | [T, ceil(K/128)] |

Leading dimensions (experts) come before these, each with scales of its own.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0
GROUP = 128  # values a group, and rows and columns a block

Granularity = Literal["tensor", "channel", "block", "token", "group"]


@dataclass(frozen=True)
class Quantized:
    """A Quantized is an FP8 tensor `x ≈ values * scale`.

    values: [..., T or N, K] E4M3. scale: float32, shaped as the table above says.
    dtype: the type `x` had, and the type a product with it returns to.
    """

    values: Tensor
    scale: Tensor
    granularity: Granularity
    dtype: torch.dtype


def values_of(x: Tensor | Quantized) -> Tensor:
    """Return the values of an operand, without its scales: E4M3 where it is quantized."""
    return x.values if isinstance(x, Quantized) else x


def quantize(x: Tensor, granularity: Granularity) -> Quantized:
    """Round `x` [..., N, K] to E4M3 with one scale absmax/448 a group (OneRec-V2 recipe, round to nearest even)."""
    groups = grouped(x.float(), granularity)  # [..., n, rows, k, columns]
    scale = scale_of(groups.abs().amax((-3, -1), keepdim=True))
    return Quantized(ungrouped(to_e4m3(groups, scale), x), scale.squeeze((-3, -1)), granularity, x.dtype)


def scale_of(absmax: Tensor) -> Tensor:
    """Return absmax / 448 of float32, and 1 for a group of zeros or where the quotient underflows."""
    scale = absmax / torch.full_like(absmax, E4M3_MAX)  # by a tensor: CUDA multiplies by a scalar's reciprocal
    return torch.where(scale > 0, scale, 1.0)


def to_e4m3(x: Tensor, scale: Tensor) -> Tensor:
    """Return float32 x / scale in E4M3, rounded to nearest even; the scale broadcasts against x.

    `kernels.cast` is the Triton twin.
    """
    return (x / scale).clamp_(-E4M3_MAX, E4M3_MAX).to(E4M3)


def dequantize(q: Quantized) -> Tensor:
    """Return values * scale in float32, [..., N, K]."""
    return q.values.float() * expand_scale(q.scale, q.granularity, q.values.shape)


def expand_scale(scale: Tensor, granularity: Granularity, shape: torch.Size) -> Tensor:
    """Repeat `scale` so that it broadcasts over values of `shape` [..., N, K]."""
    if granularity == "block":
        scale = scale.repeat_interleave(GROUP, -2)[..., : shape[-2], :]
    if granularity in ("block", "group"):
        scale = scale.repeat_interleave(GROUP, -1)[..., : shape[-1]]
    return scale


def grouped(x: Tensor, granularity: Granularity) -> Tensor:
    """View x [..., N, K] as [..., n, rows, k, columns], one scale for each (n, k); zeros fill short edges."""
    height, width = x.shape[-2:]
    rows = {"tensor": height, "block": GROUP}.get(granularity, 1)
    columns = {"block": GROUP, "group": GROUP}.get(granularity, width)
    x = torch.nn.functional.pad(x, (0, -width % columns, 0, -height % rows))
    return x.unflatten(-1, (-1, columns)).unflatten(-3, (-1, rows))


def ungrouped(groups: Tensor, like: Tensor) -> Tensor:
    """Return groups [..., n, rows, k, columns] as contiguous [..., N, K], the shape of `like`."""
    flat = groups.flatten(-2).flatten(-3, -2)
    return flat[..., : like.shape[-2], : like.shape[-1]].contiguous()
