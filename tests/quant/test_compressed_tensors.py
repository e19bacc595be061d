"""Our FP8 checkpoints through the eyes of the compressed-tensors library."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from octorec.errors import InputError
from octorec.models.hf_folder import Checkpoint, write_config
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.format import from_quantization_config, to_quantization_config
from octorec.quant.load import DequantizedCheckpoint
from octorec.quant.recipe import Group, Recipe, load_recipe

SHAPES = {"a": (256, 384), "b": (144, 208), "c": (64, 1008)}
NAMES = ["blocks.0.ffn.up_proj", "blocks.0.ffn.down_proj", "head.0", "extra"]


@cache
def library() -> Any:
    """What is used of compressed-tensors, whose import takes seconds that only the worker of these tests spends."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.utils.match import match_name

    return SimpleNamespace(BaseCompressor=BaseCompressor, QuantizationConfig=QuantizationConfig, match_name=match_name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of another model than ours."""
    folder = tmp_path / "plain"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{n}.weight": torch.randn(s, generator=generator).bfloat16() for n, s in SHAPES.items()}
    save_file(tensors, folder / "model.safetensors")
    write_config(folder, {"model_type": "another"})
    return folder


def test_it_decompresses_our_weights_to_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    groups = {"a": ("block", "group"), "b": ("channel", "token"), "c": ("tensor", "tensor")}
    recipe = Recipe("all", tuple(Group((name,), *scheme) for name, scheme in groups.items()))
    quantize_checkpoint(folder, tmp_path / "fp8", recipe)
    checkpoint, ours = Checkpoint(tmp_path / "fp8"), DequantizedCheckpoint(tmp_path / "fp8")
    config = library().QuantizationConfig.model_validate(checkpoint.quantization)
    compressor = library().BaseCompressor.get_value_from_registry(config.format)
    for name in SHAPES:
        scheme = only(s for s in config.config_groups.values() if any(library().match_name(name, t) for t in s.targets))
        assert (scheme.weights.strategy, scheme.input_activations.strategy) == groups[name]
        tensors = {key: checkpoint.load(f"{name}.{key}") for key in ("weight", "weight_scale")}
        theirs = compressor.decompress(tensors, scheme)["weight"]
        assert theirs.dtype == torch.float32
        assert torch.equal(theirs, ours.load(f"{name}.weight")), name


def test_a_block_of_ours_under_odd_widths_is_theirs(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe("blocks", (Group((".*",), "block", "group"),))
    quantize_checkpoint(folder, tmp_path / "fp8", recipe)
    checkpoint, ours = Checkpoint(tmp_path / "fp8"), DequantizedCheckpoint(tmp_path / "fp8")
    scheme = library().QuantizationConfig.model_validate(checkpoint.quantization).config_groups["group_0"]
    compressor = library().BaseCompressor.get_value_from_registry("float-quantized")
    for name in SHAPES:
        tensors = {key: checkpoint.load(f"{name}.{key}") for key in ("weight", "weight_scale")}
        assert torch.equal(compressor.decompress(tensors, scheme)["weight"], ours.load(f"{name}.weight"))


@pytest.mark.parametrize("recipe", ["fp8", "fp8-channel", "fp8-block"])
def test_it_assigns_every_module_as_our_recipe_does(recipe: str, make_checkpoint: Any, tmp_path: Path) -> None:
    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", recipe)
    checkpoint = Checkpoint(tmp_path / "fp8")
    config = library().QuantizationConfig.model_validate(checkpoint.quantization)
    for name in checkpoint.names():
        module, _, kind = name.rpartition(".")
        schemes = [s for s in config.config_groups.values() if any(library().match_name(module, t) for t in s.targets)]
        ignored = any(library().match_name(module, target) for target in config.ignore)
        if f"{module}.weight_scale" in checkpoint.names():
            assert not ignored
            assert only(schemes)
        elif kind == "weight":
            assert ignored or len(checkpoint.shape(name)) == 1
            assert not schemes


def test_precedence_survives_a_reader_without_it() -> None:
    recipe = Recipe(
        "r",
        (Group((r".*up_proj",), "channel", "token"), Group((r"blocks\..*", "other|extra"), "block", "group")),
        ignore=("head.*",),
    )
    raw = to_quantization_config(recipe, [*NAMES, "left"])
    config = library().QuantizationConfig.model_validate(raw)
    for name, wanted in (("blocks.0.ffn.up_proj", "channel"), ("blocks.0.ffn.down_proj", "block"), ("extra", "block")):
        scheme = only(s for s in config.config_groups.values() if any(library().match_name(name, t) for t in s.targets))
        assert scheme.weights.strategy == wanted
    assert "left" in config.ignore
    back = from_quantization_config(raw)
    mine = {name: (group.weights, group.activations) for name, group in recipe.assign(NAMES).items()}
    assert {name: (group.weights, group.activations) for name, group in back.assign(NAMES).items()} == mine


def test_reading_another_writers_config() -> None:
    """llm-compressor's form: expressions for a name's beginning, plain names, two schemes."""
    args = {"num_bits": 8, "type": "float", "symmetric": True, "observer": "minmax", "actorder": None}
    group = {
        "targets": ["re:.*ffn", "extra"],
        "weights": {**args, "strategy": "channel", "dynamic": False},
        "input_activations": {**args, "strategy": "token", "dynamic": True},
    }
    raw = {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": group}}
    recipe = from_quantization_config({**raw, "ignore": ["lm_head", "re:.*down"]})
    assert recipe.assign([*NAMES, "extras", "extra.a"]).keys() == {"blocks.0.ffn.up_proj", "extra"}


def changed(path: str, value: object) -> dict[str, Any]:
    raw: dict[str, Any] = to_quantization_config(load_recipe("fp8-block"), ["blocks.0.ffn.up_proj"])
    at = raw
    *way, last = path.split(".")
    for key in way:
        at = at[key]
    at[last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("quant_method", "awq", "quant_method: got 'awq'; allowed: compressed-tensors or fp8"),
        ("format", "int-quantized", "format: got 'int-quantized'; allowed: float-quantized"),
        ("config_groups", {}, "at least one group"),
        ("config_groups.group_0.weights", None, "group_0.weights: got None"),
        ("config_groups.group_0.weights.num_bits", 4, "weights.num_bits: got 4; allowed: 8"),
        ("config_groups.group_0.weights.type", "int", "weights.type: got 'int'; allowed: float"),
        ("config_groups.group_0.weights.strategy", "group", "weights: got 'group'; allowed: channel, block, tensor"),
        (
            "config_groups.group_0.weights.block_structure",
            [64, 64],
            "block_structure: got [64, 64]; allowed: [128, 128]",
        ),
        ("config_groups.group_0.weights.symmetric", False, "weights.symmetric: got False; allowed: True"),
        ("config_groups.group_0.input_activations", None, "input_activations: got None"),
        ("config_groups.group_0.input_activations.dynamic", False, "dynamic: got False; allowed: True"),
        ("config_groups.group_0.input_activations.group_size", 64, "group_size: got 64; allowed: 128"),
        ("config_groups.group_0.targets", [], "at least one regular expression"),
        ("config_groups.group_0.targets", None, "at least one regular expression"),
        ("config_groups.group_0.targets", "Linear", "targets: got 'Linear'; allowed: a list of names"),
        ("config_groups.group_0.targets", [3], "targets: got [3]; allowed: a list of names"),
        ("config_groups.group_0.targets", ["re:("], "is no regular expression"),
        ("config_groups.group_0", 3, "group_0: got 3; allowed: an object"),
        ("config_groups.group_0.weights", 3, "group_0.weights: got 3"),
        ("config_groups.group_0.weights.strategy", ["channel"], "got ['channel']; allowed: channel, block, tensor"),
        ("config_groups.group_0.weights.num_bits", True, "weights.num_bits: got True; allowed: 8"),
        ("config_groups.group_0.output_activations", {"num_bits": 8}, "output_activations: got"),
        ("config_groups.group_0.format", "pack-quantized", "format: got 'pack-quantized'; allowed: float-quantized"),
        ("config_groups", ["group_0"], "config_groups: got ['group_0']"),
        ("ignore", 3, "ignore: got 3; allowed: a list of names"),
        ("ignore", [3], "ignore: got [3]"),
        ("ignore", ["re:(?<=a)b"], "allowed: literals"),
        ("sparsity_config", {"format": "sparse-24-bitmask"}, "sparsity_config: got"),
        ("transform_config", {"rotate": 1}, "transform_config: got"),
        ("kv_cache_scheme", {"num_bits": 8, "type": "float"}, "kv_cache_scheme: got"),
    ],
)
def test_what_our_modules_cannot_do_is_refused(path: str, value: object, message: str) -> None:
    with pytest.raises(InputError) as error:
        from_quantization_config(changed(path, value))
    assert message in str(error.value)


@pytest.mark.parametrize("raw", ["fp8", 3, [], True, {}, {"quant_method": None}])
def test_what_is_no_quantization_config_is_refused(raw: object) -> None:
    with pytest.raises(InputError, match=r"config\.json: quantization_config"):
        from_quantization_config(raw)


def test_null_and_foreign_keys_say_nothing() -> None:
    raw: dict[str, Any] = to_quantization_config(load_recipe("fp8-block"), ["blocks.0.ffn.up_proj"])
    foreign = {"ignore": None, "recipe": None, "kv_cache_scheme": None, "version": "0.12", "quantization_status": None}
    read = from_quantization_config({**raw, **foreign})
    assert (read.name, read.ignore) == ("of the checkpoint", ())
    assert read.groups == from_quantization_config(raw).groups


def test_a_class_of_modules_stands_for_every_product() -> None:
    raw: dict[str, Any] = to_quantization_config(load_recipe("fp8-block"), ["blocks.0.ffn.up_proj"])
    raw["config_groups"]["group_0"]["targets"] = ["Linear"]
    raw["ignore"] = ["re:.*head.*", "extra"]
    assigned = from_quantization_config(raw).assign([*NAMES, "context.code_embed.0", "embed_tokens"])
    assert assigned.keys() == {"blocks.0.ffn.up_proj", "blocks.0.ffn.down_proj"}


def test_a_recipe_with_look_ahead_is_written_and_read_back() -> None:
    first = Group((r"(?!blocks\.1\.).*up_proj",), "channel", "token")
    recipe = Recipe("r", (first,), ignore=(r"(?!blocks\.)(?:head|extra).*",))
    names = [*NAMES, "blocks.1.ffn.up_proj"]
    raw = to_quantization_config(recipe, names)
    config = library().QuantizationConfig.model_validate(raw)
    for name in names:
        taken = any(library().match_name(name, target) for target in only(config.config_groups.values()).targets)
        assert taken == (name in recipe.assign(names)), name
    assert from_quantization_config(raw).assign(names).keys() == recipe.assign(names).keys()
    contested = Recipe("r", (first, Group((r"blocks.*",), "block", "group")))
    with pytest.raises(InputError, match=r"must not begin with \(\?!"):
        to_quantization_config(contested, names)


def only(things: Any) -> Any:
    (thing,) = things
    return thing
