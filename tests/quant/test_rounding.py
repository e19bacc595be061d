"""Rounding in stripes equals the reference cast bit for bit, and its error is the error."""

import json
import math
from fractions import Fraction

import pytest
import torch

from octorec.kernels.fp8 import Quantized, dequantize, quantize
from octorec.quant import rounding
from octorec.quant.rounding import Rounded, absmax, one_thread, round_weight


def weight(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows * 1000 + columns)
    w = torch.randn(rows, columns, generator=generator) * torch.logspace(-3, 3, rows)[:, None]
    w[0] = 0  # a channel of zeros
    return w.to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("granularity", ["channel", "block", "tensor"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (128, 128), (130, 257), (640, 96), (700, 129)])
def test_equals_the_reference(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], granularity: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(rounding, "STRIPE", 2**14)  # several stripes
    w = weight(*shape, dtype)
    rounded, reference = round_weight(w, granularity), quantize(w, granularity)
    assert torch.equal(rounded.values.view(torch.uint8), reference.values.view(torch.uint8))
    assert rounded.scale.shape == ((1,) if granularity == "tensor" else reference.scale.shape)
    assert torch.equal(rounded.scale.flatten(), reference.scale.flatten())
    assert rounded.absmax == float(w.abs().max())

    signal = float(w.double().square().sum())
    noise = float((dequantize(reference).double() - w.double()).square().sum())
    assert rounded.lost == pytest.approx(noise / signal if noise else 0, rel=1e-4)
    if noise:
        assert rounded.sqnr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-3)
        assert rounded.relative_error == pytest.approx(math.sqrt(noise / signal), rel=1e-4)


def test_nothing_lost() -> None:
    rounded = round_weight(torch.zeros(4, 4), "channel")
    assert rounded.sqnr_db == math.inf
    assert rounded.relative_error == 0
    assert torch.equal(rounded.scale, torch.ones(4, 1))


@pytest.mark.parametrize("granularity", ["channel", "block", "tensor"])
def test_what_is_too_small_for_a_scale_is_zero(granularity: str) -> None:
    w = torch.zeros(2, 3)
    w[0, 0] = 1e-43  # 1e-43 / 448 underflows to 0, and 0 / 0 is NaN
    rounded = round_weight(w, granularity)
    assert torch.equal(rounded.values.float(), torch.zeros(2, 3))
    assert (rounded.scale == 1).all()


def lost_exactly(w: torch.Tensor, rounded: Rounded, granularity: str) -> float:
    """|error|^2 / |w|^2 in Python's fractions, which have no range."""
    granularity = granularity if granularity != "tensor" else "channel"
    scale = rounded.scale.expand(len(w), 1) if rounded.scale.dim() == 1 else rounded.scale
    back = dequantize(Quantized(rounded.values, scale, granularity, torch.float32))
    pairs = [(Fraction(a), Fraction(b)) for a, b in zip(w.flatten().tolist(), back.flatten().tolist(), strict=True)]
    return float(sum((a - b) ** 2 for a, b in pairs) / sum(a**2 for a, _ in pairs))


@pytest.mark.parametrize("granularity", ["channel", "block", "tensor"])
@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        *((dtype, size) for dtype in (torch.bfloat16, torch.float32) for size in (1e38, 1e30, 1e-30, 1e-38, 1e-40)),
        *((torch.float32, size) for size in (3e-43, 1e-44, 1.4e-45)),
        *((torch.float64, size) for size in (1e30, 1e-44, 1e-46, 1e-300, 3e-310)),
        *((torch.float16, size) for size in (6e4, 6e-8)),
    ],
)
def test_what_is_lost_is_told_at_both_ends_of_every_range(dtype: torch.dtype, size: float, granularity: str) -> None:
    w = weight(4, 40, torch.float32).double()
    w = (w / w.abs().max() * size).to(dtype)
    w[1, :2] = size
    rounded = round_weight(w, granularity)
    assert rounded.lost == pytest.approx(lost_exactly(w, rounded, granularity), rel=1e-3)
    assert math.isfinite(rounded.sqnr_db) == (rounded.lost > 0)


def test_two_outliers_among_small_weights() -> None:
    w = torch.randn(64, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    w[3, 7], w[3, 8] = 1e30, 7e29
    rounded = round_weight(w, "channel")
    assert rounded.sqnr_db == pytest.approx(-10 * math.log10(lost_exactly(w, rounded, "channel")), abs=0.01)


@pytest.mark.parametrize("granularity", ["channel", "block", "tensor"])
def test_a_loss_that_float32_cannot_square_is_no_loss_of_nothing(granularity: str) -> None:
    w = torch.ones(4, 40)
    w[:, 0] = 3e38
    rounded = round_weight(w, granularity)
    assert rounded.lost == pytest.approx(lost_exactly(w, rounded, granularity), rel=1e-3)
    w[:, 1:] = 1e-44
    assert 0 < round_weight(w, granularity).lost < 1e-150
    json.dumps(rounded.sqnr_db, allow_nan=False)


def test_a_group_that_becomes_zero_is_lost_as_a_whole() -> None:
    w = torch.full((2, 3), 1e-44)
    assert round_weight(w, "channel").lost == 1
    assert round_weight(torch.full((2, 3), 1e-60, dtype=torch.float64), "block").lost == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("granularity", ["channel", "block", "tensor"])
def test_absmax_shows_what_is_not_finite(bad: float, granularity: str) -> None:
    w = torch.ones(300, 300)
    w[200, 100] = bad
    assert not math.isfinite(round_weight(w, granularity).absmax)
    assert not math.isfinite(absmax(w))


def test_absmax_of_any_shape() -> None:
    assert absmax(torch.tensor([[[-3.0, 2.0]]])) == 3
    assert absmax(torch.empty(0, 4)) == 0


def test_one_thread_is_given_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
