"""Rows become tables and a figure that carries its data."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from made_rows import HERE, made

from benchmarks import records, speed_figure, speed_report
from benchmarks.rows import (
    AblationRow,
    EngineCheck,
    EngineFailure,
    EngineRow,
    KernelCeilings,
    KernelFailure,
    KernelRow,
    LayerCheck,
    StartRow,
)
from benchmarks.rows.serving import Bucket

BATCH = {"preset": "moe-4b-a0.5b", "batch": 32, "beam": 512, "context": 512}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    return tmp_path


def engine_row(system: str, precision: str, requests_per_s: float, **more: Any) -> EngineRow:
    return made(EngineRow, **timed(system, precision, requests_per_s), **more)


def timed(system: str, precision: str, requests_per_s: float) -> dict[str, Any]:
    row = {"system": system, "precision": precision, "requests_per_s": requests_per_s, **BATCH}
    return {**row, "ms_per_batch": 32e3 / requests_per_s, "p50_ms": 70.0, "p99_ms": 80.0}


def test_the_newest_engine_row_counts_and_failures_do_not(results: Path) -> None:
    path = results / "engine.jsonl"
    rows = [
        engine_row("octorec", "fp8", 500.0),
        engine_row("octorec", "fp8", 640.0),
        engine_row("stock graph", "bf16", 313.0),
    ]
    failure = made(EngineFailure, system="octorec", precision="fp8", **BATCH, error="out of memory")
    rows += [engine_row("octorec", "fp8", 610.0, routing="skewed", busiest_expert=4.02)]
    for row in [*rows, failure]:
        records.append(path, row)
    assert speed_report.bars() == {"batch 32, context 512": {"stock graph, bf16": 313.0, "octorec, fp8": 640.0}}
    assert "640.0" in speed_report.engine()
    assert "610.0" not in speed_report.engine()
    assert "skewed, busiest 4.02x" in speed_report.engine_all()
    assert "500.0" not in speed_report.engine_all()


def test_cards_are_kept_apart(results: Path) -> None:
    for gpu, commit, rate in (
        ("NVIDIA H100", "old", 610.0),
        ("NVIDIA H100", "new", 640.0),
        ("NVIDIA H200", "x", 670.0),
    ):
        here = dataclasses.replace(HERE, gpu=gpu, commit=commit)
        records.append(results / "engine.jsonl", engine_row("octorec", "fp8", rate, environment=here))
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


def test_the_ablation_says_what_each_step_saves(results: Path) -> None:
    assert "Not measured yet" in speed_report.ablation()
    for name, rate, kernels_ms in (("stock BF16", 200.0, 150.0), ("FP8 products", 250.0, 110.0), ("norm", 400.0, 70.0)):
        row = made(AblationRow, **timed(name, "fp8", rate), recipe="fp8", kernels_ms=kernels_ms)
        records.append(results / "ablation.jsonl", row)
    lines = speed_report.ablation().splitlines()
    assert lines[2].split("|")[1:7] == [" stock BF16 ", " fp8 ", " 150.0 ", "  ", " 160.0 ", " 200 "]
    assert lines[4].split("|")[3:8] == [" 70.0 ", " +40.0 ", " 80.0 ", " 400 ", " 2.00x "]


def test_kernels_and_layers(results: Path) -> None:
    row = made(
        KernelRow,
        op="norm",
        name="1408, cast by token",
        T=16384,
        us=5.0,
        tflops=1.4,
        gb_s=2490,
        precision="bf16",
        flop_per_byte=2.7,
        bound="memory",
    )
    beside = dataclasses.replace(
        row,
        T=512,
        flop_per_byte_before=0.2,
        bound_before="memory",
        stock="the same, unfused",
        stock_us=50.0,
        times_stock=10.0,
    )
    ceilings = made(KernelCeilings, op="ceilings", copy=3000, bf16=700, fp8=1400)
    for given in (ceilings, beside, row, made(KernelFailure, op="moe", error="wrong")):
        records.append(results / "kernels.jsonl", given)
    text = speed_report.kernels()
    assert "| norm: 1408, cast by token | 512 | 5.0 | 1 | 2490 | 83 | memory | 0.2 → 2.7 | 50.0 | 10.00 |" in text
    assert "copy 3000 GB/s" in text
    assert "moe" not in text
    errors = {"error": 2e-3, "rounding": 1.7e-3, "quantization": 0.0, "bound": 5e-3, "held": True}
    records.append(results / "correctness.jsonl", made(LayerCheck, layer="head", precision="bf16", **errors))
    assert "| head | bf16 | 2.00e-03 | 1.70e-03 |  | 5.00e-03 | yes |" in speed_report.layers()
    assert speed_report.correctness().count("\n") == 1  # a layer is no checkpoint


def test_every_trained_checkpoint_is_shown(results: Path) -> None:
    row = {"precision": "fp8", "top10_overlap": 0.92, "beam_overlap": 0.94, "mean_drift": 0.02, "max_drift": 1.01}
    row |= {"beyond_noise": 0.24, "differing": 0, "mixes": 64, "invalid": 0, "batches": 10_000, "memory_gained_mb": 0.0}
    for checkpoint, held in (("demo", False), ("demo-1", False), ("demo", True)):
        check = made(EngineCheck, checkpoint=checkpoint, **row, held=held)
        records.append(results / "correctness.jsonl", check)
    shown = {line.split("|")[1].strip(): line for line in speed_report.correctness().splitlines()[2:]}
    assert shown["demo"].endswith("| held |")
    assert shown["demo-1"].endswith("| not held |")
    assert "| 0.0200 / 1.01 | 0.24 | 0 in 64 mixes | 0 in 10,000 batches, 0 MB gained |" in shown["demo"]


def test_a_start_with_compiled_kernels_is_shown_first(results: Path) -> None:
    buckets = (Bucket(32, 512, 1.5, 900.0),)
    for compiled, seconds in ((90, 61.0), (0, 24.0), (3, 33.0)):
        row = made(StartRow, seconds=seconds, phases={"imports": 8.0}, buckets=buckets, kernels_compiled=compiled)
        records.append(results / "start.jsonl", row)
    assert "| **all** | **24.0** |" in speed_report.start()
    assert "| 32 | 512 | 1.50 | 900 |" in speed_report.start()
