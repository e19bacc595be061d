"""FP8 modules against products of the dequantized operands."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels import reference
from octorec.kernels.fp8 import Quantized, dequantize, quantize
from octorec.kernels.ops import Routing
from octorec.kernels.steady import product
from octorec.quant.modules import FP8Experts, FP8Linear

SCHEMES = [("channel", "token"), ("block", "group"), ("channel", "tensor"), ("block", "token")]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(weight: Tensor, weights: Any, activations: Any, dtype: torch.dtype) -> tuple[FP8Linear, Quantized]:
    n, k = weight.shape
    module, q = FP8Linear(k, n, weights, activations, dtype, reference), quantize(weight, weights)
    module.weight.copy_(q.values)
    module.weight_scale.copy_(q.scale)
    return module, q


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("weights", "activations"), SCHEMES)
def test_linear_is_the_product_of_what_its_operands_stand_for(
    weights: Any, activations: Any, dtype: torch.dtype
) -> None:
    module, w = linear(random(200, 300), weights, activations, dtype)
    x = random(7, 300, seed=1).to(dtype)
    wanted = product(dequantize(quantize(x, activations)), dequantize(w)).to(dtype)
    assert torch.equal(module(x), wanted)
    assert torch.equal(module(quantize(x, activations)), wanted)
    exact = x.double() @ random(200, 300).double().T
    assert float((wanted.double() - exact).norm() / exact.norm()) < 0.045


def test_an_operand_quantized_otherwise_is_our_mistake() -> None:
    module, _ = linear(random(8, 8), "channel", "token", torch.float32)
    with pytest.raises(AssertionError):
        module(quantize(random(4, 8), "group"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("weights", "activations"), SCHEMES[:2])
def test_experts(weights: Any, activations: Any, dtype: torch.dtype) -> None:
    experts, width, hidden, rows = 4, 256, 128, 9
    module = FP8Experts(experts, width, hidden, weights, activations, dtype, reference)
    gate_up, down = random(experts, 2 * hidden, width, seed=1) / 16, random(experts, width, hidden, seed=2) / 16
    for name, weight in (("gate_up_proj", gate_up), ("down_proj", down)):
        q = quantize(weight, weights)
        getattr(module, name).copy_(q.values)
        getattr(module, f"{name}_scale").copy_(q.scale)
    x = random(rows, width, seed=3).to(dtype)
    chosen = torch.tensor([[row % 3, 3] for row in range(rows)])  # two experts a row
    shares = torch.rand(rows, 2, generator=torch.Generator().manual_seed(4))
    residual = random(rows, width, seed=5).to(dtype)
    found = module(x, Routing(chosen, shares), residual)
    assert found.dtype == dtype

    def back(tensor: Tensor, granularity: Any) -> Tensor:
        return dequantize(quantize(tensor, granularity))

    for row in range(rows):
        wanted = residual[row].float()
        for slot in range(2):
            expert = int(chosen[row, slot])
            pre = (back(x[row : row + 1], activations) @ back(gate_up[expert], weights).T).to(dtype).float()
            act = (F.silu(pre[:, :hidden]) * pre[:, hidden:]).to(dtype)
            out = (back(act, activations) @ back(down[expert], weights).T).to(dtype)
            wanted += out[0].float() * shares[row, slot]
        assert torch.allclose(found[row].float(), wanted, rtol=0.02, atol=0.002 if dtype == torch.float32 else 0.02)
