"""Rows of the Qwen benchmarks become tables and a figure that carries its data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_rows import HERE, made

from benchmarks import qwen_report, records, speed_figure
from benchmarks.qwen_goals import BF16, FP8
from benchmarks.rows.engine import KernelTime
from benchmarks.rows.qwen import QwenParityRow
from benchmarks.rows.qwen_speed import ProbeFailure, ProbeRow, QwenSpeedFailure, QwenSpeedRow, QwenStepRow, QwenWanted

H200 = replace(HERE, gpu="NVIDIA H200", commit="abc1234")


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    return tmp_path


def speed(wanted: QwenWanted, ms: float, **more: Any) -> QwenSpeedRow:
    rates = {"requests_per_s": 1e3 * wanted.batch / ms, "ms_per_batch": ms, "p50_ms": ms + 1, "mfu": 0.3}
    return made(QwenSpeedRow, environment=H200, **vars(wanted), **{**rates, **more})


def test_without_rows_every_block_says_so() -> None:
    blocks = (qwen_report.goals, qwen_report.speed, qwen_report.beside, qwen_report.ablation, qwen_report.kernels)
    assert all(block().startswith("Not measured yet: `python -m benchmarks.") for block in blocks)
    assert "studies.qwen.overlap" in qwen_report.overlap()
    assert qwen_report.lines() == {}
    assert qwen_report.figure().startswith("Not measured yet")


def test_the_newest_row_of_a_batch_counts_on_the_card_that_was_last(results: Path) -> None:
    old, other = speed(FP8, 90.0), replace(speed(FP8, 10.0), environment=HERE)
    for row in (other, old, speed(FP8, 50.0), speed(BF16, 80.0), speed(replace(FP8, beam=64), 40.0)):
        records.append(results / "qwen_speed.jsonl", row)
    assert "| 50.0 | 160 | 30% | 52 | 40 |" in qwen_report.goals()
    assert "80.0 (missed)" in qwen_report.goals()
    page = qwen_report.speed()
    assert "| 50.0 | 160 | 30% | 51.0 | 80.0 | 30% | 1.60x |" in page
    assert "64 beams | 40.0 | 200 | 30% | 41.0 |  |  |  |" in page
    assert "H200" in page
    assert not {"90.0", "10.0"} & {*page.split()}


def test_systems_stand_beside_each_other_and_failures_too(results: Path) -> None:
    path = results / "qwen_speed.jsonl"
    stock, generate = replace(FP8, system="stock graph"), replace(BF16, system="transformers", batch=1, context=5000)
    rows = [speed(FP8, 70.0, run="1"), speed(FP8, 50.0, run="2"), speed(stock, 60.0, run="2", p50_ms=None)]
    failure = made(QwenSpeedFailure, environment=H200, **vars(generate), run="2", error="OutOfMemoryError: 3 GiB")
    for row in [*rows, failure]:
        records.append(path, row)
    page = qwen_report.beside()
    assert "OctoRec | 50.0 |" in page
    assert "stock graph | 60.0 |" in page
    assert "transformers | out of memory |" in page
    assert "70.0" not in page


def test_steps_say_what_their_kernels_take(results: Path) -> None:
    kernels = (KernelTime("k", 1, 2.0),)
    for name, spent in (("stock BF16", 90.0), ("FP8", 70.5)):
        row = made(QwenStepRow, environment=H200, **{**vars(FP8), "system": name}, kernels_ms=spent, kernels=kernels)
        records.append(results / "qwen_ablation.jsonl", row)
    assert "| FP8 | fp8 | 70.5 | +19.5 |" in qwen_report.ablation()


def test_an_operation_stands_beside_the_fastest_other_way(results: Path) -> None:
    about = {"operation": "log_norm", "model": "8b", "shape": "8 rows", "precision": "bf16"}
    ways: list[tuple[str, float, float | None]] = [("ours", 10.0, 1e-3), ("a", 30.0, 1e-3), ("b", 20.0, 1e-3)]
    for by, us, error in [*ways, ("a part", 1.0, None)]:
        row = made(ProbeRow, environment=H200, **about, by=by, us=us, error=error)
        records.append(results / "qwen_kernels.jsonl", row)
    records.append(results / "qwen_kernels.jsonl", made(ProbeFailure, environment=H200, **about, by="c"))
    assert "| log_norm | 8b | 8 rows | 10.0 (ours, bf16) | 0 | 0 | b, bf16 | 20.0 |" in qwen_report.kernels()


def test_overlap_by_side_and_width(results: Path) -> None:
    for run, width, one, share in (("1", 64, "OctoRec bf16", 0.5), ("2", 64, "OctoRec bf16", 0.97),
                                   ("2", 256, "OctoRec bf16", 0.95), ("2", 64, "OctoRec fp8", 0.9)):  # fmt: skip
        about = {"run": run, "beam_width": width, "one": one, "other": "transformers bfloat16"}
        row = made(QwenParityRow, environment=H200, **about, overlap=share)
        records.append(results / "qwen_overlap.jsonl", row)
    page = qwen_report.overlap()
    assert "| OctoRec bf16 | 97.00% | 95.00% |" in page
    assert "| OctoRec fp8 | 90.00% |  |" in page


def test_the_figure_carries_its_data(results: Path) -> None:
    shapes = (FP8, replace(FP8, beam=64), replace(FP8, context=5000), BF16, replace(BF16, context=5000))
    for number, wanted in enumerate(shapes):
        records.append(results / "qwen_speed.jsonl", speed(wanted, 10.0 + number))
    found = qwen_report.lines()
    assert found == {
        "beams: OctoRec FP8": {"64": 11.0, "256": 10.0},
        "tokens: OctoRec FP8": {"1000": 10.0, "5000": 12.0},
        "tokens: OctoRec BF16": {"1000": 13.0, "5000": 14.0},
    }
    assert speed_figure.data_of(qwen_report.draw(found)) == found
    assert qwen_report.figure() == "![ms of a batch against beams and tokens](figures/qwen.svg)"
