"""Activations that are no numbers: the report is drawn all the same, and no product that reads them is called safe."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from octorec.report import plots
from octorec.report.analysis import analyze


@pytest.mark.usefixtures("undrawn")
def test_a_report_of_activations_that_overflow(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint("demo")
    shard = next(folder.glob("*.safetensors"))
    tensors = load_file(shard)
    tensors["blocks.0.ffn.down_proj.weight"][1, 3] = 1e30
    save_file(tensors, shard)
    batch = {"lengths": torch.full((4,), 5), "codes": torch.zeros(4, 5, 3).long(), "user": torch.zeros(4, 0)}
    found = analyze(folder, tmp_path / "out", (batch, torch.zeros(4, 3, dtype=torch.long)))
    assert found.advice is not None
    reasons = {layer.module: layer.reason for layer in found.advice.layers}
    assert "NaN or Inf" in reasons["blocks.1.self_attn.q_proj"]
    assert reasons["blocks.0.self_attn.q_proj"] == "well within E4M3"
    json.dumps(found.to_dict(), allow_nan=False)
    rows = {row["name"]: row for row in pq.read_table(tmp_path / "out" / "activations.parquet").to_pylist()}
    assert rows["blocks.1.self_attn.qkv_proj"]["error_channel/token_both"] is None
    assert "Activations" in (tmp_path / "out" / "report.html").read_text()


def test_what_is_no_number_is_no_dot() -> None:
    drawn = plots.dots(["a", "b", "c"], {"x": {"s": [1.0, float("inf"), float("nan")]}})
    assert drawn == plots.dots(["a", "b", "c"], {"x": {"s": [1.0, None, None]}})
