"""The tables of docs/serving.md say what the rows and the settings say."""

import dataclasses
from pathlib import Path

import pytest
from made_rows import HERE, made

from benchmarks import records, serve_report
from benchmarks.report import ROOT, rendered
from benchmarks.rows import OverheadRow, ServeRow, SoakRow
from benchmarks.rows.serving import Quantiles
from benchmarks.serve_memory import failed, gained_mb
from octorec.serve.config import ServeConfig
from octorec.serve.refusal import STATUS
from octorec.settings import settings_of


def ms(p50: float) -> Quantiles:
    return Quantiles(mean=p50, p50=p50, p90=2 * p50, p99=3 * p50, max=4 * p50)


def soaked(at_s: float, rss_mb: float, **errors: int) -> SoakRow:
    row = {"checkpoint": "fp8", "device": "cpu", "at_s": at_s, "rss_mb": rss_mb, "rate": 20.0, "answered": 200}
    return made(SoakRow, **row, errors=errors, e2el_ms=ms(20))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    return tmp_path


def test_goodput_becomes_dollars(results: Path) -> None:
    row = made(
        ServeRow, preset="moe", precision="fp8", k=10, share=0.8, request_rate=500.0, goodput_per_s=490.0, within=True,
        bound_ms=150.0, e2el_ms=ms(40), queue_ms=ms(10), device_ms=ms(25), encode_ms=ms(1), outside_device_ms=ms(15),
        cores=1.5, offline_per_s=600, offline_host_per_s=400, first_ms=9.0, calm_p99_ms=12.0,
    )  # fmt: skip
    assert "Not measured yet" in serve_report.serve()
    assert "Not measured yet" in serve_report.line()
    for one in (dataclasses.replace(row, goodput_per_s=1.0), row):
        records.append(results / "serve.jsonl", one)
    text = serve_report.serve()
    assert "| moe, fp8 | 10 | 500 | 80% | 490 | yes (150 ms) | 40 / 80 / 120 | 10.0 / 25.0 / 1.0 / 4.0 | 1.5 |" in text
    assert f"| {2.5 / 3600 / 490 * 1e6:.2f} |" in text
    assert "$2.50 an hour" in text
    late = dataclasses.replace(row, share=0.9, goodput_per_s=520.0, within=False)
    records.append(results / "serve.jsonl", late)
    assert "**490 requests/s**, 99 % of them within 120 ms (bound 150 ms), 82% of" in serve_report.line()


def test_a_rate_without_an_answer_has_no_times(results: Path) -> None:
    records.append(results / "serve.jsonl", made(ServeRow, preset="moe", request_rate=500.0, bound_ms=150.0))
    assert "| 0 | no (150 ms) |  | 0.0 / 0.0 / 0.0 / 0.0 | 0.0 |" in serve_report.serve()


def test_what_the_server_adds(results: Path) -> None:
    assert "Not measured yet" in serve_report.overhead()
    row = made(
        OverheadRow, environment=dataclasses.replace(HERE, gpu=None), checkpoint="fp8", device="cpu", cores=2,
        pairs=200, engine_ms=ms(42), server_ms=ms(44), added_ms=ms(1.5), interval_ms=(1.4, 1.62), outside_ms=ms(1.7),
        versions={"uvicorn": "1"},
    )  # fmt: skip
    records.append(results / "serve_overhead.jsonl", row)
    expected = "| fp8 on cpu, 2 cores | 200 | 42.0 / 126.0 | 44.0 / 132.0 | 1.50 (1.40 .. 1.62) | 1.70 |"
    assert expected in serve_report.overhead()


def test_a_soak_is_its_newest_run(results: Path) -> None:
    old = [soaked(10, 900), soaked(20, 2000)]
    new = [soaked(10 * n, 400 + (90 if n == 1 else 100 + n)) for n in range(1, 21)]
    new[3] = dataclasses.replace(new[3], errors={"503": 7, "timeout": 1})
    for row in [*old, *new]:
        records.append(results / "serve_soak.jsonl", row)
    assert gained_mb(new) == 17  # after the first tenth: from 503 to 520
    assert (failed(new), failed(new, shed=True)) == (1, 7)
    assert "| 3 | 20.0 | 4,000 | 1 / 7 | +17 (at most 100) | 520 | 60 / 60 |" in serve_report.soak()


def test_the_page_has_every_setting_and_every_status() -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    settings = [line for line in rendered(text).splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in settings] == [*settings_of(ServeConfig)]
    for outcome in set(STATUS) - {"ok", "busy", "cancelled"}:  # of the admin port; of nobody who reads it
        assert f"`{outcome}`" in text
