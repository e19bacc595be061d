"""The casts to FP8 are bit for bit those of the reference."""

import pytest
import sm90
import torch

from octorec.errors import InputError
from octorec.kernels.fp8 import Quantized
from octorec.kernels.fp8 import quantize as reference_quantize
from octorec.kernels.maybe_quantize import quantize

ROWS = ["token", "channel", "group"]


def assert_same_bits(got: Quantized, expected: Quantized) -> None:
    assert got.granularity == expected.granularity
    assert got.dtype == expected.dtype
    assert got.scale.shape == expected.scale.shape
    assert torch.equal(got.scale, expected.scale)
    assert got.values.shape == expected.values.shape
    assert torch.equal(got.values.view(torch.uint8), expected.values.view(torch.uint8))


def hard(*shape: int, device: str) -> torch.Tensor:
    """Values over many magnitudes, with a row of zeros and a column of halves (ties)."""
    x = torch.randn(*shape, device=device) * torch.logspace(-6, 4, shape[-1], device=device)
    x[..., 0, :] = 0
    x[..., 0] = x[..., 0].round() + 0.5
    return x


@pytest.mark.parametrize("granularity", ROWS)
@pytest.mark.parametrize("shape", [(1, 8), (5, 128), (7, 200), (2, 384), (2, 600), (3, 1408), (2, 1536)], ids=str)
@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in (torch.float16, torch.float32))],
    ids=str,
)
def test_rows(shape: tuple[int, int], granularity: str, dtype: torch.dtype, device: str) -> None:
    x = hard(*shape, device=device).clamp(-6e4, 6e4).to(dtype)
    assert_same_bits(quantize(x, granularity), reference_quantize(x, granularity))


@pytest.mark.parametrize("shape", [(8, 8), (128, 256), (136, 200), (3, 130, 24), (2, 2, 9, 8)], ids=str)
def test_blocks(shape: tuple[int, ...], device: str) -> None:
    x = hard(*shape, device=device).to(torch.bfloat16)
    assert_same_bits(quantize(x, "block"), reference_quantize(x, "block"))


@pytest.mark.parametrize("granularity", ROWS)
def test_experts_come_first(granularity: str, device: str) -> None:
    x = hard(3, 6, 200, device=device).to(torch.bfloat16)
    assert_same_bits(quantize(x, granularity), reference_quantize(x, granularity))


def test_group_scales_lie_m_major_with_rows_padded_to_4(device: str) -> None:
    scale = quantize(torch.randn(5, 300, device=device), "group").scale
    assert scale.stride() == (1, 8)


@pytest.mark.slow
def test_every_quotient_of_bf16_mantissas(device: str) -> None:
    """Row i: absmax (128 + i)/128, and all bf16 mantissas below it, as E4M3's normal and subnormal numbers."""
    mantissas = torch.arange(128, 256, device=device) / 128
    smaller = (mantissas * 2.0 ** -torch.tensor([1, 2, 6, 15, 16, 17, 18], device=device)[:, None]).flatten()
    x = torch.cat([mantissas[:, None], smaller.expand(128, -1)], 1).to(torch.bfloat16)
    for power, rows in ((0, x), (-110, x[::16]), (120, x[::16])):
        scaled = rows * 2.0**power
        assert_same_bits(quantize(scaled, "token"), reference_quantize(scaled, "token"))


@pytest.mark.parametrize("granularity", [*ROWS, "block"])
def test_nan_is_not_hidden(granularity: str, device: str) -> None:
    x = torch.randn(2, 40, device=device)
    x[1, 3] = float("nan")
    values = quantize(x, granularity).values.float()
    assert values.isnan().nonzero().tolist() == [[1, 3]]


def test_refuses_what_it_cannot_do(device: str) -> None:
    with pytest.raises(InputError, match="granularity"):
        quantize(torch.randn(2, 8, device=device), "tensor")
    with pytest.raises(InputError, match="row width"):
        quantize(torch.empty(1, 20000, device=device), "token")


def launch(shape: tuple[int, ...], granularity: str) -> None:
    quantize(torch.empty(shape, dtype=torch.bfloat16, device="meta"), granularity)


@pytest.mark.parametrize("capability", sm90.CAPABILITIES)
@pytest.mark.parametrize(
    ("shape", "granularity"), [((16384, 1408), "token"), ((16384, 7168), "group"), ((54, 2816, 1408), "block")]
)
def test_machine_code(shape: tuple[int, ...], granularity: str, capability: int) -> None:
    (code,) = sm90.compile_launches(launch, shape, granularity, capability=capability)
    assert code.spills == 0
    assert code.instructions.get("LDG", 0) > 0
