"""Losses of E4M3 under each scaling, against casts of whole tensors in float64 and numpy's medians."""

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from octorec.kernels.fp8 import E4M3, E4M3_MAX, Granularity, dequantize, quantize
from octorec.numerics import checkpoint_files
from octorec.numerics.checkpoint_files import StoredTensor
from octorec.numerics.scale_groups import ScaleStats, _rounding_error, outlier_share
from octorec.numerics.stats import flat, flat_scales, measure

GROUPS: dict[str, tuple[int | None, int | None]] = {  # rows and columns of a group; None: all there are
    "channel": (1, None),
    "token": (1, None),
    "block": (128, 128),
    "group": (1, 128),
    "tensor": (None, None),
}


def matrix(kind: str, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 200, generator=generator)
    if kind == "two populations":
        x[:, ::7] *= 2.0**16
    elif kind == "sparse":
        x = torch.where(x > 0.5, x, 0.0)
        x[5] = 0
    elif kind == "heavy":
        x = x.sign() * x.abs() ** -1.5 * 1e-2
    elif kind == "tiny":
        x = x * 1e-6
    elif kind == "large":
        x = x * 400
    return x.clamp(-60000, 60000).to(dtype)


def groups_of(x: np.ndarray, granularity: str) -> list[np.ndarray]:
    height, width = (size or whole for size, whole in zip(GROUPS[granularity], x.shape, strict=True))
    rows, columns = range(0, x.shape[0], height), range(0, x.shape[1], width)
    return [x[r : r + height, c : c + width] for r in rows for c in columns]


def by_hand(x: Tensor, granularity: Granularity) -> ScaleStats:
    back = dequantize(quantize(x, granularity)).double()
    exact = x.double()
    noise = float((back - exact).square().sum())
    magnitudes = [np.abs(group).ravel() for group in groups_of(exact.numpy(), granularity)]
    some = [group[group > 0] for group in magnitudes if group.any()]
    ranges = [math.log2(group.max() / np.quantile(group, 0.5, method="inverted_cdf")) for group in some]
    return ScaleStats(
        sqnr=10 * math.log10(float(exact.square().sum()) / noise) if noise else math.inf,
        flushed=float(((back == 0) & (exact != 0)).double().mean()),
        saturated=0.0,
        range_p50=float(np.quantile(ranges, 0.5)),
        range_p99=float(np.quantile(ranges, 0.99)),
        range_max=max(ranges),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("kind", ["bell", "two populations", "sparse", "heavy", "tiny", "large"])
def test_against_whole_casts(monkeypatch: pytest.MonkeyPatch, kind: str, dtype: torch.dtype) -> None:
    monkeypatch.setattr(checkpoint_files, "STRIPE", 128 * 200)  # three stripes, the last of 44 rows
    x = matrix(kind, dtype)
    found = measure(StoredTensor("x", x), ("channel", "block", "group")).scales
    for name in ("channel", "block", "group", "tensor"):
        wanted = by_hand(x, name)
        assert found[name].flushed == wanted.flushed, name
        assert found[name].saturated == 0
        assert found[name].sqnr == pytest.approx(wanted.sqnr, abs=2e-3), name
        for field in ("range_p50", "range_p99", "range_max"):
            assert getattr(found[name], field) == pytest.approx(getattr(wanted, field), rel=1e-6), (name, field)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_plain_cast_flushes_and_saturates(dtype: torch.dtype) -> None:
    x = torch.cat([matrix("large", dtype), matrix("tiny", dtype)])
    found = measure(StoredTensor("x", x), ("channel",)).scales["unscaled"]
    cast = x.float().clamp(-E4M3_MAX, E4M3_MAX).to(E4M3).double()
    exact = x.double()
    assert found.flushed == pytest.approx(float(((cast == 0) & (exact != 0)).double().mean()))
    assert found.flushed > 0.4
    assert found.saturated == float((exact.abs() > 464).double().mean())
    assert found.saturated > 0.05
    noise = float((cast - exact).square().sum())
    assert found.sqnr == pytest.approx(10 * math.log10(float(exact.square().sum()) / noise), abs=1e-4)


def test_rounding_without_casts_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.cat([
        *(torch.randn(20_000, generator=generator) * 2.0**e for e in range(-14, 8)),
        torch.arange(-448, 448, 2.0**-6), torch.arange(-0.25, 0.25, 2.0**-12),
    ]).clamp(-E4M3_MAX, E4M3_MAX)  # fmt: skip
    error, kept = _rounding_error(y, torch.empty_like(y), torch.empty_like(y))
    cast = y.to(E4M3).float()
    assert torch.equal(error, (cast - y).abs())
    assert kept == int((cast != 0).sum())


def test_a_bell_curve_keeps_31_and_a_half_db() -> None:
    """The number that the advice's limits are made from."""
    x = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(1))
    scales = measure(StoredTensor("x", x), ("channel", "block")).scales
    assert scales["channel"].sqnr == pytest.approx(31.6, abs=0.15)
    assert scales["block"].sqnr == pytest.approx(31.5, abs=0.15)
    assert scales["channel"].flushed < 2e-5


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 5), (129, 127), (0, 4)])
@pytest.mark.parametrize("granularities", [("channel", "block"), ("token", "group")])
def test_odd_shapes(shape: tuple[int, int], granularities: Any) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    found = measure(StoredTensor("x", x), granularities).scales
    if x.numel() == 0:
        assert found == {}
        return
    for name in granularities:
        assert min(found[name].sqnr, 140) == pytest.approx(min(by_hand(x, name).sqnr, 140), abs=2e-3)  # float32's own
        assert found[name].range_max == pytest.approx(by_hand(x, name).range_max)


def test_outlier_channels() -> None:
    assert outlier_share(np.array([1.0, 1, 1, 10, 11, 0, 0])) == 0.2  # of five; ten times is not over ten times
    assert outlier_share(np.zeros(4)) == 0


def test_what_is_measured_is_not_changed() -> None:
    x = torch.randn(130, 70)
    x[0, 0], x[1, 1] = math.nan, math.inf
    before = x.clone()
    found = measure(StoredTensor("x", x), ("channel", "block"))
    assert torch.equal(x.nan_to_num(7), before.nan_to_num(7))
    assert (found.distribution.nan, found.distribution.inf) == (1, 1)
    assert all(25 < stats.sqnr < 35 for stats in found.scales.values())


def lost_exactly(x: Tensor, granularity: Granularity) -> float:
    """dB that the cast of `x` leaves, in Python's fractions, which have no range."""
    q = quantize(x, granularity)
    pairs = zip(x.flatten().tolist(), dequantize(q).flatten().tolist(), strict=True)
    exact = [(Fraction(a), Fraction(b)) for a, b in pairs]
    noise, signal = sum((a - b) ** 2 for a, b in exact), sum(a**2 for a, _ in exact)
    return 10 * math.log10(signal / noise) if noise else math.inf


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        *((dtype, size) for dtype in (torch.bfloat16, torch.float32) for size in (3e38, 1e30, 1e-30, 1e-38)),
        *((torch.float32, size) for size in (1e-41, 3e-43, 1e-44, 1.4e-45)),
        *((torch.bfloat16, 1e-40), (torch.float16, 6e4), (torch.float16, 6e-8), (torch.float64, 1e30)),
    ],
)
def test_what_is_lost_is_told_at_both_ends_of_every_range(dtype: torch.dtype, size: float) -> None:
    x = torch.randn(6, 150, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x / x.abs().max() * size).to(dtype)
    x[0], x[1] = 0, torch.where(x[1] != 0, x[1] * 1e-3, 0.0)
    measured = measure(StoredTensor("x", x), ("channel", "block", "group"))
    for name in ("channel", "block", "group", "tensor"):
        found = min(measured.scales[name].sqnr, 120.0)  # float32 leaves 140 dB of a value that E4M3 holds
        assert found == pytest.approx(min(lost_exactly(x, name), 120.0), abs=0.05), name
        flushed = ((dequantize(quantize(x, name)) == 0) & (x.float() != 0)).double().mean()
        assert measured.scales[name].flushed == pytest.approx(float(flushed), abs=2e-3), name
    numbers = {**flat(measured.distribution), **flat_scales(measured.scales, tuple(measured.scales))}
    json.dumps(numbers, allow_nan=False)


@pytest.mark.parametrize("small", [1.0, 1e-44])
def test_a_loss_that_float32_cannot_square_is_no_loss_of_nothing(small: float) -> None:
    x = torch.full((4, 140), small)
    x[:, 0] = 3e38
    scales = measure(StoredTensor("x", x), ("channel", "block")).scales
    signal, noise = 4 * (Fraction(3e38) ** 2), 4 * 139 * Fraction(small) ** 2
    wanted = 10 * (math.log10(signal) - math.log10(noise.numerator) + math.log10(noise.denominator))
    for name in ("channel", "tensor"):
        assert scales[name].sqnr == pytest.approx(wanted, abs=1)
    assert math.isfinite(scales["block"].sqnr)


def test_a_float64_that_float32_flushes_is_lost() -> None:
    x = torch.full((16, 16), 1e-300, dtype=torch.float64)
    scales = measure(StoredTensor("x", x), ("channel", "block")).scales
    assert {(each.sqnr, each.flushed) for each in scales.values()} == {(0.0, 1.0)}
    x[0] = 1.0
    assert measure(StoredTensor("x", x), ("channel",)).scales["channel"].flushed == 15 / 16
    beyond = measure(StoredTensor("x", x * 1e300), ("channel",)).distribution
    assert (beyond.inf, beyond.nan) == (16, 0)
