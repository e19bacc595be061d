"""The analysis of a folder: its table, its report, its Parquet files and its JSON agree with each other."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from octorec.errors import InputError, MismatchError
from octorec.models.hf_folder import Checkpoint
from octorec.models.model import Inputs
from octorec.numerics.analysis import folded
from octorec.numerics.stats import weight_stats
from octorec.quant.convert import quantize_checkpoint
from octorec.report.analysis import analyze
from octorec.report.analysis_table import render, render_all


def requests(count: int = 6) -> tuple[Inputs, Tensor]:
    generator = torch.Generator().manual_seed(1)
    history = torch.randint(0, 64, (count, 5, 3), generator=generator)
    batch = {"lengths": torch.full((count,), 5), "codes": history, "user": torch.zeros(count, 0)}
    return batch, torch.randint(0, 64, (count, 3), generator=generator)


def printed(analysis: Any, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(render_all(analysis), *render(analysis, Path("OUT")), sep="\n")
    return file.getvalue()


@pytest.mark.usefixtures("undrawn")
def test_weights_alone(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint("demo")
    calls: list[tuple[int, int]] = []
    found = analyze(folder, tmp_path / "out", progress=lambda done, total: calls.append((done, total)))
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "recipe.yaml",
        "report.html",
        "stats.parquet",
    ]
    assert len(calls) == len(Checkpoint(folder).names())
    rows = pq.read_table(tmp_path / "out/stats.parquet").to_pylist()
    assert [row["name"] for row in rows] == [stats.name for stats in found.weights]
    for row, stats in zip(rows, found.weights, strict=True):
        weight = Checkpoint(folder).load(row["name"]).double()
        assert row["absmax"] == float(weight.abs().max())
        assert row["variance"] == pytest.approx(float(weight.var(correction=0)), rel=1e-4, abs=1e-12)
        assert row["shape"] == list(weight.shape) == list(stats.shape)
        assert sum(row["octaves"]) == weight.numel()
        assert (row["sqnr_block"] is None) == (weight.dim() != 2)
    assert found.to_dict()["activations"] == []
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert "octaves" not in text
    assert len(json.loads(text)["weights"]) == len(rows)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_activations_of_real_requests(make_checkpoint: Any, tmp_path: Path) -> None:
    found = analyze(make_checkpoint("demo"), tmp_path / "out", requests())
    names = ["activations.parquet", "recipe.yaml", "report.html", "stats.parquet"]
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == names
    rows = pq.read_table(tmp_path / "out/activations.parquet").to_pylist()
    assert [row["name"] for row in rows] == [stats.name for stats in found.activations]
    assert {row["rows"] for row in rows} == {6 * 5, 6 * 3, 6 * 3 * 3}  # context items, positions, positions x experts
    plain = found.to_dict()["activations"]
    assert [row["error_channel/token_both"] for row in plain] == [row["error_channel/token_both"] for row in rows]
    page = (tmp_path / "out/report.html").read_text()
    for word in ("Activations", "blocks.0.self_attn.qkv_proj", "blocks.1.ffn.experts.down_proj"):
        assert word in page

    assert "…" not in printed(found, 80)  # names are never cut
    text = printed(found, 2000)  # as where nobody watches
    assert "…" not in text
    for name in [row["tensor"] for row in folded(found.weights)] + [stats.name for stats in found.activations]:
        assert f" {name} " in text


@pytest.mark.slow
def test_the_experts_of_a_block_are_one_row(make_checkpoint: Any) -> None:
    folder = make_checkpoint("demo", n_layer=12, n_dense=1)
    rows = {row["tensor"]: row for row in folded(weight_stats(folder))}
    names = [f"blocks.2.ffn.experts.{expert}.up_proj.weight" for expert in range(4)]
    weights = [Checkpoint(folder).load(name).double() for name in names]
    row = rows["blocks.2.ffn.experts.*.up_proj.weight"]
    together = torch.cat(weights)
    assert row["shape"] == "4 x (128 x 128)"
    assert row["absmax"] == float(together.abs().max())
    assert row["mean |w|"] == pytest.approx(float(together.abs().mean()))
    assert row["variance"] == pytest.approx(float(together.var(correction=0)), rel=1e-5)
    assert row["p99.9"] == max(np.quantile(w.abs().numpy(), 0.999, method="inverted_cdf") for w in weights)
    assert "blocks.2.ffn.shared_experts.0.up_proj.weight" in rows
    order = [name for name in rows if name.endswith("router.weight")]
    assert order == [f"blocks.{block}.ffn.router.weight" for block in range(1, 12)]


@pytest.mark.usefixtures("undrawn")
def test_nan_is_named_and_the_rest_analyzed(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint("demo")
    shard = next(folder.glob("*.safetensors"))
    tensors = load_file(shard)
    tensors["head.1.weight"][0, :2] = torch.tensor([math.nan, math.inf])
    save_file(tensors, shard)
    found = analyze(folder, tmp_path / "out", requests())
    assert found.activations == ()
    assert "head.1.weight holds 1 NaN and 1 Inf; the rest was measured." in found.notes
    assert any("Activations were not measured" in note for note in found.notes)
    assert "head.1.weight holds 1 NaN" in (tmp_path / "out/report.html").read_text()
    assert "head.1.weight holds 1 NaN" in printed(found, 200)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_fp8_checkpoint(make_checkpoint: Any, tmp_path: Path) -> None:
    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", "fp8")
    found = analyze(tmp_path / "fp8", tmp_path / "out", requests())
    assert any("quantized already" in note for note in found.notes)
    assert found.activations
    assert not (tmp_path / "out/recipe.yaml").exists()  # it could not be applied
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_folder_of_another_model(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    tensors = {"layers.0.bias": torch.zeros(3), "ids": torch.arange(4), "none": torch.empty(0)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    found = analyze(folder, tmp_path / "out")
    assert "holds no floating-point matrix" in (tmp_path / "out/report.html").read_text()
    assert len(found.weights) == 3
    assert "layers.0.bias" in printed(found, 200)
    assert "Empty or no floating-point numbers, so not measured: ids, none." in found.notes
    assert found.recipe is None
    with pytest.raises(InputError, match="model_type"):
        analyze(folder, tmp_path / "other-out", requests())
    assert not (tmp_path / "other-out").exists()


@pytest.mark.usefixtures("undrawn")
def test_out_exists(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint("tiny")
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("kept")
    with pytest.raises(InputError, match="exists already"):
        analyze(folder, out)
    assert (out / "precious").read_text() == "kept"
    with pytest.raises(InputError, match="holds precious"):
        analyze(folder, out, force=True)
    assert (out / "precious").read_text() == "kept"
    (out / "precious").unlink()
    analyze(folder, out, force=True)
    analyze(folder, out, force=True)
    assert (out / "report.html").exists()


def test_what_cannot_end_well_does_not_begin(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint("tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_layers": 3}))
    calls: list[int] = []
    with pytest.raises(InputError, match="n_layers"):
        analyze(folder, tmp_path / "out", progress=lambda done, total: calls.append(done))
    assert not calls


HARD = {
    "largest": (torch.randn(32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1) * 3e38).bfloat16(),
    "smallest": torch.full((32, 32), 1e-44),
    "zeros": torch.zeros(32, 32),
    "not finite": torch.tensor([[math.nan, math.inf] * 16] * 16),
    "float64": torch.full((32, 32), 1e-300, dtype=torch.float64),
    "three dimensions": torch.ones(2, 16, 16),
    "one dimension": torch.full((7,), math.nan),
    "a number": torch.tensor(3.0),
    "empty": torch.zeros(0, 16),
    "integers": torch.ones(16, dtype=torch.int32),
}


@pytest.mark.parametrize(
    "kind", [kind if kind == "not finite" else pytest.param(kind, marks=pytest.mark.slow) for kind in HARD]
)
@pytest.mark.parametrize(
    "name", ["a$\\frac$ <b>&.²1.weight", pytest.param("model.layers.0.mlp.up_proj.weight", marks=pytest.mark.slow)]
)
@pytest.mark.filterwarnings("error")
def test_hard_numbers_and_names_make_a_report_and_json(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_experts": "4", "num_experts_per_tok": [2]}))
    save_file({name: HARD[kind], f"{name}.norm": torch.ones(3)}, tmp_path / "model.safetensors")
    found = analyze(tmp_path, tmp_path / "numbers")
    json.dumps(found.to_dict(), allow_nan=False)
    assert (tmp_path / "numbers" / "report.html").stat().st_size > 0
    assert pq.read_table(tmp_path / "numbers" / "stats.parquet").num_rows == 2


def test_a_checkpoint_without_tensors_is_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="holds no tensor"):
        analyze(tmp_path / "model.safetensors", tmp_path / "numbers")


def test_tensors_that_config_json_does_not_know_are_refused(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint("tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "codebook_sizes": [7]}))
    with pytest.raises(MismatchError, match=r"its config\.json says"):
        analyze(folder, tmp_path / "numbers")
