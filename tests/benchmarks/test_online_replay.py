"""The replay asks in the order of time for what came next, and its experiments and faults are what they are called."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from made_rows import made
from safetensors.torch import load_file, save_file

from benchmarks import online_replay_report, records
from benchmarks.online_replay import EXPECTED, Step, experiment, of_users, steps_of, with_scales
from benchmarks.rows import ReplayRow
from octorec.data.interactions import Interactions
from octorec.evaluate.online.experiment import parse_experiment


def test_steps_come_in_the_order_of_time_with_all_that_was_before() -> None:
    rows = [("a", "1", 10), ("a", "2", 40), ("a", "3", 60), ("b", "4", 20), ("b", "5", 50), ("c", "6", 30)]
    users, items, times = zip(*rows, strict=True)
    log = Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))
    assert steps_of(log, 1) == [Step("b", ("4",), "5"), Step("a", ("1", "2"), "3")]
    assert steps_of(log, 9)[0] == Step("a", ("1",), "2")


def test_a_part_of_the_people_keeps_all_their_steps_in_order() -> None:
    steps = [Step(user, (), item) for user, item in (("c", "1"), ("a", "2"), ("b", "3"), ("d", "4"), ("a", "5"))]
    assert of_users(steps, 2) == [steps[0], steps[1], steps[4]]
    assert of_users(steps, None) == of_users(steps, 9) == steps


@pytest.mark.parametrize("name", EXPECTED)
def test_each_experiment_s_file_is_one(name: str) -> None:
    made = parse_experiment(experiment(name, {"checkpoint": "runs/demo/fp8"}, 943))
    assert list(made.variants) == ["control", "treatment"]
    assert [(metric.role, metric.margin) for metric in made.metrics.values()] == [("guardrail", 0.05)]


def test_scales_alone_are_read_in_another_way(tmp_path: Path) -> None:
    (tmp_path / "fp8").mkdir()
    scale, plain = torch.tensor([[1.0], [2.0], [3.0]]), torch.arange(6.0).view(3, 2)
    tensors = {"a.weight_scale": scale, "a.weight": plain, "b.weight_scale": torch.tensor(2.0)}
    save_file(tensors, tmp_path / "fp8" / "model.safetensors")
    found = load_file(with_scales(tmp_path / "fp8", tmp_path / "broken", torch.ones_like) / "model.safetensors")
    assert found["a.weight_scale"].tolist() == [[1.0]] * 3
    assert torch.equal(found["a.weight"], plain)
    assert found["b.weight_scale"] == 1


def test_the_page_says_what_was_expected_beside_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    effect = {"value": -0.31, "low": -0.42, "high": None}
    report = {"looks": [{"effects": [effect]}], "sample_ratio": {"p": 1.0}}
    row = made(
        ReplayRow, set="demo", experiment="fp8", expected="inconclusive", outcome="not_inferior", users=943,
        requests=9430, report=report,
    )  # fmt: skip
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    assert online_replay_report.page().startswith("Not yet measured")
    records.append(tmp_path / "online_replay.jsonl", row)
    page = online_replay_report.page()
    assert "| demo | fp8 | inconclusive | not inferior | -31.0% (-42.0% .. none) | 943 | 1.00 |" in page
