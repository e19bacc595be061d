"""Conversion of checkpoint folders, and everything it must refuse."""

import json
import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from octorec.catalog.build import build_catalog
from octorec.data.items import check_items
from octorec.errors import InputError
from octorec.formats import CATALOG_FILES
from octorec.kernels.fp8 import E4M3, quantize
from octorec.models.checkpoint_folder import INDEX
from octorec.models.hf_folder import Checkpoint, write_config, write_tensors
from octorec.quant import carried
from octorec.quant.carried import REPORT
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_model
from octorec.quant.recipe import Group, Recipe

ALL = Recipe("all", (Group((".*",), "channel", "token"),))


def plain_folder(path: Path, tensors: dict[str, torch.Tensor], shard_bytes: int = 10**9) -> Path:
    path.mkdir()
    write_tensors(path, tensors.items(), shard_bytes)
    write_config(path, {"model_type": "another"})
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("[!.]*")) if p.is_file()}


def test_every_tensor_is_the_reference_cast_or_untouched(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    report = quantize_checkpoint(source, tmp_path / "fp8", "fp8")
    before, after = Checkpoint(source), Checkpoint(tmp_path / "fp8")
    quantized = {tensor.name: tensor for tensor in report.tensors}
    assert set(after.names()) == set(before.names()) | {f"{name}_scale" for name in quantized}
    for name in before.names():
        tensor = before.load(name)
        if name not in quantized:
            assert after.load(name).dtype == tensor.dtype
            assert torch.equal(after.load(name), tensor)
            continue
        granularity = "block" if "experts" in name else "channel"
        reference = quantize(tensor, granularity)
        assert quantized[name].weights == granularity
        assert quantized[name].shape == tuple(tensor.shape)
        assert quantized[name].absmax == float(tensor.abs().max())
        assert after.load(name).dtype == E4M3
        assert torch.equal(after.load(name).view(torch.uint8), reference.values.view(torch.uint8))
        assert torch.equal(after.load(f"{name}_scale"), reference.scale)


def test_the_report(make_checkpoint: Any, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    source = make_checkpoint("demo")
    report = quantize_checkpoint(
        source, tmp_path / "fp8", "fp8", progress=lambda done, total: calls.append((done, total))
    )
    written = json.loads((tmp_path / "fp8" / REPORT).read_text())
    assert written == json.loads(json.dumps(report.to_dict()))
    assert report.recipe == "fp8"
    for tensor in report.tensors:
        assert tensor.sqnr_db is not None
        assert 25 < tensor.sqnr_db < 40  # E4M3 rounds to 3 bits: about 31.5 dB
        assert tensor.relative_error == pytest.approx(10 ** (-tensor.sqnr_db / 20))

    def size(folder: Path, names: list[str]) -> int:
        return sum(Checkpoint(folder).load(name).nbytes for name in names)

    names = [tensor.name for tensor in report.tensors]
    scales = [f"{name}_scale" for name in names]
    assert report.quantized_bytes_before == size(source, names)
    assert report.quantized_bytes_after == size(tmp_path / "fp8", names + scales)
    assert report.total_bytes_before == size(source, Checkpoint(source).names())
    assert report.total_bytes_after == size(tmp_path / "fp8", Checkpoint(tmp_path / "fp8").names())
    assert calls[-1] == (report.total_bytes_before, report.total_bytes_before)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


@pytest.mark.parametrize("weights", ["channel", "block", "tensor"])
def test_fp8_is_at_most_0_53_of_bf16_at_the_presets_widths(tmp_path: Path, weights: Any) -> None:
    expert = {"expert.weight": torch.randn(1408, 1408).bfloat16()}  # one of the MoE-4B's
    recipe = Recipe("r", (Group(("expert",), weights, "token"),))
    report = quantize_checkpoint(plain_folder(tmp_path / "in", expert), tmp_path / "out", recipe)
    assert report.quantized_bytes_before == 2 * 1408 * 1408
    assert report.quantized_ratio == report.quantized_bytes_after / report.quantized_bytes_before
    assert 0.5 < report.quantized_ratio <= 0.53


def test_the_ratio_of_a_float32_checkpoint_is_against_16_bit(tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "in", {"a.weight": torch.randn(256, 256)})
    report = quantize_checkpoint(source, tmp_path / "out", ALL)
    assert report.quantized_bytes_before == 4 * 256 * 256
    assert report.quantized_ratio == pytest.approx((256 * 256 + 4 * 256) / (2 * 256 * 256))


def test_any_folder_of_matrices_in_any_shards(tmp_path: Path) -> None:
    tensors = {f"layer.{i}.weight": torch.randn(96, 80 + 16 * (i % 3)).half() for i in range(9)}
    tensors |= {"norm.weight": torch.ones(7), "ids": torch.arange(5), "deep": torch.zeros(2, 3, 4)}
    source = plain_folder(tmp_path / "in", tensors, 50_000)
    report = quantize_checkpoint(source, tmp_path / "out", ALL, shard_bytes=40_000)
    assert len(report.tensors) == 9
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(shards) > 2
    assert all(sum(t.nbytes for t in load_file(shard).values()) <= 40_000 for shard in shards)
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["metadata"]["total_size"] == report.total_bytes_after
    for name, shard in index["weight_map"].items():
        with safe_open(tmp_path / "out" / shard, "pt") as handle:
            assert name in handle.keys()  # noqa: SIM118 (a handle is no dictionary)
    after = Checkpoint(tmp_path / "out")
    for name in ("norm.weight", "ids", "deep"):
        assert torch.equal(after.load(name), tensors[name])


def test_zeros_lose_nothing_and_the_report_stays_json(tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "in", {"a.weight": torch.zeros(128, 128).bfloat16()})
    report = quantize_checkpoint(source, tmp_path / "out", ALL)
    assert report.tensors[0].sqnr_db is None
    assert report.tensors[0].relative_error == 0


def test_twice_is_the_same(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    quantize_checkpoint(source, tmp_path / "one", "fp8")
    quantize_checkpoint(source, tmp_path / "two", "fp8")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_catalog_and_small_files_come_along(
    make_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carried, "COPIED_BYTES", 10)
    source = make_checkpoint("demo")
    (source / "catalog" / "deep").mkdir(parents=True)
    (source / "catalog" / "items.parquet").write_bytes(b"items, more than ten bytes")
    (source / "catalog" / "cache.bin").write_bytes(b"")
    (source / "original").mkdir()
    (source / "notes.txt").write_text("small")
    (source / "optimizer.pt").write_bytes(bytes(11))
    report = quantize_checkpoint(source, tmp_path / "fp8", "fp8")
    assert (tmp_path / "fp8/catalog/items.parquet").read_bytes() == b"items, more than ten bytes"
    assert sorted(path.name for path in (tmp_path / "fp8/catalog").iterdir()) == ["items.parquet"]
    assert (tmp_path / "fp8/notes.txt").read_text() == "small"
    assert not (tmp_path / "fp8/optimizer.pt").exists()
    assert report.left_behind == ("catalog/cache.bin", "catalog/deep/", "optimizer.pt", "original/")


def test_no_link_is_followed_out_of_the_folder(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("of the host")
    (secret / "items.parquet").write_text("of the host")
    (source / "README.md").symlink_to(secret / "key")
    (source / "broken").symlink_to("nowhere")
    (source / "circle").symlink_to("circle")
    (source / "folder").symlink_to(secret)
    (source / "catalog").mkdir()
    (source / "catalog" / "catalog.json").write_text("{}")
    (source / "catalog" / "items.parquet").symlink_to(secret / "items.parquet")
    (source / "catalog" / "codebook.safetensors").symlink_to("../../secret/key")
    (source / "notes.txt").write_text("its own")
    (source / "again.txt").symlink_to("notes.txt")
    os.mkfifo(source / "pipe")
    report = quantize_checkpoint(source, tmp_path / "fp8", "fp8")
    assert not any(b"of the host" in content for content in files(tmp_path / "fp8").values())
    assert not any(path.is_symlink() for path in (tmp_path / "fp8").rglob("*"))
    assert (tmp_path / "fp8/again.txt").read_text() == "its own"
    assert [path.name for path in (tmp_path / "fp8/catalog").iterdir()] == ["catalog.json"]
    in_catalog = ("catalog/codebook.safetensors", "catalog/items.parquet")
    assert report.left_behind == (*in_catalog, "README.md", "broken", "circle", "folder", "pipe")


def test_links_in_a_circle_are_no_place_to_write(make_checkpoint: Any, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    assert "exists already" in refused(make_checkpoint("demo"), tmp_path / "circle")


@pytest.mark.parametrize("pattern", ["(?i)A", r"\pL+", r"\C", r"\Qa\E"])
def test_a_pattern_that_python_would_not_read_back_is_refused(tmp_path: Path, pattern: str) -> None:
    source = plain_folder(tmp_path / "in", {"a.weight": torch.ones(16, 16)})
    recipe = Recipe("mine", (Group((pattern,), "channel", "token"),))
    assert "must be an expression of Python too" in refused(source, tmp_path / "out", recipe)


def test_infinity_in_the_config_of_another_model_stays_what_it_is(tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "in", {"a.weight": torch.ones(16, 16)})
    before = '{"model_type": "mamba2", "time_step_limit": [0.0, Infinity], "other": [-Infinity, NaN]}'
    (source / "config.json").write_text(before)
    quantize_checkpoint(source, tmp_path / "out", ALL)
    after = json.loads((tmp_path / "out/config.json").read_text())
    assert after.pop("quantization_config")["quant_method"] == "compressed-tensors"
    assert repr(after) == repr(json.loads(before))


@pytest.mark.parametrize("key", ["rms_eps", "d_model", "n_expert"])
def test_infinity_is_no_size_of_our_model(make_checkpoint: Any, tmp_path: Path, key: str) -> None:
    source = make_checkpoint("demo")
    for value in (math.inf, math.nan):
        write_config(source, {**Checkpoint(source).config, key: value})
        assert key in refused(source, tmp_path / "out")


def test_a_catalog_that_is_a_link_is_left_behind(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "items.parquet").write_text("of the host")
    (source / "catalog").symlink_to(tmp_path / "elsewhere")
    assert quantize_checkpoint(source, tmp_path / "fp8", "fp8").left_behind == ("catalog",)
    assert not (tmp_path / "fp8/catalog").exists()


def test_all_files_of_a_catalog_come_along(tmp_path: Path) -> None:
    ids = [f"i{n}" for n in range(40)]
    vectors = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32).tolist()
    catalog = build_catalog(None, check_items(pa.table({"item_id": ids, "vector": vectors})), (4, 4, 4))
    source = plain_folder(tmp_path / "in", {"a.weight": torch.ones(16, 16)})
    catalog.save(source / "catalog")
    (source / "catalog" / "attributes.parquet").touch()  # of a catalog that learned from attributes
    assert quantize_checkpoint(source, tmp_path / "out", ALL).left_behind == ()
    assert {"catalog.json", "attributes.parquet"} <= files(source / "catalog").keys()
    assert files(source / "catalog") == files(tmp_path / "out" / "catalog")
    assert sorted(CATALOG_FILES) == sorted(files(source / "catalog"))


def test_what_was_copied_is_a_plain_file_of_the_new_owner(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    (source / "run.sh").write_text("#!/bin/sh")
    (source / "run.sh").chmod(0o4777)
    quantize_checkpoint(source, tmp_path / "fp8", "fp8")
    assert not (tmp_path / "fp8/run.sh").stat().st_mode & 0o7111


def test_a_folder_inside_the_checkpoint_does_not_name_itself(make_checkpoint: Any) -> None:
    source = make_checkpoint("demo")
    assert quantize_checkpoint(source, source / "fp8", "fp8").left_behind == ()


def test_a_model_that_lacks_a_tensor_is_refused_before_the_work(make_checkpoint: Any, tmp_path: Path) -> None:
    """Without an index nothing but config.json tells that something is missing."""
    source = make_checkpoint("demo")
    shard = next(source.glob("*.safetensors"))
    tensors = load_file(shard)
    del tensors["blocks.1.ffn.experts.2.up_proj.weight"]
    save_file(tensors, shard)
    (source / INDEX).unlink()
    assert "missing blocks.1.ffn.experts.2.up_proj.weight" in refused(source, tmp_path / "fp8")


def refused(source: Path, out: Path, recipe: Any = "fp8", force: bool = False) -> str:
    """The message of the refusal; nothing may be left beside what was there."""
    beside = sorted(out.parent.iterdir())
    with pytest.raises(InputError) as error:
        quantize_checkpoint(source, out, recipe, force)
    assert sorted(out.parent.iterdir()) == beside
    return str(error.value)


@pytest.mark.parametrize("where", ["blocks.1.ffn.experts.2.up_proj.weight", "head.1.weight", "bos"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite(make_checkpoint: Any, tmp_path: Path, where: str, value: float) -> None:
    source = make_checkpoint("demo")
    shard = next(source.glob("*.safetensors"))
    tensors = load_file(shard)
    tensors[where].view(-1)[5] = value
    save_file(tensors, shard)
    message = refused(source, tmp_path / "fp8")
    assert where in message
    assert ("1 NaN and 0 Inf" if math.isnan(value) else "0 NaN and 1 Inf") in message


def test_a_number_too_large_for_float32(tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "in", {"a.weight": torch.full((16, 16), 1e300, dtype=torch.float64)})
    assert "0 NaN and 256 Inf among 256 values" in refused(source, tmp_path / "out", ALL)


def test_quantized_already(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    quantize_checkpoint(source, tmp_path / "fp8", "fp8")
    assert "is quantized already" in refused(tmp_path / "fp8", tmp_path / "again")
    config = json.loads((tmp_path / "fp8/config.json").read_text())
    del config["quantization_config"]
    write_config(tmp_path / "fp8", config)
    assert "is quantized already" in refused(tmp_path / "fp8", tmp_path / "again")


def test_unknown_recipe_and_recipe_of_another_model(make_checkpoint: Any, tmp_path: Path) -> None:
    assert "fp8, fp8-block, fp8-channel" in refused(make_checkpoint("demo"), tmp_path / "out", "fp9")
    source = plain_folder(tmp_path / "another", {"a.weight": torch.ones(4, 4)})
    message = refused(source, tmp_path / "out")
    assert "quantizes nothing of a checkpoint with a: recipes that come with OctoRec are for OneRec-V2" in message


def test_out_exists(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("kept")
    assert "exists already" in refused(source, out)
    assert (out / "precious").read_text() == "kept"
    assert "holds precious" in refused(source, out, force=True)
    assert (out / "precious").read_text() == "kept"
    (out / "precious").unlink()
    quantize_checkpoint(source, out, "fp8", force=True)
    assert Checkpoint(out).quantization is not None


def test_too_little_room_is_said_before_a_tensor_is_read(
    make_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_checkpoint("demo")
    needed = quantize_checkpoint(source, tmp_path / "fp8", "fp8").total_bytes_after
    room = SimpleNamespace(free=0.9 * needed)
    monkeypatch.setattr("octorec.output.refuse.shutil.disk_usage", lambda _: room)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "items", lambda _: pytest.fail("it was read"))
        assert "are to be written" in refused(source, tmp_path / "out")
    room.free = needed
    quantize_checkpoint(source, tmp_path / "out", "fp8")


def test_force_never_replaces_the_source(make_checkpoint: Any) -> None:
    source = make_checkpoint("demo")
    before = files(source)
    assert "is what is read" in refused(source, source, force=True)
    assert "holds what is read" in refused(source, source.parent, force=True)
    assert files(source) == before


def test_a_failure_with_force_keeps_what_was_there(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    quantize_checkpoint(source, tmp_path / "fp8", "fp8")
    before = files(tmp_path / "fp8")
    shard = next(source.glob("*.safetensors"))
    tensors = load_file(shard)
    tensors["head.2.weight"][0, 0] = math.nan  # the last tensors of the folder
    save_file(tensors, shard)
    refused(source, tmp_path / "fp8", force=True)
    assert files(tmp_path / "fp8") == before


def test_truncated_missing_and_foreign_folders(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    shard = next(source.glob("*.safetensors"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1000])
    assert "is truncated" in refused(source, tmp_path / "out")
    shard.write_bytes(whole[:4])
    assert "is truncated" in refused(source, tmp_path / "out")
    shard.unlink()
    assert "is named by model.safetensors.index.json but missing" in refused(source, tmp_path / "out")
    assert "there is no such file or folder" in refused(tmp_path / "nowhere", tmp_path / "out")
    shutil.rmtree(source)
    source.mkdir()
    assert "config.json" in refused(source, tmp_path / "out")


def test_a_matrix_of_integers(tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "in", {"a.weight": torch.ones(4, 4, dtype=torch.int32)})
    assert "only floating-point" in refused(source, tmp_path / "out", ALL)


def test_what_could_not_be_loaded_is_refused_before_the_work(make_checkpoint: Any, tmp_path: Path) -> None:
    message = refused(make_checkpoint("tiny", d_expert=48), tmp_path / "out")
    assert "rows of blocks.1.ffn.experts.0.gate_proj: got 48" in message
    assert "fp8-channel" in message
    message = refused(make_checkpoint("tiny"), tmp_path / "out", "fp8-block")
    assert "rows of blocks.0.self_attn.q_proj: got 32" in message
    heads = Recipe("heads", (Group((r"head\.\d+",), "channel", "token"),))
    message = refused(make_checkpoint("demo"), tmp_path / "out", heads)
    assert "quantization groups: got 'head.0'" in message
    assert "under `ignore`" in message
    for activations, reason in (("tensor", "depend on its neighbours in a batch: say"), ("group", "take")):
        recipe = Recipe("r", (Group((r"blocks\..*_proj",), "channel", activations),))
        message = refused(make_checkpoint("demo"), tmp_path / "out", recipe)
        assert f"activations of blocks.0.cross_attn.q_proj: got '{activations}'" in message
        assert f"{reason} `token`" in message or f"{reason} activations by `token`" in message
    half = Recipe("half", (Group((r".*self_attn\.[qk]_proj",), "channel", "token"),))
    message = refused(make_checkpoint("demo"), tmp_path / "out", half)
    assert "got 'blocks.0.self_attn.v_proj'; it must be in the group of blocks.0.self_attn.q_proj" in message


def test_a_matrix_whose_widths_no_product_takes_stays_in_16_bit(tmp_path: Path) -> None:
    shapes = {"mlp.gate_proj": (80, 72), "mlp.up_proj": (80, 80), "mlp.down_proj": (80, 80), "other": (72, 80)}
    source = plain_folder(tmp_path / "in", {f"{n}.weight": torch.randn(*shape).half() for n, shape in shapes.items()})
    report = quantize_checkpoint(source, tmp_path / "out", ALL)
    assert [tensor.name for tensor in report.tensors] == ["mlp.down_proj.weight"]
    kept = {matrix.name: matrix.reason for matrix in report.kept}
    assert kept["mlp.gate_proj.weight"] == "80 x 72: FP8 products take multiples of 16 for N and K"
    assert kept["mlp.up_proj.weight"].startswith("one product computes it and mlp.gate_proj, which is 80 x 72")
    assert kept["other.weight"].startswith("72 x 80")
    assert json.loads((tmp_path / "out" / REPORT).read_text())["kept"][0]["shape"] == [80, 72]
    after = Checkpoint(tmp_path / "out")
    assert all(after.load(name).dtype == torch.float16 for name in kept)
    assert after.quantization["ignore"] == ["mlp.gate_proj", "mlp.up_proj", "other"]
    only = Recipe("only", (Group(("other|.*gate_proj",), "channel", "token"),))
    message = refused(source, tmp_path / "none", only)
    assert "quantizes nothing, for no FP8 product takes the widths: mlp.gate_proj is 80 x 72" in message


@pytest.mark.parametrize("recipe", ["fp8", "fp8-channel"])
def test_experts_of_odd_widths_are_kept_together(make_checkpoint: Any, tmp_path: Path, recipe: str) -> None:
    report = quantize_checkpoint(make_checkpoint("tiny"), tmp_path / "fp8", recipe)  # experts 24 wide
    assert {matrix.shape for matrix in report.kept} == {(24, 32), (32, 24)}
    assert all("experts" in matrix.name for matrix in report.kept)
    assert not any("experts" in tensor.name for tensor in report.tensors)
    assert len(report.kept) == 2 * 4 * 3
    load_model(tmp_path / "fp8")
