"""The advice by its rules, and its recipe through `quantize` and a model that loads."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from octorec.kernels.fp8 import E4M3, dequantize, quantize
from octorec.models.hf_folder import Checkpoint
from octorec.numerics.activations import ActivationStats, OutputError
from octorec.numerics.advice import (
    BELL_SQNR_DB,
    MAX_FLUSHED,
    MAX_OUTPUT_ERROR,
    MAX_RANGE,
    MIN_SQNR_DB,
    MOST,
    Advice,
    LayerAdvice,
    judge,
)
from octorec.numerics.checkpoint_files import StoredTensor
from octorec.numerics.recipe_file import patterns, recipe_text
from octorec.numerics.scale_groups import ScaleStats
from octorec.numerics.stats import measure, tensor_stats
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_model
from octorec.quant.patterns import check_patterns, matching
from octorec.quant.products import MULTIPLE
from octorec.quant.recipe import load_recipe
from octorec.report.analysis import analyze

UP = "model.layers.0.mlp.up_proj"


def bell(n: int = 256, k: int = 512) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(0))


def weights(**tensors: Tensor) -> list[Any]:
    return [tensor_stats(StoredTensor(f"{name.replace('__', '.')}.weight", x)) for name, x in tensors.items()]


def layer(advice: Advice, module: str) -> LayerAdvice:
    return next(layer for layer in advice.layers if layer.module == module)


def one(x: Tensor) -> LayerAdvice:
    return layer(judge(weights(**{UP.replace(".", "__"): x})), UP)


def activations(x: Tensor, error: float = 0.037, name: str = UP) -> ActivationStats:
    found = measure(StoredTensor(name, x), ("token", "group"))
    errors = {s: OutputError(0.0, 0.0, error) for s in ("channel/token", "block/group", "tensor/tensor")}
    return ActivationStats(name, "ffn", *x.shape, found.distribution, found.scales, 0.0, errors)  # type: ignore[call-arg]


def test_a_bell_curve_is_quantized() -> None:
    found = one(bell())
    assert found.decision == "channel"
    assert found.sqnr == pytest.approx(BELL_SQNR_DB, abs=0.3)
    assert found.bytes_16 == 2 * 256 * 512
    assert found.bytes_8 == 256 * 512 + 4 * 256
    assert (found.extra_bytes, found.extra_flops) == (0, 0)


def test_blocks_where_a_row_spans_too_much() -> None:
    x = bell()
    x[:, 128:] *= 2.0**-13  # a channel's scale serves two populations, a block's does not
    found = one(x)
    assert found.decision == "block"
    assert re.search(r"octaves inside a group, over 12", found.reason)
    assert found.range_p99 is not None
    assert found.range_p99 < 4
    assert found.bytes_8 == 256 * 512 + 4 * 2 * 4


def test_kept_where_even_blocks_span_too_much() -> None:
    x = bell()
    x[:, ::5] *= 2.0**16
    found = one(x)
    assert found.decision == "keep"
    assert "nor blocks" in found.reason
    assert found.extra_bytes == found.bytes_16 - found.bytes_8 == 256 * 512 - 4 * 2 * 4
    assert found.extra_flops == 2 * 256 * 512


def test_energy_does_not_see_what_is_flushed() -> None:
    """The reason why ranges are looked at: the noise is small beside the outliers, and all else is gone."""
    x = bell()
    x[:, ::100] *= 2.0**20
    found = tensor_stats(StoredTensor("a.weight", x))
    assert found.scales["channel"].sqnr > 31
    assert found.scales["channel"].flushed > 0.9
    assert one(x).decision == "keep"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sqnr": MIN_SQNR_DB - 0.1}, "SQNR 28.4 dB, under 28.5"),
        ({"range_p99": MAX_RANGE + 0.1}, "12.1 octaves inside a group, over 12"),
        ({"flushed": MAX_FLUSHED + 0.001}, "1.1% become zero, over 1%"),
    ],
)
@pytest.mark.parametrize("where", ["weights", "activations"])
def test_each_limit(where: str, change: dict[str, float], said: str) -> None:
    fine = ScaleStats(31.5, 0.0, 0.0, 2.5, 2.9, 3.0)
    bad = dataclasses.replace(fine, **change)
    stats = weights(**{UP.replace(".", "__"): bell()})[0]
    seen = activations(bell(16))
    kinds = ("channel", "block") if where == "weights" else ("token", "group")
    target = stats.scales if where == "weights" else seen.scales
    target[kinds[0]] = bad
    found = judge([stats], [seen]).layers[0]
    assert found.decision == "block"
    assert said in found.reason
    target[kinds[1]] = bad
    assert judge([stats], [seen]).layers[0].decision == "keep"
    for kind in kinds:
        target[kind] = fine
    assert judge([stats], [seen]).layers[0].decision == "channel"


def test_the_output_decides_too() -> None:
    stats = weights(**{UP.replace(".", "__"): bell()})
    assert judge(stats, [activations(bell(16), MAX_OUTPUT_ERROR)]).layers[0].decision == "channel"
    found = judge(stats, [activations(bell(16), 0.06)]).layers[0]
    assert found.decision == "keep"
    assert f"the output of {UP} loses 6.0%, over 5.3%" in found.reason
    assert found.output_error == 0.06
    other = activations(bell(16), 0.06, "model.layers.1.mlp.up_proj")
    assert judge(stats, [other]).layers[0].decision == "channel"


def test_the_limit_of_the_output_is_twice_the_noise_of_two_bell_curves() -> None:
    assert pytest.approx(math.sqrt(2 * 2) * 10 ** (-BELL_SQNR_DB / 20), abs=5e-4) == MAX_OUTPUT_ERROR
    x, w = bell(256, 512), torch.randn(128, 512, generator=torch.Generator().manual_seed(5))
    exact = x.double() @ w.double().T
    error = dequantize(quantize(x, "token")).double() @ dequantize(quantize(w, "channel")).double().T - exact
    assert float(error.norm() / exact.norm()) == pytest.approx(MAX_OUTPUT_ERROR / math.sqrt(2), rel=0.03)


def test_one_product_has_one_decision() -> None:
    base = "model__layers__0__self_attn__"
    bad = bell()
    bad[:, ::5] *= 2.0**16
    found = judge(weights(**{f"{base}q_proj": bell(), f"{base}k_proj": bad, f"{base}o_proj": bell()}))
    decisions = {layer.module.rpartition(".")[2]: layer.decision for layer in found.layers}
    assert decisions == {"q_proj": "keep", "k_proj": "keep", "o_proj": "channel"}
    assert "model.layers.0.self_attn.k_proj" in layer(found, "model.layers.0.self_attn.q_proj").reason


def test_blocks_of_fused_parts_need_whole_blocks() -> None:
    x = bell(208)
    x[:, 128:] *= 2.0**-13
    base = "model__layers__0__mlp__"
    found = judge(weights(**{f"{base}gate_proj": x, f"{base}up_proj": x}))
    assert {layer.decision for layer in found.layers} == {"keep"}
    assert "has 208 rows" in found.layers[0].reason
    assert one(x).decision == "block"  # alone it may


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("lm_head.weight", (64, 32), "which item wins"),
        ("model.layers.0.mlp.gate.weight", (64, 32), "which expert wins"),
        ("model.embed_tokens.weight", (64, 32), "looked up"),
        ("top_mlp.2.weight", (1, 64), "FP8 products take multiples of 16"),
        ("bottom_mlp.0.weight", (64, 7), "FP8 products take multiples of 16"),
        ("cross.kernel", (64, 64), r"end in .weight"),
        ("model.layers.0.mlp.experts.down_proj", (4, 64, 64), "2-D tensors"),
    ],
)
def test_what_stays_whatever_its_numbers(name: str, shape: tuple[int, ...], said: str) -> None:
    found = judge([tensor_stats(StoredTensor(name, torch.randn(shape)))])
    assert found.layers[0].decision == "keep"
    assert said in found.layers[0].reason
    assert found.outcome == "keep in 16 bit"
    assert recipe_text(found) is None


def test_nan_is_kept() -> None:
    x = bell()
    x[0, 0] = math.nan
    found = one(x)
    assert found.decision == "keep"
    assert "1 NaN or Inf" in found.reason


def test_the_model_by_share_of_flops() -> None:
    bad = bell()
    bad[:, ::5] *= 2.0**16
    names = [f"model__layers__{i}__mlp__up_proj" for i in range(10)]
    for broken, outcome in ((0, "quantize"), (1, "quantize"), (2, "quantize in part"), (6, "keep in 16 bit")):
        found = judge(weights(**{name: bad if i < broken else bell() for i, name in enumerate(names)}))
        assert found.outcome == outcome
        assert found.flops_share == pytest.approx(1 - broken / 10)
        assert found.bytes_after == sum(v.bytes_16 if v.decision == "keep" else v.bytes_8 for v in found.layers)


def test_experts_count_by_the_rows_that_reach_them() -> None:
    name = "model.layers.0.mlp.experts.0.up_proj"
    stats = weights(**{name.replace(".", "__"): bell()})
    assert judge(stats, active={f"{name}.weight": 0.25}).layers[0].flops == 0.25 * 2 * 256 * 512


def test_patterns_take_theirs_and_no_other() -> None:
    names = [f"blocks.{b}.ffn.experts.{e}.{p}_proj" for b in range(12) for e in range(3) for p in ("up", "down")]
    names += [f"blocks.{b}.attn.q_proj" for b in range(12)] + ["head", "mlp.0", "mlp.1", "mlp.2"]
    choices = [
        [n for n in names if "ffn" in n],
        [n for n in names if "up" in n and not n.startswith(("blocks.1.", "blocks.7."))],
        [n for n in names if n.endswith("experts.2.up_proj")],  # not by blocks
        ["mlp.0", "mlp.2", "blocks.11.attn.q_proj"],
        names,
    ]
    for chosen in choices:
        others = sorted(set(names) - set(chosen))
        found = patterns(chosen, others)
        taken = {name for name in names if any(re.fullmatch(pattern, name) for pattern in found)}
        assert taken == set(chosen)
    assert patterns(choices[0], sorted(set(names) - set(choices[0]))) == [
        r"blocks\.\d+\.ffn\.experts\.\d+\.up_proj",
        r"blocks\.\d+\.ffn\.experts\.\d+\.down_proj",
    ]


def spoil(folder: Path, changes: dict[str, slice]) -> None:
    """Multiply some columns of some tensors by 2^-16."""
    (shard,) = folder.glob("*.safetensors")
    tensors = load_file(shard)
    for name, columns in changes.items():
        tensors[name][:, columns] *= 2.0**-16
    save_file(tensors, shard, metadata={"format": "pt"})


@pytest.mark.slow
def test_the_recipe_quantizes_and_the_model_loads(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint("demo")
    blocks, kept = "blocks.0.ffn.down_proj.weight", "blocks.2.self_attn.v_proj.weight"
    spoil(folder, {blocks: slice(128, None), kept: slice(None, None, 2)})
    found = analyze(folder, tmp_path / "out")
    decisions = {layer.module: layer.decision for layer in found.advice.layers}
    assert decisions["blocks.0.ffn.down_proj"] == "block"
    assert [decisions[f"blocks.2.self_attn.{p}_proj"] for p in "qkvo"] == ["keep", "keep", "keep", "channel"]
    assert decisions["blocks.1.self_attn.v_proj"] == "channel"

    path = tmp_path / "out/recipe.yaml"
    assert load_recipe(path).assign(decisions) == {
        module: next(group for group in load_recipe(path).groups if group.weights == decision)
        for module, decision in decisions.items()
        if decision != "keep"
    }
    report = quantize_checkpoint(folder, tmp_path / "fp8", path)
    assert {tensor.name for tensor in report.tensors} == {f"{m}.weight" for m, d in decisions.items() if d != "keep"}
    quantized = Checkpoint(tmp_path / "fp8")
    assert quantized.load(kept).dtype == torch.bfloat16
    assert quantized.load(blocks).dtype == E4M3
    assert quantized.shape(f"{blocks}_scale") == (1, 4)
    before = sum(layer.bytes_16 for layer in found.advice.layers)
    saved = sum(layer.bytes_16 - layer.bytes_8 for layer in found.advice.layers if layer.decision != "keep")
    assert found.advice.bytes_after == before - saved
    assert report.total_bytes_before - report.total_bytes_after == saved
    load_model(tmp_path / "fp8")
    text = path.read_text()
    assert text.startswith("# Written by `octorec analyze`: ")
    assert yaml.safe_load(text)["groups"][1]["activations"] == "group"


def test_the_page_states_the_limits() -> None:
    page = (Path(__file__).parents[2] / "docs/numerics.md").read_text()
    limits = page[page.index("## The verdict") :]
    shares = [f"{share:g} %" for share in (100 * MAX_FLUSHED, 100 * MAX_OUTPUT_ERROR, 100 * MOST)]
    numbers = [f"| {MIN_SQNR_DB} dB |", f"{BELL_SQNR_DB} dB", f"| {MAX_RANGE:g} |", f"that {MULTIPLE} does not divide"]
    for words in numbers + shares:
        assert words in limits, words


def test_columns_of_the_page_are_columns() -> None:
    page = (Path(__file__).parents[2] / "docs/numerics.md").read_text()
    columns = set(weights(a=bell())[0].row()) | set(activations(bell(16)).row())
    named = re.findall(r"^\| (`.*?) \|", page, re.M)
    for name in re.findall(r"`([\w*]+)`", " ".join(named)):
        assert any(re.fullmatch(name.replace("*", r"\w+"), column) for column in columns), name
    assert len(named) > 8


def test_a_width_that_no_product_takes_keeps_all_that_one_product_computes() -> None:
    base = "model__layers__0__self_attn__"
    found = judge(weights(**{f"{base}q_proj": bell(64), f"{base}k_proj": bell(24), f"{base}o_proj": bell(64)}))
    decisions = {layer.module.rpartition(".")[2]: layer.decision for layer in found.layers}
    assert decisions == {"q_proj": "keep", "k_proj": "keep", "o_proj": "channel"}
    assert layer(found, "model.layers.0.self_attn.k_proj").reason.startswith("24 x 512: FP8 products take multiples")
    assert "computes it and model.layers.0.self_attn.k_proj" in layer(found, "model.layers.0.self_attn.q_proj").reason
    assert recipe_text(judge(weights(**{f"{base}q_proj": bell(24)}))) is None


def test_a_recipes_patterns_match_what_was_chosen_however_names_look() -> None:
    """More blocks than one expression may choose from, digits that are not ASCII's, characters with a meaning."""
    chosen = [f"h.{n}.mlp.up" for n in range(0, 1500, 2)] + ["a.١.b", "a.1.b", "x(+)y", "²1"]
    others = [f"h.{n}.mlp.up" for n in range(1, 1500, 2)] + ["a.2.c", "x(+)z"]
    found = patterns(chosen, others)
    check_patterns("targets", found)
    assert matching(found, chosen + others) == set(chosen)
