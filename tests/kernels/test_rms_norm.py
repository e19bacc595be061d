"""Norm and quantization in one pass, against the reference."""

import pytest
import sm90
import torch
from closeness import assert_same_quantized, assert_within_a_step

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.quantized import Quantized
from octorec.kernels.rms_norm import rms_norm

EPS = 1e-6


def inputs(rows: int, width: int, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(rows, width, device=device) * 3
    weight = 1 + torch.randn(width, device=device) * 0.2
    return x.to(dtype), weight.to(dtype)


@pytest.mark.parametrize("shape", [(1, 8), (6, 200), (5, 1408)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_norm(shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
    x, weight = inputs(*shape, dtype, device)
    assert_within_a_step(rms_norm(x, weight, EPS), reference.rms_norm(x, weight, EPS))


@pytest.mark.parametrize("granularity", ["token", "group"])
@pytest.mark.parametrize("shape", [(1, 8), (6, 200), (5, 1408)], ids=str)
def test_quantized(shape: tuple[int, int], granularity: str, device: str) -> None:
    x, weight = inputs(*shape, torch.bfloat16, device)
    normed = rms_norm(x, weight, EPS, granularity)
    assert isinstance(normed, Quantized)
    assert_same_quantized(normed, reference.rms_norm(x, weight, EPS, granularity))


def test_norm_of_a_slice_with_leading_dimensions(device: str) -> None:
    x = torch.randn(2, 3, 2, 40, device=device).to(torch.bfloat16)[:, :, 1]
    weight = torch.rand(40, device=device)
    assert_within_a_step(rms_norm(x, weight, EPS), reference.rms_norm(x, weight, EPS))


def test_a_row_does_not_depend_on_its_neighbours(device: str) -> None:
    x, weight = inputs(7, 200, torch.bfloat16, device)
    assert torch.equal(rms_norm(x, weight, EPS)[4:5], rms_norm(x[4:5].clone(), weight, EPS))


def test_refuses_what_it_cannot_do(device: str) -> None:
    x, weight = inputs(2, 16, torch.bfloat16, device)
    with pytest.raises(InputError, match="granularity"):
        rms_norm(x, weight, EPS, "block")


def launch(rows: int, width: int, granularity: str | None) -> None:
    x = torch.empty(rows, width, dtype=torch.bfloat16, device="meta")
    rms_norm(x, torch.empty(width, dtype=torch.bfloat16, device="meta"), EPS, granularity)


@pytest.mark.parametrize("capability", [90, 89])
@pytest.mark.parametrize("granularity", [None, "token", "group"])
def test_machine_code(granularity: str | None, capability: int) -> None:
    (code,) = sm90.compile_launches(launch, 16384, 1408, granularity, capability=capability)
    assert code.spills == 0
    assert code.registers <= 64  # eight programs of four warps fit a multiprocessor
