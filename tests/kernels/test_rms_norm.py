"""Norm and quantization in one pass, against the reference."""

import pytest
import sm90
import torch
from closeness import assert_same_quantized, assert_within_a_step

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.fp8 import Granularity, Quantized
from octorec.kernels.rms_norm import rms_norm
from octorec.kernels.rows import row_tiles

EPS = 1e-6
SHAPES = [(1, 8), (2, 128), (6, 200), (2, 384), (2, 600), (5, 1408), (2, 1500), (2, 1536), (2, 1792)]


def inputs(rows: int, width: int, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(rows, width, device=device) * 3
    weight = 1 + torch.randn(width, device=device) * 0.2
    return x.to(dtype), weight.to(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_norm(shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
    x, weight = inputs(*shape, dtype, device)
    assert_within_a_step(rms_norm(x, weight, EPS), reference.rms_norm(x, weight, EPS))


@pytest.mark.parametrize("granularity", ["token", "group"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_quantized(shape: tuple[int, int], granularity: str, device: str) -> None:
    x, weight = inputs(*shape, torch.bfloat16, device)
    normed = rms_norm(x, weight, EPS, granularity)
    assert isinstance(normed, Quantized)
    assert_same_quantized(normed, reference.rms_norm(x, weight, EPS, granularity))


def test_norm_of_a_slice_with_leading_dimensions(device: str) -> None:
    x = torch.randn(2, 3, 2, 40, device=device).to(torch.bfloat16)[:, :, 1]
    weight = torch.rand(40, device=device)
    assert_within_a_step(rms_norm(x, weight, EPS), reference.rms_norm(x, weight, EPS))


@pytest.mark.parametrize("width", [200, 1408])
def test_a_row_does_not_depend_on_its_neighbours(width: int, device: str) -> None:
    x, weight = inputs(7, width, torch.bfloat16, device)
    assert torch.equal(rms_norm(x, weight, EPS)[4:5], rms_norm(x[4:5].clone(), weight, EPS))


@pytest.mark.parametrize("granularity", [None, "token", "group"])
@pytest.mark.parametrize("large", [1e30, 3e38, float("inf"), float("nan")])
def test_a_row_whose_squares_overflow_is_nan_and_no_other(
    large: float, granularity: Granularity | None, device: str
) -> None:
    x, weight = inputs(3, 200, torch.bfloat16, device)
    x[1, 7] = large
    for norm in (rms_norm, reference.rms_norm):
        found = norm(x, weight, EPS, granularity)
        values = found.values.float() if isinstance(found, Quantized) else found
        assert values.isnan().all(1).tolist() == [False, True, False]
        assert values[[0, 2]].isfinite().all()


def test_refuses_what_it_cannot_do(device: str) -> None:
    x, weight = inputs(2, 16, torch.bfloat16, device)
    with pytest.raises(InputError, match="granularity"):
        rms_norm(x, weight, EPS, "block")
    with pytest.raises(InputError, match="row width"):
        rms_norm(torch.empty(1, 20000, device=device), torch.empty(20000, device=device), EPS)


def test_tiles_hold_a_row_with_little_beyond_it() -> None:
    expected = {1: 1, 2: 2, 3: 4, 5: 6, 8: 8, 9: 10, 11: 12, 12: 12, 16: 16, 44: 48, 128: 128}  # groups of 128 values
    for groups, padded in expected.items():
        for width in (groups * 128 - 127, groups * 128):
            tiles, in_tile, warps = row_tiles(width)
            assert tiles * in_tile == padded
            assert padded * 128 <= 48 * 32 * warps  # values a lane


def launch(rows: int, width: int, granularity: Granularity | None, dtype: torch.dtype = torch.bfloat16) -> None:
    x = torch.empty(rows, width, dtype=dtype, device="meta")
    rms_norm(x, torch.empty(width, dtype=dtype, device="meta"), EPS, granularity)


@pytest.mark.parametrize("capability", sm90.CAPABILITIES)
@pytest.mark.parametrize(
    ("granularity", "allowed"),
    [*(pytest.param(*each, marks=pytest.mark.slow) for each in ((None, 10), ("token", 22))), ("group", 24)],
)
def test_machine_code(granularity: str | None, allowed: int, capability: int) -> None:
    """One tile [16, 128] in four warps would take 18, 34 and 33 instructions a value."""
    (code,) = sm90.compile_launches(launch, 16384, 1408, granularity, capability=capability)
    assert code.spills == 0
    assert code.registers * code.warps <= 96  # twenty rows fit a multiprocessor
    instructions = sum(count for opcode, count in code.instructions.items() if opcode != "NOP")
    assert instructions * code.warps * 32 / 1408 <= allowed


@pytest.mark.slow
@pytest.mark.parametrize("width", [1500, 640, 1024, 2048, 5632, 16384])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_no_width_spills(width: int, dtype: torch.dtype) -> None:
    for granularity in (None, "token", "group"):
        (code,) = sm90.compile_launches(launch, 64, width, granularity, dtype)
        assert code.spills == 0
