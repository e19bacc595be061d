"""Qwen3 and Qwen2 folders are quantized whole, and other programs read what is written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from octorec.errors import InputError
from octorec.kernels.fp8 import quantize
from octorec.models.hf_folder import Checkpoint
from octorec.models.lora import open_checkpoint
from octorec.output.write import new_folder
from octorec.parity.folder import whole_logits
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_model
from octorec.quant.modules import FP8Linear
from octorec.quant.recipe import load_recipe
from tests.models.qwen_made import change_config, reference_model, save
from tests.models.test_lora import adapted

KINDS = [("qwen3", True), ("qwen3", False), ("qwen2", True)]
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4}
WIDE_OF = {"qwen3": WIDE | {"head_dim": 32}, "qwen2": WIDE}
PRODUCTS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
SCHEMES = {"fp8": ("channel", "token"), "fp8-channel": ("channel", "token"), "fp8-block": ("block", "group")}


def folder_of(path: Path, kind: str = "qwen3", tied: bool = True, **shape: Any) -> Path:
    return save(reference_model(kind, tied, **(WIDE_OF[kind] | shape)).bfloat16(), path)


@pytest.mark.parametrize(("kind", "tied"), KINDS)
@pytest.mark.parametrize("recipe", SCHEMES)
def test_attention_and_ffn_are_quantized_and_nothing_else(kind: str, tied: bool, recipe: str, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", kind, tied)
    report = quantize_checkpoint(source, tmp_path / "out", recipe)
    before, after = Checkpoint(source), Checkpoint(tmp_path / "out")
    weights, _ = SCHEMES[recipe]
    for name in before.names():
        module, _, own = name.rpartition(".")
        tensor = before.load(name)
        if own == "weight" and module.rpartition(".")[2] in PRODUCTS:
            wanted = quantize(tensor, weights)
            assert after.load(name).view(torch.uint8).equal(wanted.values.view(torch.uint8))
            assert after.load(f"{name}_scale").equal(wanted.scale)
            n, k = tensor.shape  # what vLLM makes parameters of
            assert wanted.scale.shape == ((n, 1) if weights == "channel" else (-(-n // 128), -(-k // 128)))
            assert (after.dtype(name), after.dtype(f"{name}_scale")) == ("F8_E4M3", "F32")
        else:
            assert after.load(name).equal(tensor)
    assert len(report.tensors) == 2 * len(PRODUCTS)
    assert not report.kept
    config = after.quantization
    assert config is not None
    assert config["ignore"].count("lm_head") == 1
    assert not any(name.startswith("re:") for name in config["ignore"])


@pytest.mark.parametrize("kind", ["qwen3", "qwen2"])
@pytest.mark.parametrize("recipe", ["fp8", "fp8-block"])
def test_transformers_computes_the_same_logits_by_compressed_tensors(kind: str, recipe: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    source = folder_of(tmp_path / "in", kind)
    quantize_checkpoint(source, tmp_path / "out", recipe)
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    scheme = theirs.model.layers[0].self_attn.q_proj.quantization_scheme
    assert (scheme.weights.strategy, scheme.input_activations.strategy) == SCHEMES[recipe]
    assert not hasattr(theirs.lm_head, "quantization_scheme")
    ids = torch.randint(0, 90, (64, 12), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = theirs(ids).logits[:, -1]
        plain = whole_logits(load_model(source))(ids)
        found = whole_logits(load_model(tmp_path / "out"))(ids)
    lost = (plain - wanted).norm(dim=1)
    assert 0.01 < lost.norm() / plain.norm() < 0.3  # FP8 shows
    # A value of theirs and ours beside a rounding border falls on two sides of it in a prompt of some fifty.
    apart = (found - wanted).norm(dim=1) / lost
    assert (apart < 1e-4).float().mean() >= 0.9
    assert apart.max() < 1


def test_what_lies_beside_the_tensors_comes_along(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in")
    kept = {"tokenizer.json": "{}", "tokenizer_config.json": "{}", "chat_template.jinja": "{{ messages }}",
            "generation_config.json": "{}", "merges.txt": "", "prompt.jinja": "{{ history }}"}  # fmt: skip
    for name, text in kept.items():
        (source / name).write_text(text)
    (source / "octorec.json").write_text(json.dumps({"item": "<{}>", "prompt": "prompt.jinja"}))
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tools.jinja").write_text("tools")
    report = quantize_checkpoint(source, tmp_path / "out", "fp8")
    for name, text in (kept | {"additional_chat_templates/tools.jinja": "tools"}).items():
        assert (tmp_path / "out" / name).read_text() == text
    about = json.loads((tmp_path / "out" / "octorec.json").read_text())
    assert (about["item"], about["prompt"], about["format"]) == ("<{}>", "prompt.jinja", 1)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config.pop("quantization_config")
    assert config == json.loads((source / "config.json").read_text())
    assert report.left_behind == ()


@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_is_merged_and_written_in_the_type_of_its_base(tied: bool, tmp_path: Path) -> None:
    base = reference_model("qwen3", tied, **WIDE_OF["qwen3"]).bfloat16()
    save(base, tmp_path / "base")
    saved = {"modules_to_save": ["lm_head", "embed_tokens"]} if tied else {}
    adapted(base.float(), tmp_path / "adapter", torch.bfloat16, **saved)
    (tmp_path / "base" / "tokenizer.json").write_text("{}")
    (tmp_path / "base" / "chat_template.jinja").write_text("base")
    (tmp_path / "adapter" / "tokenizer.json").write_text('{"of": "adapter"}')
    quantize_checkpoint(tmp_path / "adapter", tmp_path / "out", "fp8", base=tmp_path / "base")
    merged = open_checkpoint(tmp_path / "adapter", tmp_path / "base")
    after = Checkpoint(tmp_path / "out")
    assert set(merged.names()) <= set(after.names())
    for name in merged.names():
        if after.dtype(name) == "F8_E4M3":
            assert (
                after.load(name)
                .view(torch.uint8)
                .equal(quantize(merged.load(name), "channel").values.view(torch.uint8))
            )
        else:
            assert after.dtype(name) == "BF16"
            assert after.load(name).equal(merged.load(name).bfloat16())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not names & {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"}
    assert (tmp_path / "out" / "tokenizer.json").read_text() == '{"of": "adapter"}'
    assert after.config["tie_word_embeddings"] is False
    load_model(tmp_path / "out")


def test_a_base_without_an_adapter_is_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in")
    with pytest.raises(InputError, match="is no adapter"):
        quantize_checkpoint(source, tmp_path / "out", "fp8", base=source)


@pytest.mark.parametrize("given", [True, False])
def test_force_never_replaces_the_base(given: bool, tmp_path: Path) -> None:
    base = tmp_path / "base"
    with new_folder(base) as scratch:
        folder_of(scratch / "in")
        shutil.copytree(scratch / "in", scratch, dirs_exist_ok=True)
        shutil.rmtree(scratch / "in")
    adapted(reference_model("qwen3", **WIDE_OF["qwen3"]), tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(base)}))
    with pytest.raises(InputError, match="is what is read"):
        quantize_checkpoint(tmp_path / "adapter", base, "fp8", force=True, base=base if given else None)


def test_widths_that_no_product_takes_stay_in_16_bit(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", intermediate_size=72)
    report = quantize_checkpoint(source, tmp_path / "out", "fp8")
    kept = {each.name.rpartition("mlp.")[2] for each in report.kept}
    assert kept == {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}
    assert any("mlp.gate_proj" in name for name in Checkpoint(tmp_path / "out").quantization["ignore"])  # type: ignore[index]
    load_model(tmp_path / "out")


def test_blocks_of_parts_that_128_does_not_divide_are_refused_with_their_rows(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", num_key_value_heads=2)
    with pytest.raises(InputError, match=r"rows of model\.layers\.0\.self_attn\.k_proj: got 64; .*weights: channel"):
        quantize_checkpoint(source, tmp_path / "out", "fp8-block")
    quantize_checkpoint(folder_of(tmp_path / "ffn", intermediate_size=384), tmp_path / "out", "fp8-block")


def test_a_users_recipe_with_names_of_qwen(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in")
    text = """name: mine
groups:
- {targets: ['model\\.layers\\.\\d+\\.mlp\\.(gate|up|down)_proj'], weights: block, activations: group}
- {targets: ['model\\.layers\\.1\\..*'], weights: channel, activations: token}
ignore: ['model\\.layers\\.1\\.self_attn\\.o_proj']
"""
    (tmp_path / "recipe.yaml").write_text(text)
    quantize_checkpoint(source, tmp_path / "out", tmp_path / "recipe.yaml")
    model: Any = load_model(tmp_path / "out")
    first, second = model.model.layers
    assert first.mlp.down_proj.granularity == "block"
    assert second.self_attn.qkv_proj.granularity == "channel"
    assert not isinstance(second.self_attn.o_proj, FP8Linear)
    assert not isinstance(first.self_attn.qkv_proj, FP8Linear)


def test_a_recipe_that_parts_one_product_is_refused_by_name(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in")
    text = "name: r\ngroups:\n- {targets: ['.*(q|k)_proj'], weights: channel, activations: token}\n"
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=r"layers\.0\.self_attn\.v_proj'; it must be in the group of .*q_proj"):
        quantize_checkpoint(source, tmp_path / "out", tmp_path / "recipe.yaml")


def test_an_ordinary_language_model_is_quantized_too(tmp_path: Path) -> None:
    """Without tokens of semantic IDs it is none of ours, and has the same names."""
    source = folder_of(tmp_path / "in")
    change_config(source, sid_tokens=...)
    report = quantize_checkpoint(source, tmp_path / "out", "fp8")
    assert len(report.tensors) == 2 * len(PRODUCTS)


@pytest.mark.parametrize("name", ["fp8", "fp8-block", "fp8-channel"])
def test_shipped_recipes_leave_names_of_language_models_like_embeddings(name: str) -> None:
    kept = ["lm_head", "model.embed_tokens", "model.layers.0.input_layernorm", "model.layers.0.self_attn.q_norm"]
    assert not load_recipe(name).assign(kept)


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard is written as soon as the next tensor does not fit, so that a large model needs no large memory."""
    source = folder_of(tmp_path / "in")
    held: list[int] = []
    from octorec.models import hf_folder

    written = hf_folder.save_file

    def counted(tensors: Any, *rest: Any, **more: Any) -> None:
        held.append(sum(tensor.nbytes for tensor in tensors.values()))
        written(tensors, *rest, **more)

    monkeypatch.setattr(hf_folder, "save_file", counted)
    report = quantize_checkpoint(source, tmp_path / "out", "fp8", shard_bytes=40_000)
    assert max(held) <= 40_000
    assert sum(held) == report.total_bytes_after
