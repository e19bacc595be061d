"""What counts as an answer of a version that was not there, and a made-up row as the page shows it."""

from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import refresh_report
from benchmarks.rows.refresh import RefreshRow
from benchmarks.serve_refresh import FIRST, NOISE, OTHER, Change, mixed, rows, save_near
from benchmarks.wire import Answer
from tests.serve.served import make_catalog, save_checkpoint

CHANGES = [
    Change("none", FIRST, FIRST, 0.0, 9.0, {}),
    Change("in place", FIRST, OTHER, 10.0, 15.0, {"paused_s": 0.01, "requests": 64, "overlap": 0.9, "mean_drift": 0.1}),
    Change("rollback", OTHER, FIRST, 20.0, 21.0, {"paused_s": 0.01, "requests": 0}),
]
ABOUT = {"checkpoint": "demo size", "device": "cpu", "weights_mb": 4.8, "beam_width": 32}


def answer(due: float, at: float, model: str, status: str = "200") -> Answer:
    return Answer(status, at - due, at, body=orjson.dumps({"model": model}))


RIGHT = [
    (5, 6, FIRST),
    (9, 11, FIRST),
    (9, 11, OTHER),
    (14, 16, FIRST),
    (16, 17, OTHER),
    (20.5, 22, OTHER),
    (22, 23, FIRST),
]
WRONG = [(5, 6, OTHER), (16, 17, FIRST), (16, 19, FIRST), (22, 23, OTHER)]


def test_an_answer_of_a_version_that_was_not_there_is_counted() -> None:
    answers = [answer(*one) for one in (*RIGHT, *WRONG)]
    assert mixed(answers, CHANGES) == answers[len(RIGHT) :]
    made = rows(100.0, 0.5, [*answers, answer(14, 15, FIRST, "503")], CHANGES, **ABOUT)
    assert [(row.change, row.asked, row.lost, row.mixed) for row in made] == [
        ("none", 4, 0, 1), ("in place", 5, 1, 2), ("rollback", 3, 0, 1),
    ]  # fmt: skip
    assert [row.seconds for row in made] == [0.0, 5.0, 1.0]
    assert made[1].p99_ms == pytest.approx(2990, abs=100)


def test_the_page_shows_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made = rows(100.0, 0.5, [answer(*one) for one in RIGHT], CHANGES, **ABOUT)
    monkeypatch.setattr(refresh_report, "recorded", lambda file, kind: made if kind is RefreshRow else [])
    text = refresh_report.changes()
    assert "| demo size (5 MB) on cpu | in place | 5.0 | 10 | 64: 90.0% / 0.100 | 50.0 of 100.0 | 2 | 0 / 0 |" in text
    assert "| rollback of that | 1.0 | 10 |  |" in text


def test_weights_that_are_near_have_the_same_catalog_and_other_numbers(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "one", make_catalog())
    save_near(tmp_path / "one", tmp_path / "two")
    (first,), (second,) = ([*(tmp_path / name).glob("*.safetensors")] for name in ("one", "two"))
    other = load_file(second)
    for name, tensor in load_file(first).items():
        away = ((other[name] - tensor).abs() / tensor.abs().clamp(min=1e-9)).flatten()
        assert away.max() < 8 * NOISE
        assert torch.count_nonzero(tensor) == 0 or away.max() > 0
    assert (tmp_path / "two" / "catalog" / "catalog.json").is_file()
