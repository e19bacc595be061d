"""`octorec analyze` as a shell runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from octorec import cli

LONG = (
    "sparse_arch.embedding_bag_collection.embedding_bags.a_feature_with_a_name_as_long_as_they_are_in_production_" * 3
)


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "octorec.cli", "analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_names_are_whole_in_a_pipe(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{LONG}.weight": torch.randn(100, 32, generator=generator), "over_arch.0.weight": torch.randn(64, 64)}
    save_file(tensors, tmp_path / "model.safetensors")
    done = analyze(tmp_path, "--out", tmp_path / "out", "--batch", "2", "--beam", "8", "--gpu", "l40s")
    assert done.returncode == 0, done.stderr
    assert f" {LONG}.weight " in done.stdout
    assert "…" not in done.stdout
    for words in ("ranker", "quantize", "L40S at batch 2, beam 8", "embedding lookups", "looked up, not multiplied"):
        assert words in done.stdout
    assert "L40S" in (tmp_path / "out/report.html").read_text()


def test_what_a_user_causes_is_one_line(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "pytorch_model.bin")
    done = analyze(tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: checkpoint: got ")
    assert "weights_only=True" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_json(make_checkpoint: Any, tmp_path: Path, capsys: Any) -> None:
    cli.app(["analyze", str(make_checkpoint("tiny")), "--out", str(tmp_path / "out"), "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["family"] == "OneRec-V2"
    assert {layer["decision"] for layer in found["verdict"]["layers"]} <= {"channel", "block", "keep"}
    assert found["speed"]["gpu"] == "H100 SXM 80GB"
    assert {"sqnr_block", "flushed_tensor", "range_p99_channel", "saturated_unscaled"} <= set(found["weights"][0])
