"""Checkpoints: what is written is what is read, and what is damaged is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from octorec.errors import InputError, MismatchError
from octorec.models import weights as ckpt
from octorec.models.families import read_config
from octorec.models.hf_folder import Checkpoint
from octorec.models.names import disk_tensors
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import load_into


@pytest.fixture
def model() -> OneRecV2:
    model = OneRecV2(preset("tiny"))
    initialize(model, seed=0)
    return model


def test_round_trip_in_several_shards(model: OneRecV2, tmp_path: Path) -> None:
    ckpt.write_config(tmp_path, model.config.to_dict())
    total = ckpt.write_tensors(tmp_path, disk_tensors(model).items(), shard_bytes=20_000)
    shards = list(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert all(path.stat().st_size < 25_000 for path in shards)
    assert total == sum(t.nbytes for t in model.state_dict().values())
    other = OneRecV2(read_config(Checkpoint(tmp_path)))
    load_into(other, Checkpoint(tmp_path))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_disk_names_are_two_dimensional_and_in_their_place(model: OneRecV2) -> None:
    tensors = disk_tensors(model)
    assert all(t.ndim <= 2 for t in tensors.values())
    up = model.blocks[1].ffn.experts.gate_up_proj[2, 24:]
    assert torch.equal(tensors["blocks.1.ffn.experts.2.up_proj.weight"], up)
    shared = model.blocks[2].ffn.experts.down_proj[3]
    assert torch.equal(tensors["blocks.2.ffn.shared_experts.0.down_proj.weight"], shared)
    v = model.blocks[0].self_attn.qkv_proj.weight[64:]
    assert torch.equal(tensors["blocks.0.self_attn.v_proj.weight"], v)
    assert sum(t.numel() for t in tensors.values()) == sum(t.numel() for t in model.state_dict().values())


def test_bfloat16_keeps_the_router_bias_in_float32(model: OneRecV2, tmp_path: Path) -> None:
    model.blocks[1].ffn.router.bias.copy_(torch.tensor([0.1234567, -1e-3, 3.3333333]))
    ckpt.save(model, tmp_path, torch.bfloat16)
    saved = Checkpoint(tmp_path)
    assert torch.equal(saved.load("blocks.1.ffn.router.bias"), model.blocks[1].ffn.router.bias)
    assert saved.load("bos").dtype == torch.bfloat16


@pytest.fixture
def folder(model: OneRecV2, tmp_path: Path) -> Path:
    ckpt.write_config(tmp_path, model.config.to_dict())
    ckpt.write_tensors(tmp_path, disk_tensors(model).items(), shard_bytes=20_000)
    return tmp_path


def test_truncated_shard(folder: Path) -> None:
    shard = sorted(folder.glob("model-*"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match=rf"{shard.name}.*is truncated or no safetensors file"):
        Checkpoint(folder)


def test_missing_shard(folder: Path) -> None:
    shard = sorted(folder.glob("model-*"))[1]
    shard.unlink()
    with pytest.raises(InputError, match=rf"{shard.name}.*is named by model.safetensors.index.json but missing"):
        Checkpoint(folder)


def test_no_folder_no_config_no_tensors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file or folder"):
        Checkpoint(tmp_path / "nowhere")
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        Checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"must be a folder that holds config.json; this one holds model-00001"):
        Checkpoint(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"must be a folder that holds .safetensors files; this one holds config.json"):
        Checkpoint(empty)


def test_foreign_tensors(folder: Path, model: OneRecV2) -> None:
    shard = sorted(folder.glob("model-*"))[0]
    tensors = load_file(shard)
    tensors["lm_head.weight"] = tensors.pop("bos")
    save_file(tensors, shard)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(MismatchError, match=r"missing bos; unexpected lm_head.weight"):
        load_into(model, Checkpoint(folder))


def test_config_whose_dimensions_disagree_with_its_tensors(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "d_expert": 16}))
    saved = Checkpoint(folder)
    with pytest.raises(MismatchError, match=r"experts.0.gate_proj.weight: got \(24, 32\); .* says \(16, 32\)"):
        load_into(OneRecV2(read_config(saved)), saved)
