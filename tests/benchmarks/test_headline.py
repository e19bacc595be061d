"""The headline's table says what its rows say, and shows only what was measured together."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_rows import HERE, made

from benchmarks import headline, headline_report, records
from benchmarks.bounds import Part, Work
from benchmarks.rows import (
    EngineFailure,
    EngineRow,
    HeadlineBatch,
    HeadlineBounds,
    HeadlineBoundsFailure,
    HeadlineCeilings,
    HeadlineFailure,
)
from benchmarks.rows.engine import BoundTime, HeadlineRow
from benchmarks.speed_figure import data_of

MS = {"octorec fp8": 50.0, "octorec bf16": 75.0, "octorec fp16": 80.0, "stock graph bf16": 100.0,
      "stock graph fp16": 110.0, "stock eager bf16": 140.0, "stock eager fp16": 200.0}  # fmt: skip


def rows(run: str, factor: float = 1.0) -> list[HeadlineRow]:
    batches = [
        made(HeadlineBatch, run=run, system=system, precision=precision, ms_per_batch=factor * ms, mfu=0.4,
             requests_per_s=32e3 / ms / factor, p50_ms=factor * ms + 10)
        for name, ms in MS.items() for system, precision in [name.rsplit(" ", 1)]
    ]  # fmt: skip
    bounds = [
        made(HeadlineBounds, run=run, system=system, precision=precision, memory_ms=30.0, arithmetic_ms=10.0)
        for system, precision in headline.BOUNDS
    ]
    return [made(HeadlineCeilings, run=run), *batches, *bounds]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    return tmp_path / "headline.jsonl"


def write(path: Path, *runs: list[HeadlineRow]) -> None:
    path.unlink(missing_ok=True)
    for row in [row for run in runs for row in run]:
        records.append(path, row)


def test_the_gain_divides_into_our_stack_and_fp8(results: Path) -> None:
    write(results, rows("1", 2.0), rows("2"))
    text = headline_report.headline()
    assert "**4.00x**, of it 2.50x by our stack at FP16 and **1.60x by FP8** at equal fusion (1.50x over" in text
    assert "2.00x, of it 1.33x by our stack" in text
    assert "OctoRec, FP8 75% of 40 ms" in text
    assert text.index("stock eager, FP16") < text.index("OctoRec, FP8")
    assert "| OctoRec, FP8 | 50.0 | 640 | 40% | 60.0 |" in text


def test_a_run_with_a_failure_is_not_shown(results: Path) -> None:
    failure = made(HeadlineBoundsFailure, run="2", system="octorec", precision="fp8", error="no")
    write(results, rows("1"), [*rows("2", 3.0), failure])
    assert {row.run for row in headline_report.newest_run()} == {"1"}


def test_what_torch_cannot_capture_is_said_and_hides_no_other_row(results: Path) -> None:
    refused = {"run": "2", "system": "stock graph", "error": "No: x. y", "environment": replace(HERE, torch="2.11")}
    others = [row for row in rows("2") if not (isinstance(row, HeadlineBatch) and row.system == "stock graph"
                                               and row.precision == "fp16")]  # fmt: skip
    write(results, rows("1"), [*others, made(HeadlineFailure, precision="fp16", **refused)])
    text = headline_report.headline()
    assert {row.run for row in headline_report.newest_run()} == {"2"}
    assert 'stock graph, FP16 is missing: torch 2.11 refuses it ("No: x").' in text
    assert "| stock graph, FP16" not in text
    write(results, rows("1"), [*rows("2")[:-1], made(HeadlineFailure, precision="bf16", **refused)])
    assert {row.run for row in headline_report.newest_run()} == {"1"}


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
    row = headline.bounds_row(headline.row("octorec", "fp8"), [*parts, *parts], ceilings, "1")
    assert (row.memory_ms, row.arithmetic_ms, row.unknown_ms) == (3.0, 4.0, 0.0)
    assert row.largest[0] == BoundTime("moe", "arithmetic", 4.0)
    assert row.largest[-1] == BoundTime("rms_norm", "memory", 1.0)


def test_a_batch_keeps_its_fields_as_a_row_of_the_run(results: Path) -> None:
    batch = made(EngineRow, system="octorec", ms_per_batch=50.0)
    failure = made(EngineFailure, system="octorec", error="no")
    write(results, [headline.batch_row(batch, "1"), headline.batch_row(failure, "1")])
    found, failed = records.read(results, HeadlineBatch, HeadlineFailure)
    assert (found.ms_per_batch, found.run, found.kind) == (50.0, "1", "batch")
    assert (failed.error, failed.run) == ("no", "1")
