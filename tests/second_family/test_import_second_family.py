"""A second family is imported by a small map of its own, and compared with saved activations."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from octorec.kernels import reference
from octorec.models.families import FAMILIES, Family
from octorec.models.hf_folder import Checkpoint
from octorec.models.names import disk_tensors
from tests.cli.test_cli import octorec
from tests.second_family.gru import Config, TinyGRU

SIZES = (7, 5, 6)
MAP = """
rules:
  - {from: 'history.{l}', to: 'bag.{l}.weight'}
  - {from: 'target.{l}', to: 'code_embed.{l}.weight'}
  - {from: gates, to: [new_proj.weight, gate_proj.weight], transpose: true}
  - {from: scale, to: norm.weight}
  - {from: 'out.{l}', to: 'head.{l}.weight'}
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """foreign/ with its config.json, names.yaml and acts.safetensors."""
    monkeypatch.setitem(FAMILIES, "tiny_gru", Family("tests.second_family.gru", "TinyGRU", "tiny GRU"))
    torch.manual_seed(0)
    model = TinyGRU(Config(SIZES), reference)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    ours = disk_tensors(model)
    foreign = {"gates": torch.cat([ours["new_proj.weight"], ours["gate_proj.weight"]]).T, "scale": ours["norm.weight"]}
    for level in range(len(SIZES)):
        foreign |= {f"history.{level}": ours[f"bag.{level}.weight"]}
        foreign |= {f"target.{level}": ours[f"code_embed.{level}.weight"]}
    foreign |= {f"out.{step}": ours[f"head.{step}.weight"] for step in range(len(SIZES) + 1)}
    (tmp_path / "foreign").mkdir()
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in foreign.items()}, tmp_path / "foreign" / "w.safetensors"
    )
    (tmp_path / "foreign" / "config.json").write_text(json.dumps(model.config.to_dict()))
    (tmp_path / "names.yaml").write_text(MAP)
    mixed: list[torch.Tensor] = []
    model.mix.register_forward_hook(lambda module, given, output: mixed.append(output.clone()))
    bag = torch.tensor([[[1, 2, 3], [6, 4, 5]], [[0, 0, 0], [-1, -1, -1]]], dtype=torch.int32)  # [B, S, L]
    codes = torch.tensor([[3, 1, 2], [0, 4, 5]])
    with torch.inference_mode():
        logits = {f"logits.{step}": each.values for step, each in enumerate(model.forced({"bag": bag}, codes))}
    saved = {"inputs.bag": bag, "codes": codes, "activations.mix": torch.cat(mixed), **logits}
    save_file({name: tensor.clone() for name, tensor in saved.items()}, tmp_path / "acts.safetensors")
    return tmp_path


def test_it_comes_back_in_the_same_bits_with_every_step_s_logits(work: Path) -> None:
    line = ("import", work / "foreign", "--map", work / "names.yaml", "--parity", work / "acts.safetensors")
    told = json.loads(octorec(*line, "--out", work / "out", "--json").stdout)
    names = ["activations.mix", "logits.0", "logits.1", "logits.2", "logits.3"]
    assert [row["name"] for row in told["parity"]["compared"]] == names
    foreign, ours = load_file(work / "foreign" / "w.safetensors"), Checkpoint(work / "out")
    assert torch.equal(torch.cat([ours.load("new_proj.weight"), ours.load("gate_proj.weight")]), foreign["gates"].T)
    assert torch.equal(ours.load("bag.2.weight"), foreign["history.2"])


def test_gates_in_the_wrong_order_are_found(work: Path) -> None:
    (work / "names.yaml").write_text(
        MAP.replace("[new_proj.weight, gate_proj.weight]", "[gate_proj.weight, new_proj.weight]")
    )
    line = ("import", work / "foreign", "--map", work / "names.yaml", "--parity", work / "acts.safetensors")
    told = json.loads(octorec(*line, "--out", work / "out", "--json", expect=3).stdout)
    assert told["parity"]["first_below"] == "activations.mix"
