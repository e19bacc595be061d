"""The interpreter rounds as torch, and so as a GPU, does."""

import pytest
import torch
import triton
import triton.language as tl

from octorec.kernels.fp8 import E4M3, E4M3_MAX

SWEEP = torch.cat(
    [
        torch.linspace(-500, 500, 4001),
        torch.logspace(-12, 3, 2000) * torch.tensor([1.0, -1.0]).repeat(1000),
        torch.tensor([-127.9, 0.0, -0.0, 2**-10, 2**-9 * 1.5, 447.9, 448.0, 464.0, 1e9, -1e9, float("nan")]),
    ]
)


@triton.jit
def _cast(x_ptr, out_ptr, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.load(x_ptr + i, i < n).to(out_ptr.dtype.element_ty), i < n)


@triton.jit
def _dot(a_ptr, b_ptr, out_ptr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    tl.store(out_ptr + i, tl.dot(tl.load(a_ptr + i), tl.load(b_ptr + i)))


@triton.jit
def _add(a_ptr, out_ptr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, SIZE)
    tl.store(out_ptr + i, tl.load(a_ptr + i) + tl.load(a_ptr + i))


def cast(x: torch.Tensor, to: torch.dtype) -> torch.Tensor:
    out = torch.empty(x.shape, dtype=to, device=x.device)
    _cast[(triton.cdiv(len(x), 256),)](x, out, len(x), BLOCK=256)
    return out


def test_every_e4m3_code_widens_exactly(device: str) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(E4M3).to(device)
    for wide in (torch.float32, torch.bfloat16):
        torch.testing.assert_close(cast(codes, wide), codes.to(wide), rtol=0, atol=0, equal_nan=True)


def test_every_e4m3_code_survives_a_round_trip(device: str) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    back = cast(codes.view(E4M3).to(device).float(), E4M3).view(torch.uint8).cpu()
    finite = (codes & 0x7F) != 0x7F
    assert torch.equal(back[finite], codes[finite])
    assert ((back[~finite] & 0x7F) == 0x7F).all()


def test_casts_to_e4m3_round_to_nearest_even_and_saturate(device: str) -> None:
    table = torch.arange(127, dtype=torch.uint8).view(E4M3).double()  # the finite values from 0 up
    x = SWEEP[~SWEEP.isnan()]
    distance = (x.double().abs().clamp(max=E4M3_MAX)[:, None] - table).abs()
    nearest = distance == distance.min(1, keepdim=True).values
    even = nearest & (torch.arange(127) % 2 == 0)  # at most two are nearest, and one of neighbours is even
    code = torch.where(nearest.sum(1) > 1, even.int().argmax(1), nearest.int().argmax(1))
    assert torch.equal(cast(x.to(device), E4M3).float().cpu(), (table[code] * x.double().sign()).float())
    assert cast(torch.tensor([float("nan")], device=device), E4M3).float().isnan().all()


def test_casts_to_bf16_round_to_nearest_even(device: str) -> None:
    bits = SWEEP.view(torch.int32).long()
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).int().view(torch.float32)
    expected = torch.where(SWEEP.isnan(), SWEEP, rounded)
    torch.testing.assert_close(
        cast(SWEEP.to(device), torch.bfloat16).float().cpu(), expected, rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's FP8 sums are shorter")
@pytest.mark.parametrize("dtype", [torch.bfloat16, E4M3], ids=str)
def test_products_are_exact_with_float32_sums(dtype: torch.dtype, device: str) -> None:
    a, b = (torch.randn(32, 32, device=device).to(dtype) for _ in range(2))
    out = torch.empty(32, 32, device=device)
    _dot[(1,)](a, b, out, SIZE=32)
    torch.testing.assert_close(out.double(), a.double() @ b.double(), rtol=0, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU adds BF16")
def test_arithmetic_on_raw_bits_is_refused() -> None:
    a = torch.ones(16, dtype=torch.bfloat16)
    with pytest.raises(Exception, match="convert to float32 first"):
        _add[(1,)](a, torch.empty_like(a), SIZE=16)


def test_fresh_memory_is_poisoned(device: str) -> None:
    for dtype in (torch.float32, torch.bfloat16, E4M3):
        assert torch.empty(3, 5, dtype=dtype, device=device).float().isnan().all()
    assert (torch.empty(3, dtype=torch.int32, device=device) == 0x7F7F7F7F).all()
    assert torch.ones(2).new_empty(4).isnan().all()
