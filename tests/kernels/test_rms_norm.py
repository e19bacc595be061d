"""Residual add, norm and quantization in one pass, against the reference."""

import pytest
import sm90
import torch
from closeness import assert_same_quantized, assert_within_a_step

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.quantized import Quantized
from octorec.kernels.rms_norm import add_rms_norm, rms_norm

EPS = 1e-6


def inputs(rows: int, width: int, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    residual = torch.randn(rows, width, device=device) * 3
    delta = torch.randn(rows, width, device=device) * 0.1
    weight = 1 + torch.randn(width, device=device) * 0.2
    return residual.to(dtype), delta.to(dtype), weight.to(dtype)


@pytest.mark.parametrize("shape", [(1, 8), (6, 200), (5, 1408)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_norm_and_sum(shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
    residual, delta, weight = inputs(*shape, dtype, device)
    total, normed = add_rms_norm(residual, delta, weight, EPS, None)
    expected_total, expected = reference.add_rms_norm(residual, delta, weight, EPS, None)
    assert torch.equal(total, expected_total)
    assert_within_a_step(normed, expected)


@pytest.mark.parametrize("granularity", ["token", "group"])
@pytest.mark.parametrize("shape", [(1, 8), (6, 200), (5, 1408)], ids=str)
@pytest.mark.parametrize("with_delta", [True, False])
def test_quantized(shape: tuple[int, int], granularity: str, with_delta: bool, device: str) -> None:
    residual, delta, weight = inputs(*shape, torch.bfloat16, device)
    added = delta if with_delta else None
    total, normed = add_rms_norm(residual, added, weight, EPS, granularity)
    expected_total, expected = reference.add_rms_norm(residual, added, weight, EPS, granularity)
    assert torch.equal(total, expected_total)
    assert isinstance(normed, Quantized)
    assert_same_quantized(normed, expected)


def test_without_delta_the_residual_comes_back(device: str) -> None:
    residual, _, weight = inputs(3, 64, torch.bfloat16, device)
    total, normed = add_rms_norm(residual, None, weight, EPS, None)
    assert total is residual
    assert_within_a_step(normed, reference.rms_norm(residual, weight, EPS))


def test_norm_of_a_slice_with_leading_dimensions(device: str) -> None:
    x = torch.randn(2, 3, 2, 40, device=device).to(torch.bfloat16)[:, :, 1]
    weight = torch.rand(40, device=device)
    assert_within_a_step(rms_norm(x, weight, EPS), reference.rms_norm(x, weight, EPS))


def test_a_row_does_not_depend_on_its_neighbours(device: str) -> None:
    residual, delta, weight = inputs(7, 200, torch.bfloat16, device)
    _, together = add_rms_norm(residual, delta, weight, EPS, None)
    _, alone = add_rms_norm(residual[4:5].clone(), delta[4:5].clone(), weight, EPS, None)
    assert torch.equal(together[4:5], alone)


def test_refuses_what_it_cannot_do(device: str) -> None:
    residual, delta, weight = inputs(2, 16, torch.bfloat16, device)
    with pytest.raises(InputError, match="granularity"):
        add_rms_norm(residual, delta, weight, EPS, "block")


def launch(rows: int, width: int, granularity: str | None) -> None:
    x = torch.empty(rows, width, dtype=torch.bfloat16, device="meta")
    add_rms_norm(x, x, torch.empty(width, dtype=torch.bfloat16, device="meta"), EPS, granularity)


@pytest.mark.parametrize("capability", [90, 89])
@pytest.mark.parametrize("granularity", [None, "token", "group"])
def test_machine_code(granularity: str | None, capability: int) -> None:
    (code,) = sm90.compile_launches(launch, 16384, 1408, granularity, capability=capability)
    assert code.spills == 0
    assert code.registers <= 64  # eight programs of four warps fit a multiprocessor
