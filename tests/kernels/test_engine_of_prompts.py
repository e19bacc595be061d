"""An engine of a language model answers by kernels as by references: packed, filled up, and from what was kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Answer, Request
from octorec.kernels import fused, reference
from octorec.kernels.ops import Ops
from octorec.models.prompts import Prompts
from octorec.quant.load import load_model
from tests.qwen.made_models import Made, untrained_folder

CONFIG = EngineConfig(batch_sizes=(2,), beam_widths=(3,), default_beam_width=3, prefix_cache_bytes=10**6)


def answers(made: Made, ops: Ops, device: str, times: int) -> list[list[Answer]]:
    """Ask some times in bfloat16, with memory as on a GPU."""
    model = load_model(made.folder, ops, device, torch.bfloat16)
    engine = Engine(model, made.catalog, CONFIG, device, ops, prompts=Prompts(made.folder, model.sids))
    assert engine.reader is not None
    engine.reader.fix(2)
    draw = np.random.default_rng(0)
    requests = [Request(input_ids=draw.integers(0, 250, length).tolist(), k=3) for length in (70, 1)]
    return [engine.recommend(requests) for _ in range(times)]


@pytest.mark.slow
def test_an_engine_answers_by_kernels_as_by_references(tmp_path: Path, device: str) -> None:
    made = untrained_folder(tmp_path, "openonerec", hidden_size=64, intermediate_size=64)
    (expected,) = answers(made, reference, "cpu", 1)
    first, second = answers(made, fused, device, 2)
    assert [answer.cached_tokens for answer in first + second] == [0, 0, 64, 0]
    for found, again, right in zip(first, second, expected, strict=True):
        assert found.items == right.items
        np.testing.assert_allclose(found.scores, right.scores, atol=0.05)
        assert (again.items, again.scores) == (found.items, found.scores)
