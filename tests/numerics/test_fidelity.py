"""The gate on weights: honest rounding passes at any width and any number of rows, and scales a little off do not."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from octorec.kernels.fp8 import Granularity, Quantized, dequantize, expand_scale, quantize
from octorec.numerics.fidelity import HALF_STEPS, WEIGHT_DB, half_steps, layer_fidelity, row_sqnr
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_model


def matrix(kind: str, rows: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows + columns)
    x = torch.randn(rows, columns, generator=generator)
    return (
        {
            "bell": x,
            "heavy": x.sign() * x.abs() ** -1.2,
            "three values": x.round().clamp(-1, 1) * 0.02,
            "halfway": torch.where(x > 0, 17 / 16 * 256, 448.0),  # every other value as far from E4M3's as can be
            "two populations": x * torch.where(torch.arange(columns) % 7 == 0, 2.0**14, 1.0),
            "huge": x.clamp(-3, 3) * 1e38,
            "tiny": x * 1e-41,
            "zeros": x * 0,
        }[kind]
        .bfloat16()
        .float()
    )


KINDS = ("bell", "heavy", "three values", "halfway", "two populations", "huge", "tiny", "zeros")


@pytest.mark.parametrize("granularity", ["channel", "block", "tensor"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(300, 1), (300, 2), (2048, 32), (4096, 64), (256, 640)])
def test_honest_rounding_is_within_half_a_step(granularity: Granularity, kind: str, rows: int, columns: int) -> None:
    w = matrix(kind, rows, columns)
    found = half_steps(w, quantize(w, granularity))
    assert float(found.max()) <= 1.001
    if granularity == "channel" and kind != "tiny":
        assert float(row_sqnr(w, dequantize(quantize(w, granularity))).min()) >= WEIGHT_DB


@pytest.mark.slow
def test_many_honest_rows_of_few_values_are_below_the_mean_and_pass() -> None:
    """In dB the worst of half a million rows falls under what a fault leaves of a wide one."""
    w = torch.randn(524_288, 64, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    q = quantize(w, "block")
    assert WEIGHT_DB < float(row_sqnr(w, dequantize(q)).min()) < 28
    assert float(half_steps(w, q).max()) < 1


def scaled(q: Quantized, factor: float) -> Quantized:
    return replace(q, scale=q.scale * factor)


@pytest.mark.parametrize("granularity", ["channel", "block"])
@pytest.mark.parametrize("columns", [32, 64, 256, 1408])
@pytest.mark.parametrize("factor", [1.05, 0.95, 1.25, 0.5])
def test_scales_that_are_off_are_no_rounding(granularity: Granularity, columns: int, factor: float) -> None:
    w = matrix("bell", 512, columns)
    found = half_steps(w, scaled(quantize(w, granularity), factor))
    assert float(found.max()) > HALF_STEPS
    assert float(found.mean()) > HALF_STEPS


def test_a_scale_that_flushes_a_row_keeps_too_little_of_it() -> None:
    w = matrix("bell", 64, 256)
    q = quantize(w, "channel")
    scale = q.scale.clone()
    scale[3] *= 1e6
    values = (w / expand_scale(scale, "channel", w.shape)).to(q.values.dtype)
    flushed = Quantized(values, scale, "channel", torch.float32)
    assert float(half_steps(w, flushed).max()) <= 1  # rounded as it should be, under a scale that should not be
    assert float(row_sqnr(w, dequantize(flushed)).min()) < WEIGHT_DB


def test_what_is_not_finite_is_never_within_a_limit() -> None:
    w = matrix("bell", 8, 32)
    q = quantize(w, "channel")
    q.values.view(torch.uint8)[2, 3] = 0x7F  # NaN
    found = half_steps(w, q)
    assert math.isnan(float(found[2]))
    assert not float(found.max()) <= HALF_STEPS


@pytest.mark.parametrize(
    ("recipe", "sizes"),
    [
        ("fp8-channel", {"d_expert": 32}),
        ("fp8", {"d_model": 64, "d_expert": 128, "d_ff": 128}),
        ("fp8-block", {"d_model": 128, "d_expert": 128, "d_ff": 128}),
    ],
)
def test_every_layer_of_an_honest_checkpoint_is_safe_at_any_width(
    make_checkpoint: Any, tmp_path: Path, recipe: str, sizes: dict[str, int]
) -> None:
    folder = make_checkpoint("tiny", **sizes)
    quantize_checkpoint(folder, tmp_path / "fp8", recipe)
    generator = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.randint(size, (64, 8), generator=generator) for size in (7, 5, 6)], -1)
    batch = {"lengths": torch.full((64,), 8), "codes": codes, "user": torch.zeros(64, 0)}
    layers = layer_fidelity(load_model(folder), load_model(tmp_path / "fp8"), batch, codes[:, 0])
    assert len(layers) == 16
    assert all(layer.safe for layer in layers), [layer for layer in layers if not layer.safe]
