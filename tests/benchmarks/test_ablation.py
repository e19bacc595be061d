"""The steps of the ablation answer alike, so that its rows time the same work."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import ablation, unfused
from benchmarks.ablation import OPERATIONS, STEPS, EagerEngine, mix, replaced
from benchmarks.engine import Measured
from benchmarks.random_model import random_catalog, random_requests
from benchmarks.records import as_json
from octorec.engine.engine import Engine, EngineConfig
from octorec.kernels import reference
from octorec.kernels.ops import Variant
from octorec.models.presets import preset
from octorec.quant.load import load_model


def test_the_steps_replace_every_operation_but_the_head_once() -> None:
    assert sorted(replaced(len(STEPS) - 1)) == sorted(set(OPERATIONS) - {"head"})


def test_every_step_is_the_same_model(make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "fused", reference)
    config = preset("tiny")
    folder, catalog = make_checkpoint("tiny"), random_catalog(config, 150)
    limits = EngineConfig(config.max_context, batch_sizes=(4,), beam_widths=(16,), default_beam_width=16)
    requests = random_requests(4, 150, config.max_context, 16)
    model = load_model(folder, reference, "cpu", torch.bfloat16)
    expected = Engine(model, catalog, limits, "cpu", reference).recommend(requests)
    ops = Variant(unfused)
    engine = EagerEngine(load_model(folder, ops, "cpu", torch.bfloat16), catalog, limits, "cpu", ops)
    for number, step in enumerate(STEPS):
        mix(ops, replaced(number))
        for answer, other in zip(engine.recommend(requests), expected, strict=True):
            assert len(set(answer.items) & set(other.items)) >= 14, step.name


def test_rows_have_the_keys_that_were_promised() -> None:
    from benchmarks.timer import of_samples

    row = ablation.row_of("stock", "bf16", Measured(of_samples([2.0]), of_samples([3.0])), [])
    promised = "system, preset, precision, batch, beam, context, requests_per_s, ms_per_batch, p50_ms, p99_ms, tflops"
    assert {*promised.split(", "), "mfu", "memory_gb"} <= set(as_json(row))
    assert row.requests_per_s == 16000
