"""How far a kernel may be from the reference on identical inputs: tolerance (a) of the design."""

import torch
from torch import Tensor

from octorec.kernels.fp8 import Quantized, dequantize

STEP = {torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float32: 2**-20}  # of a value's size, between neighbours
SUMS = 2**-12 if torch.cuda.is_available() else 2**-20  # of a sum's size: a GPU sums 128 FP8 products in about 14 bits


def assert_within_a_step(got: Tensor, expected: Tensor, allowed_share: float = 0.01) -> None:
    """Equal, but for a neighbouring value of the type in `allowed_share` of the places: sums in other orders."""
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    difference = (got.double() - expected.double()).abs()
    assert not difference.isnan().any()
    assert (difference <= STEP[expected.dtype] * expected.double().abs() + 1e-30).all(), difference.max()
    if expected.dtype != torch.float32:
        assert (difference > 0).double().mean() <= allowed_share


def assert_same_quantized(got: Quantized, expected: Quantized, allowed_share: float = 0.01) -> None:
    """Scales within a step of the 16-bit type that was quantized; values the same, or in a few places a neighbour."""
    assert got.granularity == expected.granularity
    assert got.dtype == expected.dtype
    assert got.values.shape == expected.values.shape
    assert_within_a_step(got.scale.to(expected.dtype), expected.scale.to(expected.dtype), 1.0)
    got_x, expected_x = dequantize(got), dequantize(expected)
    difference = (got_x - expected_x).abs()
    assert not difference.isnan().any()
    smallest = expected_x.abs().amax(-1, keepdim=True) * 2**-16  # E4M3's spacing near zero, 2^-9, over 448
    assert (difference <= 2**-3 * 1.02 * expected_x.abs() + smallest).all(), difference.max()
    moved = difference > 2 * STEP[expected.dtype] * expected_x.abs()
    assert moved.double().mean() <= allowed_share


def assert_product(got: Tensor, x: Tensor, weight: Tensor) -> None:
    """`got` is x [.., K] @ weight [.., N, K] transposed, rounded once from float32 sums; float64 knows the truth."""
    x, weight = x.double(), weight.double()
    exact, size = x @ weight.mT, x.abs() @ weight.mT.abs()
    difference = (got.double() - exact).abs()
    assert not difference.isnan().any()
    assert (difference <= STEP[got.dtype] / 2 * 1.01 * exact.abs() + SUMS * size).all(), difference.max()
