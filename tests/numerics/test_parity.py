"""Saved activations beside ours: where the difference begins is named, and a file that does not fit is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from octorec.errors import InputError
from octorec.models.onerec import OneRecV2
from octorec.models.presets import preset
from octorec.numerics.parity import Parity, SavedActivations, parity_of
from octorec.numerics.parity_limit import LEAST_DB, check_least_db

WATCHED = (
    "context.proj", "blocks.0.cross_attn", "blocks.0.self_attn.qkv_proj", "blocks.0.self_attn", "blocks.0.ffn",
    "blocks.1.cross_attn", "blocks.1.self_attn.qkv_proj", "blocks.1.self_attn", "blocks.1.ffn.experts", "blocks.1.ffn",
    "blocks.1", "blocks.2", "head_norm.2",
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> OneRecV2:
    torch.manual_seed(0)
    model = OneRecV2(preset("tiny"))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def saved(model: OneRecV2) -> dict[str, Tensor]:
    """What another program would have saved of four requests: eight items of history each, no user fields."""
    torch.manual_seed(1)
    codes = torch.stack([torch.randint(size, (4, 9)) for size in model.codebook_sizes], -1)  # [B, S + 1, L]
    inputs = {"lengths": torch.full((4,), 8), "codes": codes[:, :8].contiguous(), "user": torch.zeros(4, 0)}
    out: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, given, output: out.update({f"activations.{name}": output.clone()})

    modules = dict(model.named_modules())
    hooks = [modules[name].register_forward_hook(keep(name)) for name in WATCHED]
    with torch.inference_mode():
        logits = model.forced(inputs, codes[:, 8])
    for hook in hooks:
        hook.remove()
    out |= {f"logits.{step}": each.values for step, each in enumerate(logits)}
    given = {"codes": codes[:, 8].contiguous(), **{f"inputs.{name}": tensor for name, tensor in inputs.items()}}
    return {name: tensor.clone() for name, tensor in {**out, **given}.items()}


def twin(model: OneRecV2) -> OneRecV2:
    other = OneRecV2(model.config)
    other.load_state_dict(model.state_dict())
    return other.eval()


def compared(tmp_path: Path, model: OneRecV2, tensors: dict[str, Tensor], least_db: float = LEAST_DB) -> Parity:
    path = tmp_path / "acts.safetensors"
    save_file(tensors, path)
    return parity_of(model, SavedActivations(path, model), least_db)


def test_the_same_model_has_no_difference_and_the_order_is_that_of_computing(
    tmp_path: Path, model: OneRecV2, saved: dict[str, Tensor]
) -> None:
    found = compared(tmp_path, model, saved)
    names = [*(f"activations.{name}" for name in WATCHED), *(f"logits.{step}" for step in range(3))]
    assert [each.name for each in found.compared] == names
    assert all(each.sqnr_db == math.inf and each.largest == 0 for each in found.compared)
    assert (found.first, found.exit_code) == (None, 0)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_a_wrong_order_of_q_k_v_is_found_at_its_layer(
    tmp_path: Path, model: OneRecV2, saved: dict[str, Tensor], layer: int, order: tuple[int, ...]
) -> None:
    wrong = twin(model)
    weight: Any = wrong.blocks[layer].self_attn.qkv_proj.weight
    weight.data = torch.cat([weight.chunk(3)[part] for part in order])
    found = compared(tmp_path, wrong, saved)
    assert found.first is not None
    assert found.first.name == f"activations.blocks.{layer}.self_attn.qkv_proj"
    assert found.first.sqnr_db < 5
    assert found.exit_code == 3
    without = {name: tensor for name, tensor in saved.items() if "qkv_proj" not in name}
    found = compared(tmp_path, wrong, without)
    assert found.first is not None
    assert found.first.name == f"activations.blocks.{layer}.self_attn"


def test_another_epsilon_is_found_and_roundings_to_bfloat16_are_told_by_the_limit(
    tmp_path: Path, model: OneRecV2, saved: dict[str, Tensor]
) -> None:
    other = twin(model)
    for module in other.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-4
    assert compared(tmp_path, other, saved).first is not None
    rounded = {name: t.bfloat16() if t.is_floating_point() and "user" not in name else t for name, t in saved.items()}
    found = compared(tmp_path, model, rounded, least_db=40.0)
    assert found.first is None
    assert max(each.sqnr_db for each in found.compared) < 60


def test_a_program_of_another_precision_agrees_to_more_than_100_db(
    tmp_path: Path, model: OneRecV2, saved: dict[str, Tensor]
) -> None:
    exact = twin(model).double()
    inputs = {name: saved[f"inputs.{name}"] for name in ("lengths", "codes", "user")}
    with torch.inference_mode():
        logits = exact.forced(inputs | {"user": inputs["user"].double()}, saved["codes"])
    found = compared(tmp_path, model, saved | {f"logits.{step}": each.values for step, each in enumerate(logits)})
    assert all(each.sqnr_db > 100 for each in found.compared)
    assert any(each.largest > 0 for each in found.compared)


def test_sqnr_and_the_largest_difference_are_those_of_the_definition(
    tmp_path: Path, model: OneRecV2, saved: dict[str, Tensor]
) -> None:
    moved = saved["logits.1"].clone()
    moved[2, 0, 3] += 0.5
    (found,) = (each for each in compared(tmp_path, model, saved | {"logits.1": moved}).compared if each.largest)
    assert found.name == "logits.1"
    assert found.largest == pytest.approx(0.5, rel=1e-5)
    assert found.sqnr_db == pytest.approx(10 * math.log10(float(moved.double().square().sum()) / 0.25), abs=1e-4)


def test_leading_dimensions_may_be_divided_otherwise(tmp_path: Path, model: OneRecV2, saved: dict[str, Tensor]) -> None:
    name = "activations.blocks.0.self_attn"
    assert compared(tmp_path, model, saved | {name: saved[name].unflatten(0, (4, 3))}).first is None


def test_what_is_not_finite_is_below_every_limit(tmp_path: Path, model: OneRecV2, saved: dict[str, Tensor]) -> None:
    name = "activations.blocks.1"
    found = compared(tmp_path, model, saved | {name: saved[name] * float("nan")}, least_db=0.0)
    assert found.first is not None
    assert (found.first.name, found.first.sqnr_db) == (name, -math.inf)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activations.blocks.9": torch.ones(1)}, "got 'activations.blocks.9'; is no name of this model's; known: a"),
        ({"inputs.ages": torch.ones(1)}, "got 'inputs.ages'; is no name .* known: inputs.codes, inputs.len"),
        ({"logits.3": torch.ones(1)}, "got 'logits.3'; is no name .* known: logits.0, logits.1, logits.2"),
        ({"hidden": torch.ones(1)}, "got 'hidden'; is no name"),
        ({"activations.blocks.0.ffn": torch.ones(1).int()}, "activations.blocks.0.ffn: got 'I32'; must be of type"),
        ({"activations.blocks.0.ffn": torch.ones(12, 31)}, r"ffn: got \(12, 31\); must be \(12, 32\), or the same"),
        ({"activations.blocks.1.ffn.router": torch.ones(12, 3)}, "ffn.router'; this module is not called on its own"),
        ({"codes": None}, "codes: got None; is required, of type int64"),
        ({"codes": torch.zeros(4, 3)}, "codes: got 'float32'; must be of type int64"),
        ({"codes": torch.zeros(4, 2).long()}, r"codes: got \(4, 2\); must be \[B, 3\]"),
        ({"codes": torch.full((4, 3), 5)}, r"codes: got .*; must be from 0 to below \(7, 5, 6\)"),
        ({"inputs.user": None}, "inputs.user: got None; is required, of type float32"),
        ({"inputs.user": torch.zeros(4, 1)}, r"inputs.user: got \(4, 1\); must be \(4, 0\)"),
        ({"inputs.lengths": torch.ones(3).long()}, r"inputs.lengths: got \(3,\); must be \(4,\)"),
        ({"inputs.codes": torch.zeros(4, 13, 3).long()}, r"inputs.codes: got \(4, 13, 3\); must be \(4, 12, 3\)"),
        ({"inputs.codes": torch.zeros(4, 8).long()}, r"inputs.codes: got \(4, 8\); must be \(4, 8, 3\)"),
        ({"inputs.codes": torch.full((4, 8, 3), 99)}, "inputs: got .*; the model cannot read these inputs"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, model: OneRecV2, saved: dict[str, Tensor], change: dict[str, Tensor | None], said: str
) -> None:
    tensors = {name: tensor for name, tensor in {**saved, **change}.items() if tensor is not None}
    with pytest.raises(InputError, match=said):
        compared(tmp_path, model, tensors)


def test_a_file_without_anything_to_compare_or_of_another_kind_is_refused(
    tmp_path: Path, model: OneRecV2, saved: dict[str, Tensor]
) -> None:
    given = {name: tensor for name, tensor in saved.items() if name.startswith(("inputs.", "codes"))}
    with pytest.raises(InputError, match="holds nothing to compare"):
        compared(tmp_path, model, given)
    (tmp_path / "acts.safetensors").write_text("no safetensors")
    with pytest.raises(InputError, match=r"parity: got .* no safetensors file"):
        SavedActivations(tmp_path / "acts.safetensors", model)


@pytest.mark.parametrize("value", [-1.0, 301.0, math.nan, math.inf])
def test_a_limit_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="least_db"):
        check_least_db(value)
