"""Targets come from the Markov chain's own distribution, and a warm start keeps the codebook's geometry."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.errors import InputError
from octorec.evaluate.baselines import MarkovChain
from octorec.models.presets import preset
from octorec.training.config import TrainConfig
from octorec.training.examples import training_set
from octorec.training.neighbours import neighbours
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


def test_targets_follow_the_chain(interactions: Interactions, catalog: Catalog) -> None:
    data, chain = training_set(interactions, catalog), MarkovChain.fit(interactions)
    found = neighbours(interactions, catalog)
    torch.manual_seed(0)
    row = 13
    codes, some = found.draw(data, torch.full((20_000,), row))
    assert some.all()
    history = list(interactions.table["item_id"].to_pylist()[data.first[row] : data.target[row]])
    order = {item: at for at, item in enumerate(chain.popularity.item_ids)}
    weight = sum(0.7**age * chain.transitions[order[item]].toarray()[0] for age, item in enumerate(reversed(history)))
    expected = {catalog.index[item]: weight[at] / weight.sum() for item, at in order.items()}
    place = {tuple(codes): at for at, codes in enumerate(catalog.codes.tolist())}
    drawn = np.bincount([place[tuple(row)] for row in codes.tolist()], minlength=len(catalog)) / len(codes)
    for item, share in expected.items():
        assert drawn[item] == pytest.approx(share, abs=0.012)


def test_an_item_that_nothing_followed_keeps_its_true_target(catalog: Catalog) -> None:
    rows = {"user_id": ["a", "a"], "item_id": [catalog.item_ids[0], catalog.item_ids[1]], "timestamp": [0, 1]}
    pair = Interactions.from_table(pa.table(rows))
    found = neighbours(pair, catalog)
    codes, some = found.draw(training_set(pair, catalog), torch.zeros(4, dtype=torch.long))
    assert some.all()
    assert (codes == torch.from_numpy(catalog.codes[1]).long()).all()
    nothing = type(found)(found.items, found.codes, found.successors, torch.zeros_like(found.cumulative), 0.7)
    _, some = nothing.draw(training_set(pair, catalog), torch.zeros(4, dtype=torch.long))
    assert not some.any()


@pytest.mark.slow
def test_a_training_with_both(interactions: Interactions, catalog: Catalog) -> None:
    dimensions = preset("tiny", codebook_sizes=(6, 5, 4), codebook_fingerprint=catalog.fingerprint)
    data = training_set(interactions, catalog)
    losses: list[float] = []
    config = TrainConfig(steps=60, batch_size=32, warmup=5, neighbour_targets=0.5, codebook_start=True)
    trainer = new_trainer(dimensions, data, config, interactions, catalog, "cpu")
    assert catalog.codebook is not None
    weight = trainer.model.context.code_embed[0].weight.detach()
    geometry = [torch.cdist(x, x).flatten() for x in (weight, torch.from_numpy(catalog.codebook.centroids[0]))]
    assert torch.corrcoef(torch.stack(geometry))[0, 1] > 0.6
    trainer.run(progress=lambda record: losses.append(record["loss"]))
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


def test_a_warm_start_needs_a_codebook(interactions: Interactions, catalog: Catalog) -> None:
    foreign = Catalog.of_items(catalog.items, catalog.codebook_sizes)
    dimensions = preset("tiny", codebook_sizes=(6, 5, 4), codebook_fingerprint=foreign.fingerprint)
    data = training_set(interactions, foreign)
    with pytest.raises(InputError, match="codebook_start"):
        new_trainer(dimensions, data, TrainConfig(codebook_start=True), interactions, foreign, "cpu")
