"""The tables of docs/exact.md, from made-up rows: of the newest run alone, and each number where it belongs."""

from typing import Any

import pytest
from made_rows import made

from benchmarks import report
from benchmarks.rows.exact import (
    BatchTimesRow,
    CertifiedRow,
    ExactDifferenceRow,
    ExactRow,
    PolicyAnswersRow,
    ScheduleVerdict,
    ShopRow,
    StartsRow,
    TemperatureRow,
)
from benchmarks.rows.verdicts import Interval
from studies.exact import render

RUN: dict[str, Any] = {
    "run": "2026-11-30T12:00:00", "model": "dense", "parameters": 540_000_000, "precision": "fp8", "temperature": 1.1,
    "requests": 1280, "items": 42_382,
}  # fmt: skip
LEAD = Interval(0.01, 0.005, 0.015, 1280, 40)
ROWS: list[ExactRow] = [
    made(CertifiedRow, **{**RUN, "run": "2026-11-29"}, beam_width=2048, certified={"10": 0.123}),
    made(TemperatureRow, **RUN, validation_nll=17.25, validation_nll_calibrated=17.125),
    made(StartsRow, **RUN, starts={"10": 64}, batch=32, ms={"64": 9.4, "512": 40.25}),
    made(CertifiedRow, **RUN, beam_width=32, certified={"10": 0.25}, mass=0.05, recall_10=0.06),
    made(CertifiedRow, **RUN, beam_width=64, certified={"10": 0.75, "50": 0.5}, mass=0.0712, recall_10=0.0623),
    made(
        CertifiedRow, **{**RUN, "items": 10**6}, made_up=957_618, beam_width=64, certified={"10": 0.125}, mass=0.01
    ),
    made(PolicyAnswersRow, **RUN, policy="auto", k=10, recall={"10": 0.0625}, ndcg={"10": 0.03}, overlap={"10": 1.0},
         found=10.0, exact=0.998, repeated=0.17),
    made(PolicyAnswersRow, **RUN, policy="128-256-512", k=512, recall={"10": 0.0624, "512": 0.3}, found=266.5,
         ndcg={"10": 0.03, "512": 0.1}, overlap={"10": 0.999, "512": 0.55}),
    made(ExactDifferenceRow, **RUN, policy="auto", k=10, both_exact=1278, differ=0, near_ties=3, equal_scores=1.0),
    made(ScheduleVerdict, **RUN, policy="128-256-512", k=512, relative_difference={"recall@512": LEAD},
         verdict="not_inferior", margin=0.01),
    made(BatchTimesRow, **RUN, policy="auto", k=10, batch=32, p50_ms=11.26, p99_ms=19.5),
    made(BatchTimesRow, **RUN, policy="512", k=10, batch=32, p50_ms=41.0, p99_ms=42.0),
    made(ShopRow, **RUN, shop="toys", nll=16.5, recall_10=0.08, markov_recall_10=0.07, recall_lead=LEAD,
         ndcg_lead=LEAD),
]  # fmt: skip


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "recorded", lambda file, kind: ROWS)


def test_the_pages_ask_for_the_tables_by_these_names() -> None:
    names = {"exact-certified": "42,382", "exact-policies": "`auto`, k 10", "exact-recall": "17.250 as trained"}
    for name, shown in names.items():
        page = report.rendered(f"a\n<!-- rows: {name} -->\nold\n<!-- end -->\nb")
        assert shown in page
        assert "old" not in page
        assert page.endswith("<!-- end -->\nb")


def test_shares_stand_by_catalog_k_and_width() -> None:
    lines = render.certified().splitlines()
    assert lines[0] == "| items | model | mass / recall@10 | k | 32 beams | 64 beams |"
    assert lines[2] == "| 42,382 | dense, FP8, T 1.1 | 0.071 / 0.062 | 10 | 0.250 | 0.750 |"
    assert lines[3] == "| 42,382 | dense, FP8, T 1.1 | 0.071 / 0.062 | 50 |  | 0.500 |"
    assert lines[4].startswith("| 1,000,000 | dense, FP8, T 1.1 | 0.010 / 0.000 | 10 |  | 0.125 |")
    assert "957,618 made-up" in lines[-1]
    assert "0.123" not in "".join(lines)  # an older run's


def test_policies_stand_beside_their_times_and_their_verdict() -> None:
    page = render.policies()
    assert "| dense, FP8, T 1.1 | auto | 10 | 99.8% | 17.0% | 10.0 | 11.3 | 19.5 |" in page
    assert "| dense, FP8, T 1.1 | 128-256-512 | 512 | 0.0% | 0.0% | 266.5 |  |  |" in page
    assert "| dense, FP8, T 1.1 | 512 | 10 |  |  |  | 41.0 | 42.0 |" in page
    assert "0 of 1,278 answers" in page
    assert "3 more are near ties" in page
    assert "| dense, FP8, T 1.1 | 64 | 9.4 | 40.2 |" in page
    assert "| dense, FP8, T 1.1 | 128-256-512 | 512 | +1.00% (+0.50% .. +1.50%) |  | not inferior |" in page


def test_recall_stands_by_cutoff_and_each_shop_beside_its_chain() -> None:
    page = render.recall()
    assert "| dense, FP8, T 1.1 | auto | 10 | 0.0625 / 0.0300 / 1.000 |  |" in page
    assert "| dense, FP8, T 1.1 | 128-256-512 | 512 | 0.0624 / 0.0300 / 0.999 | 0.3000 / 0.1000 / 0.550 |" in page
    assert (
        "| toys | dense, FP8, T 1.1 | 1,280 | 16.500 | 0.0800 (0.0700) | 0.0000 (0.0000) | +0.0050 .. +0.0150 |" in page
    )
    assert "dense, FP8: NLL of 1,280 validation targets 17.250 as trained, 17.125 at a temperature of 1.1." in page


def test_a_page_without_rows_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "recorded", lambda file, kind: [])
    assert {render.certified(), render.policies(), render.recall()} == {render.NOTHING}


def test_each_models_newest_run_stands_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    moe = {**RUN, "run": "2026-11-30T13:00:00", "model": "MoE", "parameters": 1_490_000_000}
    older = made(CertifiedRow, **{**moe, "run": "2026-11-29"}, beam_width=64, certified={"10": 0.321})
    newer = made(CertifiedRow, **moe, beam_width=64, certified={"10": 0.875})
    shop = made(ShopRow, **moe, shop="toys", recall_10=0.09, markov_recall_10=0.07, recall_lead=LEAD, ndcg_lead=LEAD)
    monkeypatch.setattr(render, "recorded", lambda file, kind: [older, *ROWS, newer, shop])
    page = render.certified()
    assert "| dense, FP8, T 1.1 | 0.071 / 0.062 | 10 | 0.250 | 0.750 |" in page
    assert "| MoE, FP8, T 1.1 | " in page
    assert "0.875" in page
    assert "0.321" not in page
    assert "dense (540 M parameters)" in page
    assert "MoE (1,490 M parameters)" in page
    assert "| toys | MoE, FP8, T 1.1 |" in render.recall()
