"""Statistics of activations against products computed by hand from a copy of every layer's input."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels.fp8 import dequantize, quantize
from octorec.models.layers import Experts, Linear
from octorec.models.model import Inputs
from octorec.models.onerec import OneRecV2
from octorec.numerics.activations import SCHEMES, ActivationStats, activation_stats
from octorec.numerics.distribution import distribution
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_dequantized, load_model


@pytest.fixture
def model(make_checkpoint: Any) -> OneRecV2:
    return load_model(make_checkpoint("demo"))


def requests(model: OneRecV2, count: int = 10) -> tuple[Inputs, Tensor]:
    generator = torch.Generator().manual_seed(1)
    history = torch.randint(0, 64, (count, 6, 3), generator=generator)
    lengths = torch.randint(1, 7, (count,), generator=generator)
    return {"lengths": lengths, "codes": history, "user": torch.zeros(count, 0)}, torch.randint(
        0, 64, (count, 3), generator=generator
    )


def recorded(model: OneRecV2) -> tuple[dict[str, tuple[Any, ...]], dict[str, ActivationStats]]:
    """The arguments each module really got, and what was said of them; of the context, the items that there are."""
    seen: dict[str, tuple[Any, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _, args, out, name=name: seen.update({name: args}))
        for name, module in model.named_modules()
        if isinstance(module, Linear | Experts)
    ]
    batch, codes = requests(model)
    found = activation_stats(model, batch, codes)
    for hook in hooks:
        hook.remove()
    items = seen["context.proj"][0].unflatten(0, batch["codes"].shape[:2])
    seen["context.proj"] = (torch.cat([row[:length] for row, length in zip(items, batch["lengths"], strict=True)]),)
    return seen, {stats.name: stats for stats in found}


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def back(x: Tensor, granularity: Any) -> Tensor:
    return dequantize(quantize(x, granularity))


def test_every_product_but_the_heads(model: OneRecV2) -> None:
    seen, found = recorded(model)
    assert set(found) == set(seen) | {f"blocks.{block}.ffn.experts.down_proj" for block in (1, 2)}
    assert "context.proj" in found
    assert not any(name.startswith("head") for name in found)
    assert len(found) == 1 + 3 * 4 + 2 + 2 * 2
    for name, args in seen.items():
        assert (found[name].rows, found[name].width) == tuple(args[0].shape)
        assert found[name].distribution == distribution(args[0])
    assert found["blocks.1.ffn.experts"].role == "expert"
    assert found["blocks.0.ffn.down_proj"].role == "ffn"


def test_linear(model: OneRecV2) -> None:
    seen, found = recorded(model)
    for name in ("blocks.0.self_attn.qkv_proj", "blocks.0.ffn.down_proj", "context.proj"):
        x, weight = seen[name][0], model.get_submodule(name).weight.data
        for granularity in ("token", "group", "tensor"):
            sqnr = found[name].sqnr[granularity]
            error = back(x, granularity) - x
            assert sqnr == pytest.approx(float(10 * (x.square().sum() / error.square().sum()).log10()), abs=1e-3)
        for scheme, (of_weights, of_activations) in SCHEMES.items():
            errors, exact = found[name].errors[scheme], x @ weight.T
            w, q = back(weight, of_weights), back(x, of_activations)
            assert errors.weights == pytest.approx(relative(x @ w.T, exact), rel=1e-3)
            assert errors.activations == pytest.approx(relative(q @ weight.T, exact), rel=1e-3)
            assert errors.both == pytest.approx(relative(q @ w.T, exact), rel=1e-3)
            assert 0.01 < errors.weights < errors.both < 0.06


def test_experts(model: OneRecV2) -> None:
    name = "blocks.1.ffn.experts"
    seen, found = recorded(model)
    x, (chosen, shares), _ = seen[name]
    experts = model.get_submodule(name)

    def run(of_weights: Any, of_activations: Any) -> tuple[Tensor, list[Tensor]]:
        def weight(w: Tensor) -> Tensor:
            return w if of_weights is None else back(w, of_weights)

        def activation(a: Tensor) -> Tensor:
            return a if of_activations is None else back(a, of_activations)

        out, between = torch.zeros_like(x), []
        for expert in range(5):
            rows, slot = torch.where(chosen == expert)
            gate, up = (activation(x[rows]) @ weight(experts.gate_up_proj[expert]).T).chunk(2, 1)
            hidden = F.silu(gate) * up
            between.append(hidden)
            out[rows] += (activation(hidden) @ weight(experts.down_proj[expert]).T) * shares[rows, slot, None]
        return out, between

    exact, between = run(None, None)
    hidden = found[f"{name}.down_proj"]
    assert hidden.rows == len(x) * 3  # top-2 and the shared one
    assert hidden.errors == {}
    assert hidden.distribution.absmax == pytest.approx(float(torch.cat(between).abs().max()), rel=1e-4)
    assert hidden.distribution.variance == pytest.approx(float(torch.cat(between).var(correction=0)), rel=1e-3)
    for scheme, (of_weights, of_activations) in SCHEMES.items():
        errors = found[name].errors[scheme]
        assert errors.weights == pytest.approx(relative(run(of_weights, None)[0], exact), rel=0.01)
        assert errors.activations == pytest.approx(relative(run(None, of_activations)[0], exact), rel=0.01)
        assert errors.both == pytest.approx(relative(run(of_weights, of_activations)[0], exact), rel=0.01)


def test_outliers_hurt_where_they_share_a_scale(model: OneRecV2) -> None:
    with torch.no_grad():
        model.blocks[0].ffn_norm.weight[7] = 10_000  # one channel of the norm's output dwarfs the others
    _, found = recorded(model)
    errors = found["blocks.0.ffn.gate_up_proj"]
    calm = found["blocks.1.cross_attn.q_proj"]
    assert errors.distribution.absmax > 1000 * calm.distribution.absmax
    assert float(errors.distribution.p999) < errors.distribution.absmax


def test_rows_are_flat_and_alike(model: OneRecV2) -> None:
    _, found = recorded(model)
    rows = [stats.row() for stats in found.values()]
    assert len({frozenset(row) for row in rows}) == 1
    assert rows[0]["error_block/group_both"] == found["context.proj"].errors["block/group"].both
    assert found["blocks.1.ffn.experts.down_proj"].row()["error_block/group_both"] is None


def test_hooks_are_gone_afterwards(model: OneRecV2) -> None:
    activation_stats(model, *requests(model))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_an_fp8_checkpoint_is_looked_at_through_its_scales(make_checkpoint: Any, tmp_path: Any) -> None:
    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", "fp8")
    model = load_dequantized(tmp_path / "fp8")
    found = {stats.name: stats for stats in activation_stats(model, *requests(model))}
    assert found["blocks.1.ffn.experts"].errors["block/group"].weights < 1e-3  # rounded already
    assert found["blocks.1.ffn.experts"].errors["block/group"].both > 0.01
