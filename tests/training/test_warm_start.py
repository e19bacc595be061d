"""A warm start keeps the codebook's geometry, and a training goes on from it."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.errors import InputError
from octorec.models.presets import preset
from octorec.training.config import TrainConfig
from octorec.training.examples import training_set
from octorec.training.run import new_trainer


@pytest.fixture(scope="module")
def interactions() -> Interactions:
    generator = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{int(i)}", t) for u in range(40) for t, i in enumerate(generator.integers(0, 12, 6) ** 2 // 9)]
    columns = dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*rows, strict=True)), strict=True))
    return Interactions.from_table(pa.table(columns))


@pytest.fixture(scope="module")
def catalog(interactions: Interactions) -> Catalog:
    return build_catalog(interactions, None, (6, 5, 4), unique=True)


@pytest.mark.slow
def test_a_training_from_the_codebook(interactions: Interactions, catalog: Catalog) -> None:
    dimensions = preset("tiny", codebook_sizes=(6, 5, 4), codebook_fingerprint=catalog.fingerprint)
    data = training_set(interactions, catalog)
    losses: list[float] = []
    config = TrainConfig(steps=60, batch_size=32, warmup=5, codebook_start=True)
    trainer = new_trainer(dimensions, data, config, catalog, "cpu")
    assert catalog.codebook is not None
    weight = trainer.model.context.code_embed[0].weight.detach()
    geometry = [torch.cdist(x, x).flatten() for x in (weight, torch.from_numpy(catalog.codebook.centroids[0]))]
    assert torch.corrcoef(torch.stack(geometry))[0, 1] > 0.6
    trainer.run(on_step=lambda record: losses.append(record["loss"]))
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


def test_a_warm_start_needs_a_codebook(interactions: Interactions, catalog: Catalog) -> None:
    foreign = Catalog.of_items(catalog.items, catalog.codebook_sizes)
    dimensions = preset("tiny", codebook_sizes=(6, 5, 4), codebook_fingerprint=foreign.fingerprint)
    data = training_set(interactions, foreign)
    with pytest.raises(InputError, match="codebook_start"):
        new_trainer(dimensions, data, TrainConfig(codebook_start=True), foreign, "cpu")
