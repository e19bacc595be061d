"""The Qwen benchmarks run on a GPU at tiny dimensions, all ways through them, and every system finds the same beams."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import attention_probe, qwen_ablation, qwen_speed, qwen_stock, records
from benchmarks.engine import captured
from benchmarks.qwen_cases import CASES
from benchmarks.qwen_model import config_of, requests_of
from benchmarks.qwen_speed import engine_of, model_of
from benchmarks.rows.qwen_speed import ProbeFailure, ProbeRow, QwenSpeedFailure, QwenSpeedRow, QwenStepRow, QwenWanted
from octorec.kernels.device import ops_for

pytestmark = pytest.mark.gpu
TINY = QwenWanted("octorec", "tiny", "bf16", 3, 16, 100)


@pytest.mark.parametrize("precision", ["bf16", "fp8", "fp8-block"])
@pytest.mark.parametrize("prefix", ["off", "hit"])
def test_our_batches(precision: str, prefix: str, tmp_path: Path) -> None:
    wanted = replace(TINY, precision=precision, prefix=prefix)
    (row,) = qwen_speed.recorded_rows([wanted], 3, tmp_path / "rows", qwen_stock.MEASURES)
    assert isinstance(row, QwenSpeedRow), row
    assert row.kernels_ms and row.memory_gb  # noqa: PT018


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
@pytest.mark.parametrize("system", ["stock graph", "stock graph, no trie"])
def test_stock_batches(precision: str, system: str, tmp_path: Path) -> None:
    wanted = replace(TINY, precision=precision, system=system)
    (row,) = qwen_speed.recorded_rows([wanted], 3, tmp_path / "rows", qwen_stock.MEASURES)
    assert isinstance(row, QwenSpeedRow), row


def test_generate(tmp_path: Path) -> None:
    wanted = replace(TINY, system="transformers", batch=1)
    (row,) = qwen_speed.recorded_rows([wanted], 1, tmp_path / "rows", qwen_stock.MEASURES)
    assert isinstance(row, QwenSpeedRow), row


@torch.inference_mode()
def test_the_graph_of_stock_pytorch_finds_our_beams() -> None:
    stock, prompts = qwen_stock.stock_of(TINY, "cuda"), qwen_stock.prompts_tensor(TINY).cuda()
    stock.compile()
    _, scores = captured(lambda: stock(prompts, TINY.beam))()
    engine = engine_of(TINY, model_of("tiny", "bf16", "cuda"), "cuda")
    found = engine.search([engine.parse(request) for request in requests_of(TINY, config_of("tiny"))])
    torch.testing.assert_close(scores.cpu(), torch.from_numpy(found.scores), rtol=0, atol=0.05)


def test_the_steps_of_the_ablation(tmp_path: Path) -> None:
    out = tmp_path / "rows"
    qwen_ablation.run(replace(TINY, precision="fp8"), range(len(qwen_ablation.STEPS)), True, 2, out)
    rows = records.read(out, QwenStepRow, QwenSpeedFailure)
    assert [row.error for row in rows if isinstance(row, QwenSpeedFailure)] == []
    assert len(rows) == len(qwen_ablation.STEPS) + 1


@pytest.mark.parametrize("operation", CASES)
def test_the_probe(operation: str, tmp_path: Path) -> None:
    out = tmp_path / "rows"
    attention_probe.probe(["tiny"], [operation], ops_for(torch.device("cuda")), "cuda", 3, out, tilings=True)
    rows = records.read(out, ProbeRow, ProbeFailure)
    for row in rows:
        if isinstance(row, ProbeRow) and row.error is not None:
            assert row.error < (0.01 if row.precision == "bf16" else 0.06), row
        assert isinstance(row, ProbeRow) or not row.by.startswith(("ours", "by the table")), row
    assert rows
