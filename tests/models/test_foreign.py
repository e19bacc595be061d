"""A plan gives every tensor of ours once and leaves none of the other program's: what does not fit is named."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.models.foreign import Plan, empty, plan, tensors
from octorec.models.hf_folder import Checkpoint
from octorec.models.name_map import read_map
from octorec.models.names import disk_tensors
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from tests.models.foreign_onerec import MAP, foreign_tensors, write_foreign

CONFIG = preset("tiny").to_dict()
Planned = Callable[..., tuple[Plan, Checkpoint]]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """planned(name map, changed tensors...) -> the plan, and the foreign checkpoint; None removes a tensor."""

    def make(name_map: str = MAP, **changed: Tensor | None) -> tuple[Plan, Checkpoint]:
        found = {**foreign_tensors(made()), **{name.replace("__", "."): each for name, each in changed.items()}}
        folder = write_foreign(tmp_path / "foreign", {k: v for k, v in found.items() if v is not None}, name_map)
        checkpoint = Checkpoint(folder, bare=True)
        return plan(empty(CONFIG), checkpoint, read_map(tmp_path / "names.yaml")), checkpoint

    return make


def made() -> OneRecV2:
    model = OneRecV2(preset("tiny"))
    initialize(model, seed=0)
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_every_tensor_comes_back_in_its_type(tmp_path: Path, dtype: torch.dtype) -> None:
    model = made()
    checkpoint = Checkpoint(write_foreign(tmp_path / "foreign", foreign_tensors(model, dtype)), bare=True)
    found = dict(tensors(plan(empty(CONFIG), checkpoint, read_map(tmp_path / "names.yaml")), checkpoint))
    wanted = disk_tensors(model)
    assert set(found) == set(wanted)
    for name, tensor in found.items():
        own = torch.float32 if name.endswith("router.bias") else dtype
        assert tensor.dtype == own
        assert torch.equal(tensor, wanted[name].to(own)), name


def test_a_foreign_tensor_is_read_once_and_the_bytes_are_counted(planned: Planned) -> None:
    plan, checkpoint = planned()
    read, counted = [], []
    checkpoint.load = lambda name: read.append(name) or Checkpoint.load(checkpoint, name)  # type: ignore[method-assign]
    found = tensors(plan, checkpoint, lambda done, total: counted.append((done, total)))
    next(found)
    assert len(read) == 1
    assert len(list(found)) == len(plan.shapes) - 1
    assert sorted(read) == sorted(name for name in checkpoint.names() if "inv_freq" not in name)
    assert counted[-1][0] == counted[-1][1] == sum(checkpoint.headers[name].nbytes for name in read)


def test_what_is_left_over_on_either_side_is_named(planned: Planned) -> None:
    name_map = MAP.replace("  - {from: start, to: bos}\n", "").replace("'*.inv_freq'", "'*.0.*freq'")
    with pytest.raises(InputError) as caught:
        planned(name_map)
    said = str(caught.value)
    assert "3 tensors left over, 1 of the model not given" in said
    assert "left over: start, " in said or ", start" in said
    for name in ("layers.1.rotary.inv_freq", "layers.2.rotary.inv_freq", "not given: bos"):
        assert name in said


START = "from: start, to: bos"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "slots, to: position",
            "slots, to: positions",
            "rule 2: slots: got 'positions'; is no tensor of the model, which",
        ),
        ("slots, to: position", "slots, to: bos", "rule 2: slots: got (3, 32); must be (32,) to become bos"),
        ("ctx.age, to", "ctx.ages, to", "rule 4: from: got 'ctx.ages'; matches no tensor of a checkpoint with"),
        ("['*.inv_freq']", "['*.inv_freq', '*.none']", "drop: got '*.none'; matches no tensor"),
        ("['*.inv_freq']", "['*.inv_freq', 'sl*']", "drop: got 'sl*'; leaves out slots, which a rule uses"),
        (", 'blocks.{b}.ffn.up_proj.weight'", "", "rule 15: layers.0.mlp.0.w13: got (256, 32); must be (128, 32)"),
        ("    transpose: true\n", "", "rule 13: layers.0.self.kqv: got (32, 96); must be (96, 32)"),
        ("'code_embed.{l}", "'key_norm.{l}", "rule 7: embed.0: got (7, 32); must be (32,) to become key_norm.0.weight"),
        (START, f"{START}, transpose: true", "rule 1: start: got (32,); needs 0 dimensions"),
        (START, "from: start, to: [bos, bos]", "rule 1: start: got (32,); must be (64,) to become bos, bos"),
        (START, "from: start, to: [bos, position]", "rule 1: to: got ('bos', 'position'); their shapes are"),
        ("'head_norm.{l}.weight'", "'blocks.{l}.cross_norm.weight'", "got 'blocks.0.cross_norm.weight'; "),
    ],
)
def test_a_rule_that_does_not_fit_is_named(planned: Planned, old: str, new: str, said: str) -> None:
    assert old in MAP
    with pytest.raises(InputError) as caught:
        planned(MAP.replace(old, new))
    assert said in str(caught.value)


def test_a_table_may_serve_two_rules(planned: Planned) -> None:
    """Tied embeddings lie in a safetensors file once."""
    old, new = "from: 'ctx.norm.{k}', to: 'key_norm.{k}.weight'", "from: start, to: key_norm.0.weight"
    found = dict(tensors(*planned(MAP.replace(old, new), ctx__norm__0=None)))
    assert torch.equal(found["bos"], found["key_norm.0.weight"])


@pytest.mark.parametrize(
    ("value", "dtype"), [(float("nan"), torch.bfloat16), (float("-inf"), torch.float16), (1e300, torch.float64)]
)
def test_weights_that_are_not_finite_in_float32_are_refused(planned: Planned, value: float, dtype: torch.dtype) -> None:
    found = planned(start=torch.tensor([0.0, value] * 16, dtype=dtype))
    with pytest.raises(InputError, match="start: got 'NaN or infinity'; every weight must be finite in float32"):
        list(tensors(*found))


def test_weights_of_other_types_are_refused(planned: Planned) -> None:
    with pytest.raises(InputError, match="rule 1: start: got 'I32'; must be of type"):
        planned(start=torch.zeros(32, dtype=torch.int32))


def test_a_quantized_checkpoint_is_refused(planned: Planned) -> None:
    weight = torch.zeros(4, 4).to(torch.float8_e4m3fn)
    with pytest.raises(InputError, match=r"foreign: got .*; is quantized: give its 16-bit parent"):
        planned(x__weight=weight, x__weight_scale=torch.ones(4, 1))


def test_a_family_of_no_row_and_fp8_are_refused() -> None:
    with pytest.raises(InputError, match="model_type: got 'llama'; allowed: 'onerec_v2'"):
        empty({"model_type": "llama"})
    with pytest.raises(InputError, match=r"quantization_config: got \{'quant_method': 'x'\}; must be absent"):
        empty({**CONFIG, "quantization_config": {"quant_method": "x"}})
