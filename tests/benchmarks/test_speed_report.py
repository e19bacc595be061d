"""Rows become tables and a figure that carries its data."""

from pathlib import Path

import pytest

from benchmarks import records, speed_figure, speed_report


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(speed_report, "RESULTS", tmp_path)
    return tmp_path


def engine_row(system: str, precision: str, requests_per_s: float, **more: object) -> dict:
    row = {"system": system, "preset": "moe-4b-a0.5b", "precision": precision, "batch": 32, "beam": 512, "context": 512}
    row |= {"requests_per_s": requests_per_s, "ms_per_batch": 32e3 / requests_per_s, "tflops": 600.0, "mfu": 0.3}
    return {**row, "memory_gb": 9.5, "p50_ms": 70.0, "p99_ms": 80.0, **more}


def append(path: Path, row: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        records,
        "environment",
        lambda: {"gpu": "NVIDIA H100", "torch": "2", "triton": "3", "commit": "c", "command": "x"},
    )
    records.append(path, row)


def test_the_newest_engine_row_counts_and_failures_do_not(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = results / "engine.jsonl"
    rows = [
        engine_row("octorec", "fp8", 500.0),
        engine_row("octorec", "fp8", 640.0),
        engine_row("stock graph", "bf16", 313.0),
    ]
    rows += [{**engine_row("octorec", "fp8", 1.0), "error": "out of memory"}]
    rows += [engine_row("octorec", "fp8", 610.0, routing="skewed", busiest_expert=4.02)]
    for row in rows:
        append(path, row, monkeypatch)
    assert speed_report.bars() == {"batch 32, context 512": {"stock graph, bf16": 313.0, "octorec, fp8": 640.0}}
    assert "640.0" in speed_report.engine()
    assert "610.0" not in speed_report.engine()
    assert "skewed, busiest 4.02x" in speed_report.engine_all()
    assert "500.0" not in speed_report.engine_all()


def test_cards_are_kept_apart(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for gpu, commit, rate in (
        ("NVIDIA H100", "old", 610.0),
        ("NVIDIA H100", "new", 640.0),
        ("NVIDIA H200", "x", 670.0),
    ):
        row = engine_row("octorec", "fp8", rate)
        here = {"gpu": gpu, "torch": "2", "triton": "3", "commit": commit, "command": "x"}
        monkeypatch.setattr(records, "environment", lambda here=here: here)
        records.append(results / "engine.jsonl", row)
    brief = speed_report.engine().splitlines()[2:]
    assert [line.split("|")[3].strip() for line in brief] == ["640.0", "670.0"]
    assert speed_report.engine_all().count("octorec, fp8") == 2
    assert speed_report.bars() == {"batch 32, context 512": {"octorec, fp8": 640.0}}


def test_a_figure_carries_its_data(results: Path) -> None:
    bars = {"batch 1, context 512": {"stock <eager>": 11.0, "octorec, fp8": 156.0}, "batch 8": {"octorec, fp8": 402.0}}
    svg = speed_figure.draw(bars)
    assert speed_figure.data_of(svg) == bars
    assert "156" in svg
    assert "not measured" in svg
    assert svg == speed_figure.draw(bars)
    assert speed_figure.data_of("<svg></svg>") == {}


def test_the_ablation_says_what_each_step_saves(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not measured yet" in speed_report.ablation()
    for name, rate, kernels_ms in (("stock BF16", 200.0, 150.0), ("FP8 products", 250.0, 110.0), ("norm", 400.0, 70.0)):
        row = engine_row(name, "fp8", rate, recipe="fp8", kernels_ms=kernels_ms)
        append(results / "ablation.jsonl", row, monkeypatch)
    lines = speed_report.ablation().splitlines()
    assert lines[2].split("|")[1:7] == [" stock BF16 ", " fp8 ", " 150.0 ", "  ", " 160.0 ", " 200 "]
    assert lines[4].split("|")[3:8] == [" 70.0 ", " +40.0 ", " 80.0 ", " 400 ", " 2.00x "]


def test_kernels_and_layers(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "op": "norm",
        "name": "1408, cast by token",
        "T": 512,
        "us": 5.0,
        "tflops": 1.4,
        "gb_s": 2490,
        "precision": "bf16",
    }
    row |= {"flop_per_byte": 2.7, "bound": "memory"}
    stock = {
        "flop_per_byte_before": 0.2,
        "bound_before": "memory",
        "stock": "the same, unfused",
        "stock_us": 50.0,
        "times_stock": 10.0,
    }
    for given in (
        {"op": "ceilings", "copy": 3000, "bf16": 700, "fp8": 1400},
        {**row, **stock},
        {**row, "T": 16384},
        {"op": "moe", "error": "wrong"},
    ):
        append(results / "kernels.jsonl", given, monkeypatch)
    text = speed_report.kernels()
    assert "| norm: 1408, cast by token | 512 | 5.0 | 1 | 2490 | 83 | memory | 0.2 → 2.7 | 50.0 | 10.00 |" in text
    assert "copy 3000 GB/s" in text
    assert "moe" not in text
    errors = {"error": 2e-3, "rounding": 1.7e-3, "quantization": 0.0, "bound": 5e-3, "held": True}
    append(results / "correctness.jsonl", {"layer": "head", "precision": "bf16", **errors}, monkeypatch)
    assert "| head | bf16 | 2.00e-03 | 1.70e-03 |  | 5.00e-03 | yes |" in speed_report.layers()
    assert speed_report.correctness().count("\n") == 1  # a layer is no checkpoint


def test_every_trained_checkpoint_is_shown(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"precision": "fp8", "top10_overlap": 0.92, "beam_overlap": 0.94, "mean_drift": 0.02, "max_drift": 1.01}
    row |= {"beyond_noise": 0.24, "differing": 0, "mixes": 64, "invalid": 0, "batches": 10_000, "memory_gained_mb": 0.0}
    for checkpoint, held in (("demo", False), ("demo-1", False), ("demo", True)):
        append(results / "correctness.jsonl", {"checkpoint": checkpoint, **row, "held": held}, monkeypatch)
    shown = {line.split("|")[1].strip(): line for line in speed_report.correctness().splitlines()[2:]}
    assert shown["demo"].endswith("| held |")
    assert shown["demo-1"].endswith("| not held |")
    assert "| 0.0200 / 1.01 | 0.24 | 0 in 64 mixes | 0 in 10,000 batches, 0 MB gained |" in shown["demo"]


def test_a_start_with_compiled_kernels_is_shown_first(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = {"batch_size": 32, "beam_width": 512, "seconds": 1.5, "megabytes": 900.0}
    for compiled, seconds in ((90, 61.0), (0, 24.0), (3, 33.0)):
        row = {"preset": "moe", "precision": "fp8", "seconds": seconds, "phases": {"imports": 8.0}, "buckets": [bucket]}
        append(results / "start.jsonl", {**row, "kernels_compiled": compiled}, monkeypatch)
    assert "| **all** | **24.0** |" in speed_report.start()
    assert "| 32 | 512 | 1.50 | 900 |" in speed_report.start()
