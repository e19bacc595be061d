"""`auto` and the widest beams are compared on the same requests."""

from pathlib import Path

import pytest
from made_rows import made

from benchmarks import exact_report, records
from benchmarks.auto_cost import compared, line
from benchmarks.mixed_side import small_model
from benchmarks.random_model import random_catalog
from benchmarks.rows import AutoRow
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.policy import BeamStarts
from octorec.engine.request import Request
from octorec.models.presets import preset


@pytest.fixture(scope="module")
def engine() -> Engine:
    config = preset("tiny")
    limits = EngineConfig(config.max_context, batch_sizes=(4,), beam_widths=(8, 16, 32), default_beam_width=32)
    return Engine(small_model(config), random_catalog(config, 150), limits)


def test_a_table_that_says_the_widest_repeats_nothing(engine: Engine) -> None:
    requests = [Request([str(number)], k=8) for number in range(6)]
    row = compared(engine, BeamStarts({8: 32}), requests, 3, "bf16")
    assert (row.repeated, row.turns, row.requests, row.batch, row.beam_width) == (0.0, 3, 6, 4, 32)
    assert row.ratio > 0
    assert "0% repeated" in line(row)


def test_a_narrow_start_that_certifies_nothing_repeats_every_request(engine: Engine) -> None:
    requests = [Request([str(number)], k=8) for number in range(6)]
    row = compared(engine, BeamStarts({8: 8}), requests, 2, "bf16")
    assert row.repeated == 1.0  # random weights: flat scores


def test_the_newest_ratio_of_each_precision_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    assert exact_report.auto_cost() == "Not measured yet: `python -m benchmarks.auto_cost`."
    for ratio, table in ((1.5, {"10": 512}), (1.01, {"10": 512}), (1.2, {})):
        row = made(AutoRow, precision="fp8", table=table, k=10, ratio=ratio, fixed_ms=60.0, auto_ms=61.0)
        records.append(tmp_path / "policies.jsonl", row)
    text = exact_report.auto_cost()
    assert '| FP8 | "512 beams" | 0% | 0% | 60 (0) | 61 (0) | **1.010x** |' in text
    assert "| FP8 | none |" in text
    assert "1.500x" not in text
