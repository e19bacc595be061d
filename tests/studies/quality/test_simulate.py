"""What the proof simulates is what OctoRec computes, where OctoRec computes it too."""

import pytest
import torch

from octorec.kernels.fp8 import dequantize, quantize
from octorec.models.model import Inputs
from octorec.models.onerec import OneRecV2
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_model
from studies.quality.simulate import SIMULATIONS, Scheme, Simulation, rounded, simulate


@pytest.mark.parametrize("granularity", ["tensor", "channel", "block", "token", "group"])
def test_e4m3_is_the_products_own_rounding(granularity: str) -> None:
    x = torch.randn(3, 200, 130) * torch.logspace(-3, 3, 130)
    assert torch.equal(rounded(x, granularity), dequantize(quantize(x, granularity)))


def test_e5m2_keeps_two_bits() -> None:
    x = torch.linspace(1, 57344, 5000)[None]
    error = (rounded(x, "tensor", "e5m2") - x).abs() / x
    assert 0.1 < error.max() <= 0.125


def test_parts_have_scales_of_their_own() -> None:
    weight = torch.cat([torch.randn(8, 16), 100 * torch.randn(8, 16)])
    both = torch.cat([rounded(half, "tensor") for half in weight.chunk(2)])
    assert torch.equal(rounded(weight, "tensor", parts=2), both)
    assert not torch.equal(rounded(weight, "tensor"), both)


def asked(model: OneRecV2, n: int = 40) -> tuple[Inputs, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    sizes = model.config.codebook_sizes
    history = torch.stack([torch.randint(0, size, (n, 10), generator=generator) for size in sizes], -1)
    codes = torch.stack([torch.randint(0, size, (n,), generator=generator) for size in sizes], 1)
    return {"lengths": torch.full((n,), 10), "codes": history, "user": torch.zeros(n, 0)}, codes


def logits(model: OneRecV2) -> torch.Tensor:
    with torch.inference_mode():
        return torch.stack([logits.values for logits in model.forced(*asked(model))])


SIMULATED = ["fp8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fp8-channel", "fp8-block"))]


@pytest.mark.parametrize("recipe", SIMULATED)
def test_a_simulated_recipe_is_the_quantized_checkpoint(make_checkpoint, tmp_path, recipe: str) -> None:
    folder = make_checkpoint("demo")
    quantize_checkpoint(folder, tmp_path / "fp8", recipe)
    exact, real, simulated = load_model(folder), load_model(tmp_path / "fp8"), load_model(folder)
    simulate(simulated, SIMULATIONS[recipe])
    lost = (logits(real) - logits(exact)).norm()
    assert lost > 0
    assert (logits(simulated) - logits(real)).norm() < 0.05 * lost


def test_every_part_of_a_simulation_changes_the_answer(make_checkpoint) -> None:
    folder = make_checkpoint("demo")
    exact = logits(load_model(folder))
    scheme = Scheme("tensor", "tensor", "e5m2")
    for part in ("linear", "experts", "router", "head"):
        model = load_model(folder)
        simulate(model, Simulation(**{part: scheme}))
        assert not torch.equal(logits(model), exact), part


def test_measuring_leaves_the_model_exact(make_checkpoint) -> None:
    folder = make_checkpoint("demo")
    model, found = load_model(folder), {}
    exact = logits(model)
    simulate(model, SIMULATIONS["router-and-heads"], found)
    torch.testing.assert_close(logits(model), exact, rtol=1e-4, atol=1e-5)
    assert {"blocks.0.cross_attn.q_proj", "blocks.1.ffn.experts", "blocks.1.ffn.router", "head"} <= set(found)
    assert all(20 < value < 45 for values in found.values() for value in values)
