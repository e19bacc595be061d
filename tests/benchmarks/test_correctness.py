"""The check on trained weights tells rounding from error, on the CPU, with a small model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks import correctness
from octorec.catalog.catalog import Catalog
from octorec.data.items import check_items
from octorec.engine.engine import Engine
from octorec.engine.load import engine_config, load
from octorec.kernels import reference
from octorec.quant.load import load_model

SIZES = (7, 5, 6)


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path]) -> Path:
    codes = np.random.default_rng(0).integers(0, SIZES, (90, 3)).tolist()
    items = check_items(pa.table({"item_id": [str(i) for i in range(90)], "codes": codes}))
    catalog = Catalog.of_items(items, SIZES)
    path = make_checkpoint("tiny", codebook_sizes=SIZES, codebook_fingerprint=catalog.fingerprint)
    catalog.save(path / "catalog")
    return path


@pytest.fixture(autouse=True)
def _few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correctness, "TRIALS", 3)
    monkeypatch.setattr(correctness, "REQUESTS", 48)


def in_bfloat16(folder: Path, heads: float = 1.0) -> Engine:
    """An engine that computes as a GPU does; `heads` scales the logits, which a right engine leaves alone."""
    model = load_model(folder, reference, "cpu", torch.bfloat16)
    for name, parameter in model.named_parameters():
        if name.startswith("head."):
            parameter.mul_(heads)
    return Engine(model, load(folder).catalog, engine_config(correctness.BUCKET), "cpu", reference)


def test_rounding_stays_within_the_reference_s_own_noise(folder: Path) -> None:
    found = correctness.against_reference(folder, in_bfloat16(folder))
    assert found["max_noise"] > 0
    assert found["beyond_noise"] < 0.05
    assert found["top10_overlap"] > 0.9


def test_an_error_does_not(folder: Path) -> None:
    found = correctness.against_reference(folder, in_bfloat16(folder, heads=20.0))
    assert found["beyond_noise"] > correctness.BOUNDS["beyond_noise"]
