"""The steps of the Qwen ablation answer alike, so that its rows time the same work."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import qwen_ablation, qwen_speed, records, unfused
from benchmarks.qwen_ablation import ENGINE, OPERATIONS, STEPS, eager, mix, replaced
from benchmarks.qwen_model import config_of, random_qwen
from benchmarks.rows.qwen_speed import QwenSpeedFailure, QwenStepRow, QwenWanted
from octorec.engine.search import Searched
from octorec.kernels import reference
from octorec.kernels.ops import Variant

TINY = QwenWanted("octorec", "tiny", "fp8", 2, 8, 24)


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qwen_ablation, "fused", reference)
    monkeypatch.setattr(qwen_speed, "HOST_RUNS", 2)


def test_the_steps_replace_every_operation_once() -> None:
    assert sorted(replaced(len(STEPS) - 1)) == sorted(OPERATIONS)


@pytest.mark.slow
@torch.inference_mode()
def test_every_step_finds_the_same_beams() -> None:
    expected: dict[str, Searched] = {}
    for number, step in enumerate(STEPS):
        mixture = Variant(unfused)
        mix(mixture, number)
        model = random_qwen(config_of("tiny"), step.precision, ops=mixture, device="cpu")
        found = eager(qwen_speed.engine_of(TINY, model, "cpu"), TINY)()
        first = expected.setdefault(step.precision, found)
        assert np.abs((found.scores[:, :4] - first.scores[:, :4]).numpy()).max() < 0.1, step.name
        shared = [len({*one} & {*other}) for one, other in zip(found.nodes.tolist(), first.nodes.tolist(), strict=True)]
        assert min(shared) >= 6, step.name


@pytest.mark.slow
def test_steps_and_the_engine_become_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(unfused, "swiglu", None)  # of every step before it is replaced
    qwen_ablation.run(TINY, [1, 2, 4], True, 1, out, "cpu")
    rows = records.read(out, QwenStepRow, QwenSpeedFailure)
    assert [row.system for row in rows] == [STEPS[1].name, STEPS[2].name, STEPS[4].name, ENGINE]
    assert [type(row) for row in rows] == [QwenSpeedFailure, QwenSpeedFailure, QwenStepRow, QwenStepRow]
    assert {row.precision for row in rows[1:]} == {"fp8"}
    assert isinstance(rows[2], QwenStepRow)
    assert rows[2].replaced == ("rms_norm", "maybe_quantize", "swiglu")
