"""FP8 folders of other writers are read: Qwen's own, and llm-compressor's FP8_DYNAMIC and FP8_BLOCK."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from octorec.errors import InputError
from octorec.models.names import disk_tensors
from octorec.parity.folder import whole_logits
from octorec.quant.load import DequantizedCheckpoint, load_model
from tests.models.qwen_made import change_config, reference_model, save
from tests.quant.test_qwen_folders import PRODUCTS, WIDE_OF

BLOCK = 128
QWEN: dict[str, Any] = {
    "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
}  # fmt: skip
ARGS = {"num_bits": 8, "type": "float", "observer": "minmax", "group_size": None, "actorder": None}
TOKEN = {**ARGS, "strategy": "token", "dynamic": True, "symmetric": True}
GROUP = {**ARGS, "strategy": "group", "group_size": 128, "dynamic": True, "symmetric": True}
CHANNEL = {**ARGS, "strategy": "channel", "dynamic": False, "symmetric": True}
BLOCKS = {**ARGS, "strategy": "block", "block_structure": [128, 128], "dynamic": False, "symmetric": True}
DYNAMIC = {"targets": ["Linear"], "weights": CHANNEL, "input_activations": TOKEN, "output_activations": None}
OF_BLOCKS = {"targets": ["Linear"], "weights": BLOCKS, "input_activations": GROUP, "output_activations": None}


def compressed(*groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    """compressed-tensors' object as llm-compressor writes it; keys that are `...` are omitted."""
    named = {f"group_{number}": group for number, group in enumerate(groups)}
    raw = {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": named,
           "ignore": ["lm_head"], "kv_cache_scheme": None, "quantization_status": "compressed", **more}  # fmt: skip
    return {key: value for key, value in raw.items() if value is not ...}


def without(group: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A group whose arguments omit keys."""
    args = ("weights", "input_activations")
    short = {name: {key: value for key, value in group[name].items() if key not in keys} for name in args}
    return {key: value for key, value in {**group, **short}.items() if key not in keys}


def per(kind: str, n: int, k: int) -> tuple[int, int]:
    return {"channel": (1, k), "block": (BLOCK, BLOCK), "tensor": (n, k)}[kind]


def spread(scale: Tensor, kind: str, n: int, k: int) -> Tensor:
    """A scale for each value: the plain formula of these files, without a look at ours."""
    rows, columns = per(kind, n, k)
    return (
        scale.float()
        .reshape(-(-n // rows), -(-k // columns))
        .repeat_interleave(rows, 0)[:n]
        .repeat_interleave(columns, 1)[:, :k]
    )


def rounded(weight: Tensor, kind: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """FP8 values and their scale as another program writes them."""
    n, k = weight.shape
    rows, columns = per(kind, n, k)
    scale = torch.stack([
        torch.stack([part.abs().amax() / 448 for part in row.split(columns, 1)]) for row in weight.split(rows)
    ]).to(dtype)  # fmt: skip
    values = (weight / spread(scale, kind, n, k)).clamp(-448, 448).to(torch.float8_e4m3fn)
    return values, scale.reshape(1) if kind == "tensor" else scale


def written(
    path: Path, raw: dict[str, Any], scheme: Callable[[str], str | None], suffix: str = "_scale",
    dtype: torch.dtype = torch.bfloat16, kind: str = "qwen3", tied: bool = True, **shape: Any,
) -> dict[str, Tensor]:  # fmt: skip
    """Write a folder; returns what its FP8 weights are in float32. scheme: of a module, None for 16 bit."""
    save(reference_model(kind, tied, **(WIDE_OF[kind] | shape)), path)
    tensors, expected = {}, {}
    for name, tensor in load_file(path / "model.safetensors").items():
        module = name.removesuffix(".weight")
        how = scheme(module) if module.rpartition(".")[2] in PRODUCTS and name.endswith(".weight") else None
        if how is None:
            tensors[name] = tensor.bfloat16()
            continue
        tensors[name], tensors[f"{name}{suffix}"] = rounded(tensor, how, dtype)
        expected[name] = tensors[name].float() * spread(tensors[f"{name}{suffix}"], how, *tensor.shape)
    save_file(tensors, path / "model.safetensors")
    change_config(path, quantization_config=raw)
    return expected


def assert_read(path: Path, expected: dict[str, Tensor], kinds: Callable[[str], str | None]) -> None:
    """The weights in memory, through their scales, are those of the formula, and the model answers."""
    found = disk_tensors(load_model(path))
    plain = DequantizedCheckpoint(path)
    assert {name for name, tensor in found.items() if tensor.dtype == torch.float8_e4m3fn} == set(expected)
    for name, wanted in expected.items():
        kind = kinds(name.removesuffix(".weight"))
        assert kind is not None
        in_memory = "channel" if kind == "tensor" else kind  # a tensor's one scale is repeated for each row
        scale = found[f"{name}_scale"]
        assert scale.dtype == torch.float32
        assert (found[name].float() * spread(scale, in_memory, *wanted.shape)).equal(wanted), name
        assert plain.load(name).equal(wanted)
    ids = torch.arange(3, 15)[None]
    with torch.inference_mode():
        assert whole_logits(load_model(path))(ids).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("kind", "tied"), [("qwen3", True), ("qwen3", False), ("qwen2", True)])
def test_qwens_own_form_with_scales_of_each_type(dtype: torch.dtype, kind: str, tied: bool, tmp_path: Path) -> None:
    expected = written(tmp_path, QWEN, lambda _: "block", "_scale_inv", dtype, kind, tied)
    assert_read(tmp_path, expected, lambda _: "block")


@pytest.mark.parametrize("key", ["modules_to_not_convert", "ignored_layers"])
@pytest.mark.parametrize(
    ("names", "left"),
    [
        (None, ()),
        ([], ()),
        (["lm_head"], ()),
        (["lm_head", "model.layers.0.mlp.down_proj", "model.layers.0.input_layernorm"], ("layers.0.mlp.down_proj",)),
        (["o_proj"], ("o_proj",)),  # an end
        (["model.layers.1"], ("layers.1.",)),  # a beginning
        (["model.layers.1.mlp"], ("layers.1.mlp.",)),
        (["re:model\\.layers\\.\\d+\\.mlp\\.down"], ("down_proj",)),
    ],
)
def test_modules_that_are_not_converted(key: str, names: Any, left: tuple[str, ...], tmp_path: Path) -> None:
    def scheme(module: str) -> str | None:
        return None if any(part in module for part in left) else "block"

    expected = written(tmp_path, {**QWEN, key: names}, scheme, "_scale_inv")
    assert len(expected) < 14 or not left
    assert_read(tmp_path, expected, scheme)


def test_one_scale_a_tensor(tmp_path: Path) -> None:
    raw = {**QWEN, "weight_block_size": None}
    assert_read(tmp_path, written(tmp_path, raw, lambda _: "tensor"), lambda _: "tensor")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (compressed(DYNAMIC), "channel"),
        (compressed(OF_BLOCKS), "block"),
        (compressed({**DYNAMIC, "weights": {**CHANNEL, "strategy": "tensor"}}), "tensor"),
        (compressed(DYNAMIC, format=..., ignore=...), "channel"),
        (compressed(without(OF_BLOCKS, "symmetric", "actorder", "output_activations"), ignore=...), "block"),
        (compressed({**DYNAMIC, "weights": {**CHANNEL, "symmetric": None}}, ignore=None), "channel"),
        (compressed({**DYNAMIC, "format": "float-quantized"}, format="mixed-precision"), "channel"),
        (compressed({**DYNAMIC, "format": "float-quantized"}, format=...), "channel"),
        (compressed({**DYNAMIC, "targets": ["re:.*self_attn\\..*", "re:.*mlp\\..*_proj"]}, ignore=[]), "channel"),
        (compressed({**DYNAMIC, "targets": ["re:.*_proj"]}, ignore=["re:.*lm_head"]), "channel"),
    ],
)
def test_llm_compressors_forms(raw: dict[str, Any], kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    expected = written(tmp_path, raw, lambda _: kind, dtype=dtype, tied=False)
    assert len(expected) == 14
    assert_read(tmp_path, expected, lambda _: kind)


def test_several_groups_and_what_they_leave(tmp_path: Path) -> None:
    attention = {**DYNAMIC, "targets": ["re:.*self_attn.*"], "format": "float-quantized"}
    ffn = {**OF_BLOCKS, "targets": [f"model.layers.{layer}.mlp.{name}_proj" for layer in (0, 1) for name in
                                    ("gate", "up", "down")]}  # fmt: skip
    ignored = ["lm_head", "model.layers.1.mlp.down_proj", "re:.*layers\\.0\\.self_attn\\.o_proj"]

    def scheme(module: str) -> str | None:
        if module.endswith(("1.mlp.down_proj", "0.self_attn.o_proj")):
            return None
        return "channel" if "self_attn" in module else "block"

    expected = written(tmp_path, compressed(attention, ffn, ignore=ignored), scheme)
    assert len(expected) == 12
    assert_read(tmp_path, expected, scheme)


def test_thousands_of_ignored_names_are_read(tmp_path: Path) -> None:
    names = ["lm_head", *(f"model.layers.{layer}.mlp.experts.{e}.down_proj" for layer in range(40) for e in range(80))]
    expected = written(tmp_path, {**QWEN, "modules_to_not_convert": names}, lambda _: "block", "_scale_inv")
    assert_read(tmp_path, expected, lambda _: "block")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({**QWEN, "activation_scheme": "static"}, "activation_scheme: got 'static'; allowed: 'dynamic'; one scale for"),
        ({**QWEN, "fmt": "e5m2"}, "fmt: got 'e5m2'; allowed: 'e4m3'"),
        ({**QWEN, "weight_block_size": [64, 64]}, "weight_block_size: got [64, 64]; allowed: [128, 128]"),
        ({**QWEN, "weight_block_size": 128}, "weight_block_size: got 128"),
        ({**QWEN, "modules_to_not_convert": "lm_head"}, "modules_to_not_convert: got 'lm_head'; must be a list"),
        ({**QWEN, "modules_to_not_convert": [3]}, "modules_to_not_convert: got [3]"),
        ({**QWEN, "modules_to_not_convert": ["re:("]}, "is no regular expression"),
        ({**QWEN, "kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme: got {'num_bits': 8}; allowed: null"),
        ({**QWEN, "quant_method": "modelopt"}, "quant_method: got 'modelopt'; allowed: compressed-tensors or fp8"),
        (compressed(OF_BLOCKS, kv_cache_scheme={"num_bits": 8, "type": "float"}), "kv_cache_scheme: got"),
        (compressed({**OF_BLOCKS, "input_activations": {**GROUP, "dynamic": False}}),
         "group_0.input_activations.dynamic: got False; allowed: True; one scale for all rows"),
        (compressed({**OF_BLOCKS, "input_activations": TOKEN}), "FP8 products with weights by block take activations"),
        (compressed({**OF_BLOCKS, "input_activations": None}), "input_activations: got None"),
        (compressed({**OF_BLOCKS, "format": "pack-quantized"}, format="mixed-precision"), "got 'pack-quantized'"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused_by_its_key(raw: dict[str, Any], message: str, tmp_path: Path) -> None:
    written(tmp_path, raw, lambda _: "block", "_scale_inv" if "fmt" in raw else "_scale")
    with pytest.raises(InputError) as error:
        load_model(tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["q_proj.input_scale", "k_proj.output_scale", "k_scale", "v_scale"])
def test_a_scale_stored_for_activations_or_keys_is_refused_by_name(name: str, tmp_path: Path) -> None:
    written(tmp_path, QWEN, lambda _: "block", "_scale_inv")
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | {f"model.layers.1.self_attn.{name}": torch.ones(1)}, path)
    with pytest.raises(InputError, match=rf"model\.layers\.1\.self_attn\.{name}: got \[1\]; scales of acti"):
        load_model(tmp_path)


@pytest.mark.parametrize("parts", [("v_proj",), ("up_proj",), ("q_proj", "k_proj")])
def test_parts_of_one_product_that_disagree_are_refused_by_name(parts: tuple[str, ...], tmp_path: Path) -> None:
    names = [f"model.layers.1.{'self_attn' if part != 'up_proj' else 'mlp'}.{part}" for part in parts]

    def scheme(module: str) -> str | None:
        return None if module in names else "block"

    written(tmp_path, {**QWEN, "modules_to_not_convert": names}, scheme, "_scale_inv")
    with pytest.raises(
        InputError, match=r"quantization groups: got 'model\.layers\.1\..*in the group of .*one product"
    ):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"intermediate_size": 200}, r"shape of model\.layers\.0\.mlp\.gate_proj: got \(200, 128\); .*multiples of 16"),
        ({"intermediate_size": 144}, r"rows of model\.layers\.0\.mlp\.gate_proj: got 144; 128-row blocks"),
        ({"num_key_value_heads": 1}, r"rows of model\.layers\.0\.self_attn\.k_proj: got 32; 128-row blocks"),
    ],
)
def test_widths_that_blocks_do_not_fit_are_refused_with_the_shape(
    shape: dict[str, int], message: str, tmp_path: Path
) -> None:
    written(tmp_path, QWEN, lambda _: "block", "_scale_inv", **shape)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_widths_of_16_and_not_128_are_read_in_channels_and_where_a_product_has_one_part(tmp_path: Path) -> None:
    shape = {"intermediate_size": 144, "num_key_value_heads": 1, "hidden_size": 208}

    def scheme(module: str) -> str:
        return "block" if module.endswith(("o_proj", "down_proj")) else "channel"

    ones = {**OF_BLOCKS, "targets": ["re:.*(o_proj|down_proj)"]}
    others = {**DYNAMIC, "targets": ["re:.*(q_proj|k_proj|v_proj|gate_proj|up_proj)"]}
    assert_read(tmp_path, written(tmp_path, compressed(ones, others), scheme, **shape), scheme)


def test_a_head_in_8_bits_is_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path, compressed(DYNAMIC, ignore=[]), lambda _: "channel", tied=False)
    tensors = load_file(tmp_path / "model.safetensors")
    head = "lm_head.weight"
    tensors[head], tensors[f"{head}_scale"] = rounded(tensors[head].float(), "channel", torch.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="quantization groups: got 'lm_head'; has no FP8 form"):
        load_model(tmp_path)


def test_a_folder_that_says_fp8_and_has_16_bit_is_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path, compressed(DYNAMIC), lambda module: None if "layers.1.mlp" in module else "channel")
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.\w+\.weight: got 'BF16'; its config\.json says FP8"):
        load_model(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert raw["ignore"] == ["lm_head"]
