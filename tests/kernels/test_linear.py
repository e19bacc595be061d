"""FP8 linear layers: torch's and ours are the reference's product, and say what they cannot do."""

import pytest
import torch
from closeness import assert_product, assert_within_a_step

from octorec.errors import InputError
from octorec.kernels import fused, products, reference
from octorec.kernels.fp8 import Quantized, dequantize, quantize
from octorec.kernels.linear import linear
from octorec.kernels.products import Row


def operands(of_x: str, of_weight: str, device: str) -> tuple[Quantized, Quantized]:
    x, weight = (
        torch.randn(37, 80, device=device),
        torch.randn(48, 80, device=device) * torch.rand(48, 1, device=device),
    )
    return quantize(x.to(torch.bfloat16), of_x), quantize(weight.to(torch.bfloat16), of_weight)


@pytest.mark.parametrize(
    ("of_x", "of_weight", "by"), [("token", "channel", "torch"), ("token", "channel", "ours"), ("group", "block", None)]
)
@pytest.mark.parametrize("accumulate", ["float32", "fast"])
def test_product(of_x: str, of_weight: str, by: str, accumulate: str, device: str) -> None:
    x, weight = operands(of_x, of_weight, device)
    out = linear(x, weight, None, accumulate, by)
    expected = reference.linear(x, weight)
    assert out.dtype == expected.dtype
    if device == "cpu" or accumulate == "float32":
        assert_product(out, dequantize(x), dequantize(weight))
    assert (out.float() - expected.float()).norm() / expected.float().norm() < 5e-3


@pytest.mark.parametrize(("of_x", "of_weight"), [("token", "channel"), ("group", "block")])
@pytest.mark.parametrize("accumulate", ["float32", "fast"])
@pytest.mark.parametrize("large", [1.0, 100.0])  # a residual that a second rounding would show in
def test_residual(of_x: str, of_weight: str, accumulate: str, large: float, device: str) -> None:
    x, weight = operands(of_x, of_weight, device)
    residual = (torch.randn(37, 48, device=device) * large).to(torch.bfloat16)
    out = linear(x, weight, residual, accumulate)
    expected = reference.linear(x, weight, residual)
    if large > 1:
        assert_within_a_step(out, expected, 0.02)
    assert (out.float() - expected.float()).norm() / expected.float().norm() < 5e-3


def test_residual_in_16_bit_is_rounded_once(device: str) -> None:
    x, weight, residual = (torch.randn(n, m, device=device).to(torch.bfloat16) for n, m in ((9, 32), (24, 32), (9, 24)))
    product = x.double() @ weight.double().T
    # on a GPU cuBLAS may round a product that it splits over K before it adds
    size = (residual + product).abs() + (0 if device == "cpu" else product.abs() + residual.abs())
    for ops in (fused, reference):
        difference = (ops.linear(x, weight, residual.clone()).double() - residual - product).abs()
        assert (difference <= 2**-8 * 1.01 * size + 1e-5).all(), difference.max()


def test_the_table_chooses(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    x, weight = operands("token", "channel", device)
    monkeypatch.setattr(torch, "_scaled_mm", lambda *args, **kwargs: "torch")
    assert linear(x, weight) == "torch"
    monkeypatch.setattr(products, "TABLE", (Row("triton", "rows", sums="fast", shapes=((48, 80),)), *products.TABLE))
    assert_product(linear(x, weight), dequantize(x), dequantize(weight))
    assert linear(x, weight, None, "float32") == "torch"


def test_16_bit_goes_to_torch(device: str) -> None:
    x, weight = torch.randn(3, 12, device=device), torch.randn(5, 12, device=device)
    assert torch.equal(fused.linear(x, weight), torch.nn.functional.linear(x, weight))


def test_refuses_what_it_cannot_do(device: str) -> None:
    x, weight = operands("token", "channel", device)
    narrow = Quantized(weight.values[:40], weight.scale[:40], "channel", weight.dtype)
    with pytest.raises(InputError, match="output width"):
        linear(x, narrow, by="torch")
    with pytest.raises(InputError, match="granularities"):
        linear(x, operands("group", "block", device)[1])
    with pytest.raises(InputError, match="both in FP8"):
        linear(x, torch.randn(48, 80, device=device))
