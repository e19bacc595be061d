# mypy: allow-untyped-defs
"""Triton kernels cast to FP8 E4M3 with this: values and scales are those of `fp8.quantize`, bit for bit.

Quotients are IEEE's: an approximate one would round to another E4M3 value near a tie. `maybe_quantize` is the cast as a
kernel of its own; norm, SwiGLU, attention and products cast what they computed before they write it.

Kernels write `fp8.GROUP` as 128: Triton reads no global that is a plain number.

Letters: T rows, K width, G = ceil(K/128) groups a row.
"""

import torch
import triton
import triton.language as tl

from octorec.errors import InputError
from octorec.kernels.fp8 import E4M3, GROUP, Granularity, Quantized


def empty_quantized(
    shape: torch.Size | tuple[int, int], granularity: Granularity, dtype: torch.dtype, device: torch.device
) -> Quantized:
    """Return unwritten values [T, K] with a scale for each token, channel or group.

    Scales a group lie M-major with T padded to a multiple of 4: shape [T, G], stride (1, T4), as Hopper's block
    products read them.
    """
    rows, width = shape
    values = torch.empty(rows, width, dtype=E4M3, device=device)
    if granularity in ("token", "channel"):
        scale = torch.empty(rows, 1, dtype=torch.float32, device=device)
    elif granularity == "group":
        padded = torch.empty(triton.cdiv(width, GROUP), triton.cdiv(rows, 4) * 4, dtype=torch.float32, device=device)
        scale = padded.T[:rows]
    else:
        allowed = "rows can be quantized by 'token', 'channel' or 'group' on a GPU; weights also by 'block'"
        raise InputError("granularity", granularity, allowed)
    return Quantized(values, scale, granularity, dtype)


@triton.jit
def to_e4m3(x, absmax):
    """Return float32 `x` in E4M3, and the scale absmax/448 (1 for zeros); absmax broadcasts against x. NaN stays NaN.

    Nothing to clamp: a quotient is at most half an ulp of float32 above 448, and rounds to it.
    """
    lift = _lift(absmax)
    x = _divide(x * -lift, _lifted_scale(absmax, lift))
    return x.to(tl.float8e4nv), scale_of(absmax)


@triton.jit
def scale_of(absmax):
    """Return absmax/448, 1 for zeros."""
    lift = _lift(absmax)
    scale = _lifted_scale(absmax, lift)
    return tl.where((lift > 1) & (absmax > 0), scale * 5.421010862427522e-20, scale)  # 2^-64


@triton.jit
def _lift(absmax):
    return tl.where(absmax < 1e-18, 18446744073709551616.0, 1.0)  # 2^64, which keeps a division's remainders exact


@triton.jit
def _lifted_scale(absmax, lift):
    return tl.where(absmax > 0, _divide(absmax * -lift, 448.0), 1.0)


@triton.jit
def _divide(negative, y):
    """Return -negative / y, correctly rounded, for 0 < y: a third of `div_rn`'s instructions, and no
    call, which would spill.

    Markstein's theorem: from a correctly rounded reciprocal, which costs a row little, a quotient less than an ulp off
    is rounded correctly by one step with an exact remainder (checked for every pair of 16-bit x and absmax). The
    dividend comes negated so that -0 stays -0.
    """
    reciprocal = -1.0 / y
    for _ in tl.static_range(2):
        reciprocal = tl.fma(tl.fma(reciprocal, y, 1.0), reciprocal, reciprocal)
    quotient = negative * reciprocal
    quotient = tl.fma(tl.fma(quotient, y, negative), reciprocal, quotient)
    return quotient
