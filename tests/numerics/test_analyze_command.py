"""`octorec analyze` in a pipe."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from octorec import cli
from octorec.quant.recipe import load_recipe

LONG = (
    "sparse_arch.embedding_bag_collection.embedding_bags.a_feature_with_a_name_as_long_as_they_are_in_production_" * 3
)


def analyze(*arguments: object) -> int:
    """Exit code of the command; where output is captured nobody watches."""
    try:
        cli.main(["analyze", *map(str, arguments)])
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def test_names_are_whole_in_a_pipe(tmp_path: Path, capsys: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{LONG}.weight": torch.randn(100, 32, generator=generator), "over_arch.0.weight": torch.randn(64, 64)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert analyze(tmp_path, "--out", tmp_path / "out", "--batch", "2", "--beam", "8", "--gpu", "l40s") == 0
    said = capsys.readouterr().out
    assert f" {LONG}.weight " in said
    assert "…" not in said
    for words in ("ranker", "quantize", "L40S at batch 2, beam 8", "embedding lookups", "looked up, not multiplied"):
        assert words in said
    assert "L40S" in (tmp_path / "out/report.html").read_text()


def test_what_a_user_causes_is_one_line(tmp_path: Path, capsys: Any) -> None:
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert analyze(tmp_path, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: checkpoint: got ")
    assert "weights_only=True" in said.err
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_json(make_checkpoint: Any, tmp_path: Path, capsys: Any) -> None:
    assert analyze(make_checkpoint("tiny"), "--out", tmp_path / "out", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["family"] == "OneRec-V2"
    assert {layer["decision"] for layer in found["verdict"]["layers"]} <= {"channel", "block", "keep"}
    assert found["speed"]["gpu"] == "H100 SXM 80GB"
    assert {"sqnr_block", "flushed_tensor", "range_p99_channel", "saturated_unscaled"} <= set(found["weights"][0])


def test_names_of_tensors_are_shown_and_never_obeyed(tmp_path: Path, capsys: Any) -> None:
    nasty = ["$\\foo$", "a_{$", "[bold]x[/]", ":bomb:", "<script>", "x" * 400, "# *"]
    tensors = {f"layers.{n}.{name}.weight": torch.randn(128, 128) for n, name in enumerate(nasty)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert analyze(tmp_path, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert all(words in said for words in ("layers.2.[bold]x[/].weight", ":bomb:"))
    page = (tmp_path / "out/report.html").read_text()
    assert "<script>.weight" not in page
    assert load_recipe(tmp_path / "out/recipe.yaml").assign([name.removesuffix(".weight") for name in tensors])


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nname: evil", "\u202e", "\x9b"])
def test_a_name_that_a_terminal_would_obey_is_refused_and_shown(tmp_path: Path, capsys: Any, name: str) -> None:
    save_file({f"layers.0.{name}.weight": torch.randn(128, 128)}, tmp_path / "model.safetensors")
    assert analyze(tmp_path, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert name not in said
    assert name.encode("unicode_escape").decode() in said
