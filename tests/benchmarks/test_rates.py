"""Rates against k are shown of one run alone, and what `auto` would take is composed of shares and times."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_rows import made

from benchmarks import rates_report, records
from benchmarks.composed import MODEL, compose, shares
from benchmarks.rates import wanted
from benchmarks.rows import CertifiedRow, PolicyRow, RateRow
from benchmarks.speed_figure import data_of
from octorec.engine.widths import Width

MS: dict[Width, float] = {64: 10.0, 128: 16.0, 256: 30.0, 512: 50.0, (128, 256, 512): 20.0}
SHARES = {64: {10: 0.9}, 128: {10: 1.0, 50: 0.5, 100: 0.1}, 512: {10: 1.0, 50: 1.0, 100: 1.0, 512: 0.1}}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    for temperature in (1.0, 1.1):
        for width, certified in SHARES.items():
            for precision in ("fp8", "bf16"):
                by_k = {str(k): share * temperature / 1.1 for k, share in certified.items()}
                about = {"precision": precision, "temperature": temperature, "beam_width": width}
                for model, run in ((MODEL, "1"), ("another", "2")):
                    row = made(CertifiedRow, certified=by_k if model == MODEL else {"10": 0.5}, **about)
                    records.append(tmp_path / "exact.jsonl", replace(row, model=model, run=run))
    return tmp_path / "policies.jsonl"


def run_of(name: str, factor: float = 1.0) -> list[RateRow]:
    def timed(system: str, precision: str, width: Width, k: int, ms: float) -> RateRow:
        about: dict[str, Any] = {"run": name, "system": system, "precision": precision, "batch": 32, "k": k}
        return made(RateRow, beam_width=width, ms_per_batch=ms, requests_per_s=32e3 / ms, **about)

    ours = [timed("octorec", precision, width, k, factor * MS[width] * slower)
            for precision, slower in (("fp8", 1.0), ("bf16", 1.5)) for width, k in wanted()]  # fmt: skip
    return ours + [timed("stock graph", "bf16", 512, k, factor * 100.0) for k in (10, 50, 100, 512)]


def write(path: Path, *runs: list[RateRow]) -> None:
    for row in [row for run in runs for row in run]:
        records.append(path, row)


def test_a_repeat_is_counted_as_the_widest_beams() -> None:
    assert compose({64: 0.9, 128: 1.0, 512: 1.0}, {64: 10.0, 128: 16.0, 512: 50.0}).ms == pytest.approx(15.0)
    assert compose({64: 0.8, 128: 1.0, 512: 1.0}, {64: 10.0, 128: 16.0, 512: 50.0}).begins == 128
    flat = compose({64: 0.0, 512: 0.0}, {64: 10.0, 512: 50.0})
    assert (flat.begins, flat.ms) == (512, 50.0)
    assert compose({64: 0.8, 512: 1.0}, {64: 10.0, 512: 50.0}).requests_per_s == pytest.approx(50.0)


def test_of_widths_that_cost_the_same_the_widest_begins() -> None:
    assert compose({64: 0.8, 512: 1.0}, {64: 40.0, 512: 50.0}).begins == 512


def test_shares_are_those_of_the_calibrated_model(results: Path) -> None:
    assert shares("fp8", 10) == {64: 0.9, 128: 1.0, 512: 1.0}
    assert shares("fp8", 512) == {512: 0.1}


def test_each_k_has_its_own_rates(results: Path) -> None:
    write(results, run_of("1", 2.0), run_of("2"))
    lines = rates_report.series(rates_report.newest_run())
    assert lines["OctoRec FP8, 512 beams"] == {"10": 640.0, "50": 640.0, "100": 640.0, "512": 640.0}
    assert lines["OctoRec FP8, 128-256-512"]["512"] == 1600.0
    auto = lines["OctoRec FP8, auto (composed)"]
    assert auto["10"] == pytest.approx(32e3 / (10 + 0.1 * 50), abs=0.1)
    assert auto["50"] == pytest.approx(32e3 / (16 + 0.5 * 50), abs=0.1)
    assert auto["100"] == auto["512"] == 640.0  # nothing narrower pays
    assert lines["stock BF16, 512 beams"] == {"10": 320.0, "50": 320.0, "100": 320.0, "512": 320.0}
    text = rates_report.rates()
    assert "| stock BF16, 512 beams | 320 | 320 | 320 | 320 |" in text
    assert "`auto` in FP8 begins with 64 at k 10, 128 at k 50, 512 at k 100, 512 at k 512;" in text
    assert "(figures/rates.svg)" in text


def test_a_run_without_stock_or_a_precision_is_not_shown(results: Path) -> None:
    whole = run_of("1")
    write(results, whole, [row for row in run_of("2") if row.system == "octorec"])
    write(results, [row for row in run_of("3") if row.precision == "bf16"])
    assert {row.run for row in rates_report.newest_run()} == {"1"}


def test_nothing_measured_is_said_and_no_figure_is_linked(results: Path) -> None:
    assert rates_report.rates() == "Not measured yet: `python -m benchmarks.rates`."


def test_the_figure_of_rates_carries_its_rows(results: Path) -> None:
    lines = rates_report.series(run_of("1"))
    svg = rates_report.draw(lines)
    assert data_of(svg) == lines
    assert "auto (composed)" in svg
    assert svg == rates_report.draw(lines)


def test_larger_batches_are_composed_only_where_they_take_less(results: Path) -> None:
    def bucket(batch: int, width: int, ms: float) -> PolicyRow:
        return made(PolicyRow, precision="fp8", batch=batch, beam_width=width, ms_per_batch=ms)

    for row in (bucket(32, 512, 50.0), bucket(32, 64, 10.0), bucket(128, 64, 28.0), bucket(1, 64, 4.0)):
        records.append(results, row)
    lines = [line for line in rates_report.composed().splitlines() if line.startswith("| 10 |")]
    assert lines == ["| 10 | FP8 | 32 | 64 | 90.0% | 2,133 |", "| 10 | FP8 | 128 | 64 | 90.0% | 2,667 |"]
    assert "| 50 | FP8 | 32 | 512 | 100.0% | 640 |" in rates_report.composed()
