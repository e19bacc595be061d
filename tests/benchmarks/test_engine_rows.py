"""A batch becomes a row, also one that fails, and a line for a terminal."""

import pytest
import torch

from benchmarks import engine
from benchmarks.engine import Measured
from benchmarks.records import as_json
from benchmarks.rows import EngineFailure, EngineRow
from benchmarks.rows.engine import KernelTime, Wanted
from benchmarks.timer import of_samples

WANTED = Wanted("octorec", "tiny", "fp8", 32, 512, 512)
STOCK = Wanted("stock eager", "tiny", "bf16", 32, 512, 512)
KERNELS = [KernelTime(f"k{n}", 2, 1.5) for n in range(40)]


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)


def test_a_batch_of_ours_has_all_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured(of_samples([50.0]), of_samples([70.0]), 1.254, 0.26, KERNELS)
    monkeypatch.setattr(engine, "measure_octorec", lambda row, runs: measured)
    row = engine.measure(WANTED, 1)
    assert isinstance(row, EngineRow)
    assert (row.system, row.batch, row.routing) == ("octorec", 32, "balanced")
    assert (row.requests_per_s, row.ms_per_batch, row.p50_ms, row.busiest_expert) == (640.0, 50.0, 70.0, 1.25)
    assert (row.capture_s, row.n_items, row.kernels_ms) == (0.3, 1_000_000, 60.0)
    assert row.kernels == tuple(KERNELS[: engine.MOST_KERNELS])
    assert [name for name, value in as_json(row).items() if value is None and name not in ("gpu", "triton")] == []
    assert engine.line(WANTED, row, 3.0).splitlines()[-1].endswith("p50 70.00 ms, busiest expert 1.25 x mean (3 s)")


def test_a_stock_batch_has_no_graph_and_no_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "measure_stock", lambda row, runs: Measured(of_samples([100.0]), of_samples([110.0])))
    row = engine.measure(STOCK, 1)
    assert isinstance(row, EngineRow)
    assert (row.capture_s, row.n_items, row.accumulate, row.kernels, row.busiest_expert) == (None,) * 5
    assert "busiest" not in engine.line(STOCK, row, 3.0)


def test_a_batch_that_fails_is_a_row_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "measure_octorec", lambda row, runs: 1 / 0)
    row = engine.measure(WANTED, 1)
    assert isinstance(row, EngineFailure)
    assert row.error.startswith("ZeroDivisionError")
    assert (row.preset, row.context) == ("tiny", 512)
    assert "ZeroDivisionError" in engine.line(WANTED, row, 3.0)
