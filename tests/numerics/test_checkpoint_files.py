"""Every form a checkpoint comes in, and every way in which it can be broken."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from octorec.errors import InputError, MismatchError
from octorec.kernels.fp8 import E4M3, dequantize, quantize
from octorec.numerics import checkpoint_files
from octorec.numerics.checkpoint_files import CheckpointFiles
from octorec.numerics.stats import weight_stats
from octorec.report.analysis import analyze

NAMES = ("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight")


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(256, 128, generator=generator).bfloat16() for name in NAMES}


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A folder as Hugging Face shards it: two files and their index."""
    folder = tmp_path / "sharded"
    folder.mkdir()
    tensors, weight_map = weights(), {}
    for number, names in enumerate((NAMES[:2], NAMES[2:]), 1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, folder / shard, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(names, shard))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    return folder


@pytest.mark.slow
def test_sharded(sharded: Path, tmp_path: Path) -> None:
    files = CheckpointFiles(sharded)
    assert sorted(files.names()) == sorted(NAMES)
    assert files.nbytes() == 3 * 256 * 128 * 2
    assert files.config == {"model_type": "qwen3"}
    for name, tensor in weights().items():
        assert torch.equal(files.tensor(name).values, tensor)
    found = analyze(sharded, tmp_path / "out")
    assert found.family == "unknown"
    assert [stats.role for stats in sorted(found.weights, key=lambda s: s.name)] == ["embedding", "ffn", "ffn"]


@pytest.mark.usefixtures("undrawn")
def test_a_single_file_needs_no_folder_around_it(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "ranker.safetensors")
    found = analyze(tmp_path / "ranker.safetensors", tmp_path / "out")
    assert len(found.weights) == 3
    assert found.checkpoint == "ranker.safetensors"


def test_several_files_without_an_index_are_one_checkpoint(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "model.safetensors")
    save_file({"another": torch.zeros(3)}, tmp_path / "consolidated.safetensors")
    assert sorted(CheckpointFiles(tmp_path).names()) == sorted([*NAMES, "another"])


def test_files_that_hold_the_same_tensor(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file(weights(), tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match=r"b\.safetensors.*so does another file"):
        CheckpointFiles(tmp_path)


def test_a_missing_shard(sharded: Path, tmp_path: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002\.safetensors.*named by .* but missing"):
        analyze(sharded, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_shard(sharded: Path, tmp_path: Path, keep: int) -> None:
    shard = sharded / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model-00001-of-00002\.safetensors.*is truncated"):
        analyze(sharded, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shard_that_lacks_what_the_index_says(sharded: Path) -> None:
    shard = sharded / "model-00001-of-00002.safetensors"
    save_file({NAMES[0]: weights()[NAMES[0]]}, shard)
    with pytest.raises(InputError, match=f"says it holds {NAMES[1]}"):
        CheckpointFiles(sharded)


@pytest.mark.parametrize("text", ["{", "[1]", '{"metadata": {}}'])
def test_a_broken_index(sharded: Path, text: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match=r"index\.json"):
        CheckpointFiles(sharded)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickled_files_are_refused_with_the_way_to_convert(tmp_path: Path, name: str) -> None:
    torch.save({"x": torch.zeros(3)}, tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match="weights_only=True") as error:
            CheckpointFiles(path)
        assert name in str(error.value)
        assert "runs the code inside" in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file or folder"):
        CheckpointFiles(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"must be a folder that holds \.safetensors files; this one is empty"):
        CheckpointFiles(tmp_path)
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(InputError, match="no safetensors file"):
        CheckpointFiles(tmp_path / "readme.txt")


@pytest.mark.parametrize(
    ("suffix", "granularity", "shape"),
    [
        ("_scale", "channel", (200, 1)),
        ("_scale", "channel", (200,)),
        ("_scale", "tensor", (1,)),
        ("_scale", "tensor", ()),
        ("_scale", "block", (2, 3)),
        ("_scale_inv", "block", (2, 3)),
        ("_scale", "group", (200, 3)),
    ],
)
def test_fp8_through_its_scales(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, granularity: Any, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(checkpoint_files, "STRIPE", 128)
    q = quantize(torch.randn(200, 300, generator=torch.Generator().manual_seed(0)), granularity)
    tensors = {"a.weight": q.values, f"a.weight{suffix}": q.scale.reshape(shape), "norm.weight": torch.ones(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    files = CheckpointFiles(tmp_path)
    assert files.quantized
    assert sorted(files.names()) == ["a.weight", "norm.weight"]
    tensor = files.tensor("a.weight")
    assert torch.equal(torch.cat([stripe.clone() for stripe in tensor.stripes()]), dequantize(q))
    found = next(stats for stats in weight_stats(tmp_path) if stats.name == "a.weight")
    assert found.dtype == "float8_e4m3fn"
    assert found.distribution is not None
    assert found.distribution.absmax == float(dequantize(q).abs().max())


@pytest.mark.usefixtures("undrawn")
def test_int8_through_its_scales(tmp_path: Path) -> None:
    values = torch.randint(-127, 128, (40, 50), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    scale = torch.rand(40, 1, generator=torch.Generator().manual_seed(1))
    save_file({"a.weight": values, "a.weight_scale": scale, "ids": torch.arange(5)}, tmp_path / "model.safetensors")
    found = analyze(tmp_path, tmp_path / "out")
    weight = next(stats for stats in found.weights if stats.name == "a.weight")
    assert weight.distribution is not None
    assert weight.distribution.absmax == float((values.float() * scale).abs().max())
    assert any("8-bit tensors were read through their scales" in note for note in found.notes)
    assert "Empty or no floating-point numbers, so not measured: ids." in found.notes


def test_scales_that_do_not_fit_or_are_missing(tmp_path: Path) -> None:
    values = torch.zeros(200, 300).to(E4M3)
    save_file({"a.weight": values, "a.weight_scale": torch.ones(7, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(MismatchError, match=r"a\.weight_scale.*128 x 128"):
        weight_stats(tmp_path)
    save_file({"a.weight": values}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"needs its a\.weight_scale beside it"):
        weight_stats(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_static_scales_of_activations_are_named_and_not_measured(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(4, 4), "a.input_scale": torch.tensor(0.5)}, tmp_path / "x.safetensors")
    found = analyze(tmp_path, tmp_path / "out")
    assert [stats.name for stats in found.weights] == ["a.weight"]
    assert "Scales of activations, which change no weight: a.input_scale." in found.notes
    assert found.recipe is None


def test_stripes_share_one_buffer(monkeypatch: pytest.MonkeyPatch, sharded: Path) -> None:
    monkeypatch.setattr(checkpoint_files, "STRIPE", 128)
    stripes = list(CheckpointFiles(sharded).tensor(NAMES[0]).stripes())
    assert [len(stripe) for stripe in stripes] == [128, 128]
    assert len({stripe.data_ptr() for stripe in stripes}) == 1


def test_our_own_checkpoint(make_checkpoint: Any) -> None:
    folder = make_checkpoint("demo")
    shards = [load_file(path) for path in folder.glob("*.safetensors")]
    assert {name for shard in shards for name in shard} == set(CheckpointFiles(folder).names())
