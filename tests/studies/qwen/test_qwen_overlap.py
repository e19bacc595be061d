"""Beams of OctoRec in BF16 and FP8 are set beside transformers' on a small folder."""

import sys
from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.rows.qwen import QwenParityRow
from octorec.errors import InputError
from octorec.quant.convert import quantize_checkpoint
from studies.qwen import folder, overlap
from tests.studies.qwen.made_study import SIZES, STUDY, made_data


def test_a_folder_has_a_name() -> None:
    assert overlap.named_folders(["fp8=a/b", "fp8-block=c=d"]) == {"fp8": Path("a/b"), "fp8-block": Path("c=d")}
    for wrong in ("fp8", "=a", "fp8="):
        with pytest.raises(InputError, match="NAME=FOLDER"):
            overlap.named_folders([wrong])


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_each_side_is_set_beside_transformers(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model, eight, out = (tmp_path / name for name in ("data", "model", "fp8", "rows.jsonl"))
    data.mkdir()
    catalog = made_data(data)
    tokenizer = folder.made_tokenizer(SIZES)
    folder.save(model, folder.new_model(tokenizer, dict(STUDY.shape), 0), tokenizer, catalog, {})
    quantize_checkpoint(model, eight, "fp8")
    given = [str(model), "--fp8", f"fp8={eight}", "--data", str(data), "--out", str(out), "--device", device]
    monkeypatch.setattr(sys, "argv", ["overlap", *given, "--widths", "8", "16", "--prompts", "3"])
    overlap.main()
    rows = records.read(out, QwenParityRow)
    names = ["OctoRec bf16", "OctoRec fp8", "transformers float32"]
    assert [(row.beam_width, row.one) for row in rows] == [(width, name) for width in (8, 16) for name in names]
    assert {row.other for row in rows} == {"transformers bfloat16"}
    assert len({row.run for row in rows}) == 1
    assert all(row.prompts == 3 and row.overlap > 0.6 for row in rows)
    assert rows[1].score_difference > rows[0].score_difference  # FP8 is farther off
