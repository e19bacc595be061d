"""Rounding in stripes equals the reference cast bit for bit, and its error is the error."""

import math

import pytest
import torch

from octorec.kernels.quantized import dequantize, quantize
from octorec.quant import rounding
from octorec.quant.rounding import absmax, one_thread, round_weight


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
    assert rounded.signal == pytest.approx(signal, rel=1e-5)
    assert rounded.noise == pytest.approx(noise, rel=1e-4)
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
