"""Both kinds of checkpoint as models: what is loaded, in which types, and how near FP8 stays to 16 bit."""

import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from octorec.errors import InputError, MismatchError
from octorec.kernels import reference
from octorec.kernels.fp8 import E4M3, GROUP, Quantized, dequantize, quantize
from octorec.models.hf_folder import Checkpoint
from octorec.models.onerec import OneRecV2
from octorec.models.onerec_context import ContextBatch
from octorec.models.presets import preset as preset_config
from octorec.models.weights import disk_tensors
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.format import to_quantization_config
from octorec.quant.load import (
    DequantizedCheckpoint,
    check_experts,
    empty_model,
    is_finite,
    load_dequantized,
    load_model,
)
from octorec.quant.modules import FP8Experts, FP8Linear
from octorec.quant.recipe import Group, Recipe, matrices

RECIPES = [("demo", "fp8"), ("demo", "fp8-channel"), ("demo", "fp8-block"), ("tiny", "fp8-channel")]


def requests(model: OneRecV2, count: int = 24, seed: int = 0) -> tuple[ContextBatch, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def codes(*shape: int) -> Tensor:
        columns = [torch.randint(size, shape, generator=generator) for size in model.config.codebook_sizes]
        return torch.stack(columns, -1)

    lengths = torch.randint(1, 9, (count,), generator=generator)
    return ContextBatch(lengths, codes(count, 8), torch.zeros(count, 0)), codes(count)


def logits(model: OneRecV2) -> Tensor:
    with torch.no_grad():
        return torch.cat(model(*requests(model)), -1)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_16_bit_is_what_was_saved(make_checkpoint: Any, dtype: torch.dtype) -> None:
    folder = make_checkpoint("demo", torch.bfloat16)
    model = load_model(folder, dtype=dtype)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for name, tensor in disk_tensors(model).items():
        assert tensor.dtype == (torch.float32 if name.endswith("router.bias") else dtype), name
        assert torch.equal(tensor, Checkpoint(folder).load(name).to(tensor.dtype)), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("preset", "recipe"), RECIPES)
def test_fp8_is_what_was_saved(
    make_checkpoint: Any, tmp_path: Path, preset: str, recipe: str, dtype: torch.dtype
) -> None:
    quantize_checkpoint(make_checkpoint(preset), tmp_path / "fp8", recipe)
    model, checkpoint = load_model(tmp_path / "fp8", dtype=dtype), Checkpoint(tmp_path / "fp8")
    tensors = disk_tensors(model)
    assert set(tensors) == set(checkpoint.names())
    for name, tensor in tensors.items():
        scaled = f"{name}_scale" in tensors
        kept = torch.float32 if name.endswith(("router.bias", "_scale")) else dtype
        assert tensor.dtype == (E4M3 if scaled else kept), name
        assert torch.equal(tensor.float(), checkpoint.load(name).to(tensor.dtype).float()), name
    twins = [module for module in model.modules() if isinstance(module, FP8Linear | FP8Experts)]
    experts = 2 if preset == "demo" else 0  # tiny's are 24 wide, which no FP8 product takes
    assert len(twins) == 3 * 4 + 2 + experts  # attention, the dense FFN, the experts of two blocks
    assert all(twin.dtype == dtype for twin in twins)


@pytest.mark.parametrize(("preset", "recipe"), RECIPES)
def test_fp8_stays_within_the_quantization_error(
    make_checkpoint: Any, tmp_path: Path, preset: str, recipe: str
) -> None:
    folder = make_checkpoint(preset)
    quantize_checkpoint(folder, tmp_path / "fp8", recipe)
    wanted, found = logits(load_model(folder)), logits(load_model(tmp_path / "fp8"))
    # Rounding to 3 bits of mantissa costs 2.6 % of each operand, so 3.7 % of a product; the embedding that the residual
    # stream carries dilutes it, layers in a row add to it. Scales 5 % wrong would give 0.065.
    assert 0.02 < relative(found, wanted) < 0.05


def test_bf16_activations_add_little(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint("demo")
    quantize_checkpoint(folder, tmp_path / "fp8", "fp8")
    found = logits(load_model(tmp_path / "fp8", dtype=torch.bfloat16))
    assert found.dtype == torch.float32
    assert 0.02 < relative(found, logits(load_model(folder))) < 0.05


def test_a_tensors_one_scale_serves_all_channels(make_checkpoint: Any, tmp_path: Path) -> None:
    recipe = Recipe("tensor", (Group((r"blocks.*_proj",), "tensor", "token"),))
    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", recipe)
    model, disk = load_model(tmp_path / "fp8"), DequantizedCheckpoint(tmp_path / "fp8")
    attention = model.blocks[0].self_attn.qkv_proj
    assert attention.granularity == "channel"
    assert attention.weight_scale.shape == (3 * 128, 1)
    operand = Quantized(attention.weight, attention.weight_scale, "channel", torch.float32)
    parts = [disk.load(f"blocks.0.self_attn.{part}_proj.weight") for part in "qkv"]
    assert torch.equal(dequantize(operand), torch.cat(parts))
    assert len(attention.weight_scale.unique()) == 3  # q, k and v keep scales of their own
    assert logits(model).isfinite().all()


@pytest.mark.parametrize("recipe", ["fp8", "fp8-channel"])
def test_dequantized_is_the_model_of_the_rounded_weights(make_checkpoint: Any, tmp_path: Path, recipe: str) -> None:
    folder = make_checkpoint("demo")
    quantize_checkpoint(folder, tmp_path / "fp8", recipe)
    model = load_dequantized(tmp_path / "fp8")
    assert not any(isinstance(module, FP8Linear | FP8Experts) for module in model.modules())
    plain = Checkpoint(folder)
    for name, tensor in disk_tensors(model).items():
        wanted = plain.load(name).float()
        if f"{name}_scale" in Checkpoint(tmp_path / "fp8").names():
            wanted = dequantize(quantize(wanted, "block" if "experts" in name and recipe == "fp8" else "channel"))
        assert torch.equal(tensor, wanted), name


def test_other_writers_scales_are_read(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(200, 300, generator=generator)
    q, per_row = quantize(w, "block"), quantize(w, "channel")
    tensors = {"a.weight": q.values, "a.weight_scale_inv": q.scale, "b.weight": per_row.values}
    tensors |= {"b.weight_scale": per_row.scale.flatten(), "c.weight": w}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    checkpoint = DequantizedCheckpoint(tmp_path)
    assert sorted(checkpoint.names()) == ["a.weight", "b.weight", "c.weight"]
    assert torch.equal(checkpoint.load("a.weight"), dequantize(q))
    assert torch.equal(checkpoint.load("b.weight"), dequantize(per_row))
    assert torch.equal(checkpoint.load("c.weight"), w)


def test_scales_that_fit_no_granularity(tmp_path: Path) -> None:
    values, scale = torch.zeros(200, 300).to(E4M3), torch.ones(3, 2)
    (tmp_path / "config.json").write_text("{}")
    save_file({"a.weight": values, "a.weight_scale": scale}, tmp_path / "model.safetensors")
    with pytest.raises(MismatchError, match=r"a.weight_scale: got \(3, 2\); one a matrix, a row, .* \(200, 300\)"):
        DequantizedCheckpoint(tmp_path)
    save_file({"b.weight": values}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"needs its b\.weight_scale beside it"):
        DequantizedCheckpoint(tmp_path)


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lambda config: config.pop("quantization_config"), "unexpected|its config.json says 16 bit"),
        (lambda config: config["quantization_config"]["ignore"].append("re:.*o_proj"), "config.json says 16 bit"),
        (lambda config: by_channel(group(config)), "weight_scale"),
        (lambda config: uncover(config, "re:context.proj"), "config.json says FP8"),
        (lambda config: config.update(d_expert=128), "its config.json says"),
    ],
)
def test_config_and_tensors_disagree(make_checkpoint: Any, tmp_path: Path, lie: Any, message: str) -> None:
    quantize_checkpoint(make_checkpoint("demo", d_expert=256), tmp_path / "fp8", "fp8")
    path = tmp_path / "fp8" / "config.json"
    config = json.loads(path.read_text())
    lie(config)
    path.write_text(json.dumps(config))
    with pytest.raises(MismatchError, match=message):
        load_model(tmp_path / "fp8")


def uncover(config: dict[str, Any], target: str) -> None:
    """Claim that `target` was quantized."""
    config["quantization_config"]["ignore"].clear()
    group(config)["targets"].append(target)


def by_channel(group: dict[str, Any]) -> None:
    """Claim that a group of blocks has a scale a channel."""
    group["weights"].update(strategy="channel", block_structure=None)
    group["input_activations"].update(strategy="token", group_size=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"strategy": "tensor"},
            "activations of blocks.1.ffn.experts.0.gate_proj: got 'tensor'; one scale for all rows",
        ),
        ({"strategy": "token"}, "got 'token'; FP8 products with weights by block take activations by `group`"),
    ],
)
def test_activations_that_no_engine_computes(make_checkpoint: Any, tmp_path: Path, changes: Any, message: str) -> None:
    """Another writer's folder may have them: it is refused when it is loaded, not at the first batch."""
    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", "fp8")
    path = tmp_path / "fp8" / "config.json"
    config = json.loads(path.read_text())
    group(config)["input_activations"].update(changes)
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        load_model(tmp_path / "fp8")
    assert load_dequantized(tmp_path / "fp8").config.d_model == 128


def test_widths_that_no_product_takes(make_checkpoint: Any) -> None:
    """A folder of another writer, for ours would have kept the matrix in 16 bit."""
    recipe = Recipe("r", (Group((r".*(down|gate|up)_proj",), "channel", "token"),))
    quantization = to_quantization_config(recipe, ["a.down_proj"])
    with pytest.raises(
        InputError, match=r"shape of blocks.1.ffn.experts.0.gate_proj: got \(24, 32\); .*multiples of 16"
    ):
        empty_model(partial(OneRecV2, preset_config("tiny"), reference), quantization, torch.bfloat16)


def test_experts_that_no_kernel_takes_are_refused_at_load() -> None:
    odd = empty_model(partial(OneRecV2, preset_config("tiny", d_expert=20), reference), None, torch.bfloat16)
    check_experts(odd, "cpu")
    with pytest.raises(InputError, match=r"widths of blocks.1.ffn.experts: got \(32, 20\); on a GPU .* multiples of 8"):
        check_experts(odd, "cuda")
    check_experts(empty_model(partial(OneRecV2, preset_config("tiny"), reference), None, torch.bfloat16), "cuda:0")


def group(config: dict[str, Any]) -> dict[str, Any]:
    """The experts' group."""
    return config["quantization_config"]["config_groups"]["group_1"]


def test_missing_scale_and_truncated_shard(make_checkpoint: Any, tmp_path: Path) -> None:
    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", "fp8")
    shard = next((tmp_path / "fp8").glob("*.safetensors"))
    tensors = load_file(shard)
    scale = tensors.pop("blocks.0.ffn.up_proj.weight_scale")
    save_file(tensors, shard)
    (tmp_path / "fp8/model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match=r"needs its blocks.0.ffn.up_proj.weight_scale beside it"):
        load_model(tmp_path / "fp8")
    save_file({**tensors, "blocks.0.ffn.up_proj.weight_scale": scale[:-1].clone()}, shard)
    with pytest.raises(MismatchError, match=r"up_proj.weight_scale: got \(511, 1\); one a matrix, a row"):
        load_model(tmp_path / "fp8")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match="is truncated"):
        load_model(tmp_path / "fp8")


def broken(folder: Path, name: str, position: int, value: float) -> None:
    """Put `value` into a tensor, in FP8 by its bits."""
    shard = next(folder.glob("*.safetensors"))
    tensors = load_file(shard)
    if tensors[name].dtype == E4M3:
        tensors[name].view(torch.uint8).view(-1)[position] = 0xFF if value < 0 else 0x7F
    else:
        tensors[name].view(-1)[position] = value
    save_file(tensors, shard)


EXPERT, BIAS = "blocks.2.ffn.experts.1.up_proj.weight", "blocks.1.ffn.router.bias"


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["bos", "head.2.weight", EXPERT, BIAS])
def test_a_weight_that_is_no_number_is_refused_with_its_name(
    make_checkpoint: Any, name: str, value: float, dtype: torch.dtype
) -> None:
    folder = make_checkpoint("tiny")
    broken(folder, name, -1, value)
    for load in (load_model, load_dequantized):
        with pytest.raises(InputError, match=rf"checkpoint {folder}: {name}: got 'NaN or infinity'"):
            load(folder, dtype=dtype)


def test_a_weight_too_large_for_its_type_in_memory_is_refused(make_checkpoint: Any) -> None:
    folder = make_checkpoint("tiny", torch.float64)
    broken(folder, "head.1.weight", 3, 1e300)
    with pytest.raises(InputError, match=r"head.1.weight: got 'NaN or infinity'"):
        load_model(folder)


@pytest.mark.parametrize("value", [1.0, -1.0])
@pytest.mark.parametrize("name", ["blocks.0.ffn.up_proj.weight", "blocks.2.ffn.shared_experts.0.down_proj.weight"])
def test_an_fp8_nan_is_refused_with_its_name(make_checkpoint: Any, tmp_path: Path, name: str, value: float) -> None:
    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", "fp8")
    broken(tmp_path / "fp8", name, 77, value)
    for load in (load_model, load_dequantized):
        with pytest.raises(InputError, match=rf"{name}: got 'NaN or infinity'"):
            load(tmp_path / "fp8")


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_no_scale_is_refused_with_its_name(make_checkpoint: Any, tmp_path: Path, value: float) -> None:
    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", "fp8")
    broken(tmp_path / "fp8", "blocks.0.ffn.up_proj.weight_scale", 5, value)
    for load in (load_model, load_dequantized):
        with pytest.raises(InputError, match=r"blocks.0.ffn.up_proj.weight_scale: got .*must be finite and above 0"):
            load(tmp_path / "fp8")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, E4M3])
def test_one_bad_value_is_seen_on_a_gpu(dtype: torch.dtype) -> None:
    tensor = torch.ones(3000, 1001, device="cuda").to(dtype)
    assert is_finite(tensor)
    tensor.view(torch.uint8).view(-1)[-tensor.element_size() :] = 0x7F
    assert is_finite(tensor) == (dtype != E4M3)  # there it is NaN, in the others the largest number
    tensor[-1, -1] = torch.nan
    assert not is_finite(tensor)


def test_finite_numbers_whose_sum_is_not_are_finite() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        assert is_finite(torch.full((300,), torch.finfo(dtype).max, dtype=dtype))
        assert not is_finite(torch.tensor([1.0, -math.inf, math.inf], dtype=dtype))
    assert is_finite(torch.arange(127, dtype=torch.uint8).view(E4M3))
    assert not is_finite(torch.tensor([0x80, 0xFF], dtype=torch.uint8).view(E4M3))
    assert is_finite(torch.zeros(0, 3))
    assert is_finite(torch.arange(3))


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e5m2])
def test_what_is_no_floating_point_weight_is_never_taken_for_one(make_checkpoint: Any, kind: torch.dtype) -> None:
    folder = make_checkpoint("tiny")
    shard = next(folder.glob("*.safetensors"))
    tensors = load_file(shard)
    tensors["blocks.0.ffn_norm.weight"] = torch.ones(32).to(kind)
    save_file(tensors, shard)
    with pytest.raises(InputError, match=r"blocks.0.ffn_norm.weight: got "):
        load_model(folder)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", ["[N]", "[N, 1]"])
def test_scales_of_other_types_and_shapes_load_to_the_same_model(
    make_checkpoint: Any, tmp_path: Path, kind: torch.dtype, shape: str
) -> None:
    quantize_checkpoint(make_checkpoint("tiny"), tmp_path / "fp8", "fp8-channel")
    shard = next((tmp_path / "fp8").glob("*.safetensors"))
    tensors = {name: tensor.clone() for name, tensor in load_file(shard).items()}  # the file is written over
    scales = {name: tensor.bfloat16() for name, tensor in tensors.items() if name.endswith("_scale")}
    save_file({**tensors, **{name: scale.float() for name, scale in scales.items()}}, shard)
    wanted = logits(load_model(tmp_path / "fp8"))
    stored = {name: (s.flatten() if shape == "[N]" else s).to(kind).clone() for name, s in scales.items()}
    save_file({**tensors, **stored}, shard)
    assert torch.equal(logits(load_model(tmp_path / "fp8")), wanted)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_scale_of_a_tensor_in_every_shape(make_checkpoint: Any, tmp_path: Path, shape: tuple[int, ...]) -> None:
    recipe = Recipe("tensor", (Group((r"blocks.*_proj",), "tensor", "token"),))
    quantize_checkpoint(make_checkpoint("tiny"), tmp_path / "fp8", recipe)
    wanted = logits(load_model(tmp_path / "fp8"))
    shard = next((tmp_path / "fp8").glob("*.safetensors"))
    tensors = load_file(shard)
    save_file({name: t.view(shape) if name.endswith("_scale") else t for name, t in tensors.items()}, shard)
    assert torch.equal(logits(load_model(tmp_path / "fp8")), wanted)


def test_another_model(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="model_type: got 'gpt2'; allowed: 'onerec_v2', 'qwen3'"):
        load_model(tmp_path)


def test_blocks_under_odd_widths_that_are_not_fused(make_checkpoint: Any, tmp_path: Path) -> None:
    """Where nothing lies over anything, blocks may end short: o_proj and down_proj of a model 160 wide."""
    folder = make_checkpoint("demo", d_model=160, n_dense=3)
    recipe = Recipe("r", (Group((r".*\.(o|down)_proj",), "block", "group"),))
    quantize_checkpoint(folder, tmp_path / "fp8", recipe)
    model = load_model(tmp_path / "fp8")
    assert model.blocks[0].ffn.down_proj.weight_scale.shape == (-(-160 // GROUP), 640 // GROUP)
    assert relative(logits(model), logits(load_model(folder))) < 0.05


def test_a_long_ignore_list_is_no_burden() -> None:
    """Attention alone on the MoE 4B leaves 1,944 experts' matrices under `ignore`, each by its name."""
    config = preset_config("moe-4b-a0.5b")
    tensors = disk_tensors(empty_model(partial(OneRecV2, config, reference), None, torch.bfloat16))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    recipe = Recipe("attention", (Group((r".*_attn\..*",), "channel", "token"),))
    quantization = to_quantization_config(recipe, matrices(shapes))
    assert len(quantization["ignore"]) > 1944
    start = time.process_time()
    model = empty_model(partial(OneRecV2, config, reference), quantization, torch.bfloat16)
    assert time.process_time() - start < 10
    assert isinstance(model.blocks[13].self_attn.qkv_proj, FP8Linear)
    assert not any(isinstance(module, FP8Experts) for module in model.modules())


def test_operations_reach_every_module(make_checkpoint: Any, tmp_path: Path) -> None:
    class Counting:
        """The references, counting what runs through them."""

        def __init__(self) -> None:
            self.calls: dict[str, int] = {}

        def __getattr__(self, name: str) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            return getattr(reference, name)

    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", "fp8")
    ops: Any = Counting()
    logits(load_model(tmp_path / "fp8", ops=ops))
    assert ops.calls["moe"] == 2
    assert ops.calls["linear"] == 3 * 4 + 2 + 1  # attention, the dense FFN, the context projection
