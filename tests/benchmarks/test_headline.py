"""The headline's table says what its rows say, and shows only what was measured together."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import headline, headline_report
from benchmarks.bounds import Part, Work
from benchmarks.speed_figure import data_of

MS = {"octorec fp8": 50.0, "octorec bf16": 75.0, "octorec fp16": 80.0, "stock graph bf16": 100.0,
      "stock graph fp16": 110.0, "stock eager bf16": 140.0, "stock eager fp16": 200.0}  # fmt: skip
ABOUT = {"gpu": "NVIDIA H200", "torch": "2.11", "triton": "3.6", "commit": "abc", "command": "python -m x"}


def rows(run: str, factor: float = 1.0) -> list[dict[str, Any]]:
    batches = [
        {"kind": "batch", "run": run, "system": system, "precision": precision, "ms_per_batch": factor * ms, **ABOUT,
         "requests_per_s": 32e3 / ms / factor, "mfu": 0.4, "p50_ms": factor * ms + 10}
        for name, ms in MS.items() for system, precision in [name.rsplit(" ", 1)]
    ]  # fmt: skip
    bounds = [
        {"kind": "bounds", "run": run, "system": system, "precision": precision, **ABOUT,
         "memory_ms": 30.0, "arithmetic_ms": 10.0, "unknown_ms": 0.0, "largest": []}
        for system, precision in headline.BOUNDS
    ]  # fmt: skip
    return [{"kind": "ceilings", "run": run, **ABOUT}, *batches, *bounds]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(headline_report, "RESULTS", tmp_path)
    return tmp_path / "headline.jsonl"


def write(path: Path, *runs: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for run in runs for row in run))


def test_the_gain_divides_into_our_stack_and_fp8(results: Path) -> None:
    write(results, rows("1", 2.0), rows("2"))
    text = headline_report.headline()
    assert "**4.00x**, of it 2.50x by our stack at FP16 and **1.60x by FP8** at equal fusion (1.50x over" in text
    assert "2.00x, of it 1.33x by our stack" in text
    assert "OctoRec, FP8 75% of 40 ms" in text
    assert text.index("stock eager, FP16") < text.index("OctoRec, FP8")
    assert "| OctoRec, FP8 | 50.0 | 640 | 40% | 60.0 |" in text


def test_a_run_with_a_failure_is_not_shown(results: Path) -> None:
    failed = [*rows("2", 3.0), {"kind": "bounds", "run": "2", "system": "octorec", "precision": "fp8", "error": "no"}]
    write(results, rows("1"), failed)
    assert {row["run"] for row in headline_report.newest_run()} == {"1"}


def test_what_torch_cannot_capture_is_said_and_hides_no_other_row(results: Path) -> None:
    refused = {"kind": "batch", "run": "2", "system": "stock graph", "precision": "fp16", **ABOUT, "error": "No: x. y"}
    others = [row for row in rows("2") if (row.get("system"), row.get("precision")) != ("stock graph", "fp16")]
    write(results, rows("1"), [*others, refused])
    text = headline_report.headline()
    assert {row["run"] for row in headline_report.newest_run()} == {"2"}
    assert 'stock graph, FP16 is missing: torch 2.11 refuses it ("No: x").' in text
    assert "| stock graph, FP16" not in text
    write(results, rows("1"), [*rows("2")[:-1], {**refused, "precision": "bf16"}])
    assert {row["run"] for row in headline_report.newest_run()} == {"1"}


def test_nothing_measured_is_said(results: Path) -> None:
    assert "Not measured yet: `python -m benchmarks.headline`" in headline_report.headline()


def test_the_figure_carries_its_rows(results: Path) -> None:
    svg = headline_report.draw(rows("1"))
    assert data_of(svg) == headline_report.bars(rows("1"))
    assert list(data_of(svg)) == [
        "stock eager, FP16",
        "stock eager, BF16",
        "OctoRec, FP16",
        "OctoRec, BF16",
        "OctoRec, FP8",
    ]


def test_bounds_are_summed_by_operation() -> None:
    product, norm = Work("moe", 1e9, 1.0, True), Work("rms_norm", 1.0, 1.0, False)
    parts = [Part("_gemm", 2.0, product), Part("_combine", 1.0, product), Part("_rms_norm", 0.5, norm)]
    ceilings = {"bf16": 800.0, "fp8": 1500.0, "memory": 4000.0}
    row = headline.bounds_row(headline.row("octorec", "fp8"), [*parts, *parts], ceilings)
    assert (row["memory_ms"], row["arithmetic_ms"], row["unknown_ms"]) == (3.0, 4.0, 0.0)
    assert row["largest"][0] == {"operation": "moe", "bound": "arithmetic", "ms": 4.0}
    assert row["largest"][-1] == {"operation": "rms_norm", "bound": "memory", "ms": 1.0}
