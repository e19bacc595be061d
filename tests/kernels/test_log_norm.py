"""The log-sum-exp over a vocabulary, against float64."""

import pytest
import sm90
import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels import stock
from octorec.kernels.log_norm import NARROW, WIDE, log_norm, together
from octorec.kernels.products import Tile

SMALL = Tile(rows=16, columns=32, halves=1, depth=32, band=2, warps=4, stages=2)
SHAPES = {"one": (1, 1, 16), "odd": (19, 77, 40), "even": (16, 64, 32), "many tiles": (5, 32 * 70 + 3, 16)}  # T, V, K


def expected(x: Tensor, weight: Tensor) -> Tensor:
    return (x.double() @ weight.double().T).logsumexp(-1).float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_agrees_with_float64(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> None:
    rows, vocabulary, k = shape
    x, weight = (torch.randn(size, k, device=device).to(dtype) for size in (rows, vocabulary))
    found = log_norm(x, weight, SMALL)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected(x, weight), atol=1e-5, rtol=1e-6)


def test_large_logits_do_not_overflow(device: str) -> None:
    x, weight = torch.randn(3, 32, device=device).bfloat16() * 100, torch.randn(77, 32, device=device).bfloat16() * 10
    torch.testing.assert_close(log_norm(x, weight, SMALL), expected(x, weight), atol=1e-3, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:invalid value")
def test_a_row_that_is_nan_is_told_and_no_other_is_touched(device: str) -> None:
    x, weight = torch.randn(5, 32, device=device).bfloat16(), torch.randn(77, 32, device=device).bfloat16()
    before = log_norm(x, weight, SMALL)
    x[2, 7] = float("nan")
    after = log_norm(x, weight, SMALL)
    assert after[2].isnan()
    assert after[[0, 1, 3, 4]].equal(before[[0, 1, 3, 4]])


def test_a_row_does_not_depend_on_the_others(device: str) -> None:
    x, weight = torch.randn(19, 40, device=device).bfloat16(), torch.randn(77, 40, device=device).bfloat16()
    assert log_norm(x, weight, SMALL)[17:18].equal(log_norm(x[17:18].clone(), weight, SMALL))


def test_parts_are_taken_together(device: str) -> None:
    parts = torch.randn(130, 70, device=device) * 20
    torch.testing.assert_close(together(parts), parts.double().logsumexp(0).float(), atol=1e-5, rtol=1e-6)


def test_refuses_what_it_cannot_do(device: str) -> None:
    x = torch.randn(3, 36, device=device)
    with pytest.raises(InputError, match="hidden_size"):
        log_norm(x.bfloat16(), x.bfloat16())
    with pytest.raises(InputError, match="dtype"):
        log_norm(x[:, :32].contiguous(), x[:, :32].contiguous())


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 64, 300, 2048])
def test_agrees_with_float64_at_real_sizes(rows: int, device: str) -> None:
    x, weight = torch.randn(rows, 2048, device=device).bfloat16(), torch.randn(50_003, 2048, device=device).bfloat16()
    weight *= 0.05
    found = log_norm(x, weight)
    pieces = torch.stack([expected(x, part) for part in weight.split(2**13)], 1)
    torch.testing.assert_close(found, pieces.double().logsumexp(1).float(), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found, stock.log_norm(x, weight), atol=1e-4, rtol=1e-5)
    assert found[-1:].equal(log_norm(x[-1:].clone(), weight))


def launch(rows: int, vocabulary: int, width: int, tile: Tile) -> None:
    x, weight = (torch.empty(size, width, dtype=torch.bfloat16, device="meta") for size in (rows, vocabulary))
    log_norm(x, weight, tile)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [90, 89, 100])
@pytest.mark.parametrize("vocabulary", [176_384, 151_936 + 3])
def test_machine_code(vocabulary: int, capability: int) -> None:
    tile = NARROW if capability == 89 else WIDE
    product, combined = sm90.compile_launches(launch, 2048, vocabulary, 2048, tile, capability=capability)
    assert product.uses({90: "HGMMA", 89: "HMMA", 100: "UTCHMMA"}[capability])
    assert product.spills == combined.spills == 0
    assert product.shared <= sm90.MAX_SHARED[capability]
