"""Stock PyTorch finds the beams that our engine finds, and is measured as it is."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import qwen_stock
from benchmarks.qwen_model import catalog_of, config_of, prompts_of, random_qwen, requests_of
from benchmarks.qwen_speed import recorded_rows
from benchmarks.rows.qwen_speed import QwenSpeedFailure, QwenSpeedRow, QwenWanted
from benchmarks.stock_qwen import StockQwen
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.rank import Found
from octorec.kernels import reference

TINY = QwenWanted("stock graph", "tiny", "bf16", 3, 32, 24)


@pytest.fixture(scope="module")
def engine() -> Engine:
    model = random_qwen(config_of("tiny"), "bf16", ops=reference, device="cpu", dtype=torch.float32)
    limits = EngineConfig(batch_sizes=(4,), beam_widths=(32,), default_beam_width=32, max_tokens=64)
    return Engine(model, catalog_of("tiny"), limits, "cpu", reference, prompts=prompts_of("tiny"))


@pytest.fixture(scope="module")
def found(engine: Engine) -> Found:
    return engine.search([engine.parse(request) for request in requests_of(TINY, config_of("tiny"))])


@torch.inference_mode()
def stock(engine: Engine, fp8: bool = False, trie: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    levels = engine.device_catalog.levels if trie else None
    return StockQwen(engine.model, fp8, levels)(qwen_stock.prompts_tensor(TINY), 32)  # type: ignore[arg-type]


def test_stock_pytorch_finds_our_beams(engine: Engine, found: Found) -> None:
    codes, scores = stock(engine)
    assert np.abs(found.scores - scores.numpy()).max() < 1e-4
    for row, request in enumerate(requests_of(TINY, config_of("tiny"))):
        answer = found.ranked(row, engine.parse(request)).answer()
        ours = dict(zip(answer.codes, answer.scores, strict=True))  # items may share a tuple
        theirs = dict(zip(map(tuple, codes[row].tolist()), scores[row].tolist(), strict=True))
        assert len(ours) > 8
        assert {each: theirs[each] for each in ours} == pytest.approx(ours, abs=1e-4)


def test_without_a_trie_any_code_may_follow(engine: Engine, found: Found) -> None:
    codes, scores = stock(engine, trie=False)
    known = {tuple(row) for row in engine.catalog.codes.tolist()}
    assert (scores[:, 0].numpy() > found.scores[:, 0] - 1e-4).all()
    assert not {tuple(row) for row in codes.flatten(0, 1).tolist()} <= known


def test_beams_that_have_no_child_stay_dead(engine: Engine) -> None:
    """More beams than the catalog has items below the best of the first level."""
    levels = engine.device_catalog.levels
    with torch.inference_mode():
        codes, scores = StockQwen(engine.model, False, levels)(qwen_stock.prompts_tensor(TINY), 700)  # type: ignore[arg-type]
    for row, legal in zip(codes, scores.isfinite(), strict=True):
        tuples = [tuple(each) for each in row[legal].tolist()]
        assert len({*tuples}) == len(tuples) == len({tuple(each) for each in engine.catalog.codes.tolist()})


def test_fp8_products_change_scores_a_little(engine: Engine, found: Found) -> None:
    _, scores = stock(engine, fp8=True)
    off = np.abs(found.scores[:, 0] - scores[:, 0].numpy())
    assert 1e-4 < off.max() < 0.5


def test_every_system_is_beside_ours_at_the_main_shape() -> None:
    found = qwen_stock.rows()
    main = {row.system for row in found if (row.batch, row.beam, row.context) == qwen_stock.SHAPES_BESIDE[0]}
    assert main == {"octorec", "stock graph", "stock graph, no trie"}
    assert {row.batch for row in found if row.system.startswith("transformers")} == {1}
    assert {row.system.split()[0].rstrip(",") for row in found} == {*qwen_stock.MEASURES}


@pytest.mark.slow
@pytest.mark.parametrize("system", ["octorec", "stock graph", "transformers", "transformers, no trie"])
def test_a_batch_of_each_system_is_measured(system: str, tmp_path: Path) -> None:
    wanted = replace(TINY, system=system, batch=1, beam=4)
    on_cpu = {name: partial(measure, device="cpu") for name, measure in qwen_stock.MEASURES.items()}
    (row,) = recorded_rows([wanted], 1, tmp_path / "rows", on_cpu)
    assert isinstance(row, QwenSpeedRow), row
    assert row.n_items == (None if "no trie" in system else 600)
    assert (row.p50_ms is None) == (system != "octorec")


def test_a_batch_without_memory_is_a_row_that_says_so(tmp_path: Path) -> None:
    def full(row: QwenWanted, runs: int) -> qwen_stock.Measured:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB")

    wanted = replace(TINY, system="transformers, no trie")
    (row,) = recorded_rows([wanted], 1, tmp_path / "rows", {"transformers": full})
    assert isinstance(row, QwenSpeedFailure)
    assert row.error == "OutOfMemoryError: CUDA out of memory. Tried to allocate 7 GiB"
