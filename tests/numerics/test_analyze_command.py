"""`octorec analyze` in a pipe and on a terminal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from octorec.cli import app as cli
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


@pytest.mark.usefixtures("undrawn")
def test_names_are_whole_in_a_pipe(tmp_path: Path, capsys: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{LONG}.weight": torch.randn(100, 32, generator=generator), "over_arch.0.weight": torch.randn(64, 64)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert analyze(tmp_path, "--out", tmp_path / "out", "--batch", "2", "--beam", "8", "--gpu", "l40s", "--all") == 0
    said = capsys.readouterr().out
    assert f" {LONG}.weight " in said
    assert "…" not in said
    for words in ("ranker", "quantize", "L40S at batch 2, beam 8", "embedding lookups", "looked up, not multiplied"):
        assert words in said
    assert "L40S" in (tmp_path / "out/report.html").read_text()


def language_model(path: Path, spoiled: Callable[[int], bool], name: str = "mlp.down_proj") -> Path:
    """A checkpoint of 12 layers; in the spoiled ones magnitudes go over 20 octaves in every scale's group."""
    generator = torch.Generator().manual_seed(0)
    tensors = {"model.embed_tokens.weight": torch.randn(40, 128, generator=generator)}
    for layer in range(12):
        for part in ("self_attn.q_proj", name):
            spread = 4.0 if part == name and spoiled(layer) else 0.0
            weight = torch.randn(128, 128, generator=generator) * torch.exp(
                spread * torch.randn(128, 128, generator=generator)
            )
            tensors[f"model.layers.{layer}.{part}.weight"] = weight
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    return path


def at_80_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any, *arguments: object) -> list[str]:
    """The lines that a terminal of 80 columns shows."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("octorec.report.analysis._write", lambda *_: None)  # the page is tested elsewhere, and slow
    assert analyze(*arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_a_screen_holds_the_verdict_and_what_is_not_plainly_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    model = language_model(tmp_path / "lm", lambda layer: layer in (0, 3, 4, 5, 11))
    lines = at_80_columns(monkeypatch, tmp_path, capsys, model, "--out", "out")
    assert len(lines) < 24
    assert lines[0] == "lm (decoder): quantize in part."
    at = lines.index("Not plainly safe, 5 of 24 products:")
    assert lines[at + 1] == "  model.layers.(0,3-5,11).mlp.down_proj (5 matrices)"
    assert lines[at + 2].startswith("      keep in 16 bit: neither a scale a channel (its weights: ")
    assert "In 16 bit for what they are: embedding (1)." in lines
    assert "  recipe.yaml    the verdict, for octorec quantize --recipe" in lines
    assert not any("q_proj" in line for line in lines)


def test_a_long_name_is_whole_at_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    name = "a_projection_with_a_name_that_is_longer_than_a_line_" * 3
    model = language_model(tmp_path / "lm", lambda layer: layer % 2 == 0, f"mlp.{name}")
    lines = at_80_columns(monkeypatch, tmp_path, capsys, model, "--out", "out")
    blocks = ",".join(map(str, range(0, 12, 2)))
    assert f"  model.layers.({blocks}).mlp.{name} (6 matrices)" in lines


def test_what_is_plainly_safe_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    model = language_model(tmp_path / "lm", lambda layer: False)
    lines = at_80_columns(monkeypatch, tmp_path, capsys, model, "--out", "out")
    assert "All 24 products are plainly safe: a scale a channel is enough." in lines
    assert max(map(len, lines)) <= 80


def test_what_a_user_causes_is_one_line(tmp_path: Path, capsys: Any) -> None:
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert analyze(tmp_path, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: checkpoint: got ")
    assert "weights_only=True" in said.err
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
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
    assert analyze(tmp_path, "--out", tmp_path / "out", "--all") == 0
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
