"""The three shops as one: every interaction is there, and nothing learns from what is held out."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_union import ITEMS, USERS, made_shops

from octorec.catalog.catalog import Catalog
from octorec.data.interactions import read_interactions
from octorec.errors import InputError
from octorec.models.onerec_config import OneRecConfig
from octorec.models.onerec_shapes import parameters
from octorec.training.run import BYTES
from studies.exact import data
from studies.exact.million import with_neighbours
from studies.exact.subject import Targets
from studies.quality.sequences import read_sequences

SIZES = (16, 16, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("union")
    data.write(made_shops(base), base / "out", SIZES)
    return base


def test_the_union_has_every_interaction_of_each_shop(folder: Path) -> None:
    histories = read_interactions(folder / "out" / "interactions.csv").histories()
    assert len(histories) == 3 * USERS
    for name in data.SETS:
        of_shop = read_sequences(folder / f"{name}.txt").histories()
        for user, items in of_shop.items():
            assert histories[name[0] + user] == [name[0] + item for item in items]


def test_a_user_is_called_after_the_shop() -> None:
    assert [data.shop_of(user) for user in ("b1", "s20", "t3")] == ["beauty", "sports", "toys"]
    with pytest.raises(InputError, match="user_id: got '17'"):
        data.shop_of("17")


def test_the_catalog_learns_from_no_held_out_item(folder: Path) -> None:
    interactions = read_interactions(folder / "out" / "interactions.csv")
    catalog = Catalog.load(folder / "out" / "catalog")
    targets = Targets.of(interactions)
    assert len(targets.train) == len(interactions) - 2 * 3 * USERS
    assert catalog.learned is not None
    assert catalog.learned.interactions == len(targets.train)
    assert catalog.codebook_sizes == SIZES
    assert catalog.n_sharing == 0
    assert {item[0] for item in catalog.item_ids} == {"b", "s", "t"}
    assert len(catalog) <= 3 * ITEMS


def test_the_newest_item_is_the_test_and_the_one_before_it_validation(folder: Path) -> None:
    interactions = read_interactions(folder / "out" / "interactions.csv")
    targets = Targets.of(interactions)
    for validation, test in zip(targets.validation, targets.test, strict=True):
        history = interactions.histories()[test.user_id]
        assert [*validation.history, validation.target, test.target] == history
        assert test.history == (*validation.history, validation.target)


def test_the_model_is_the_dense_one_of_the_paper_for_these_codes(folder: Path) -> None:
    config = OneRecConfig.from_dict(json.loads((folder / "out" / "config.json").read_text()))
    catalog = Catalog.load(folder / "out" / "catalog")
    assert (config.d_model, config.n_layer, config.n_expert, config.max_context) == (1408, 14, 0, 20)
    assert (config.codebook_sizes, config.codebook_fingerprint) == (SIZES, catalog.fingerprint)


def test_the_moe_form_has_the_dense_models_work_a_row_and_trains_in_the_memory_of_one_card(folder: Path) -> None:
    dense, moe = (
        OneRecConfig.from_dict(json.loads((folder / "out" / name).read_text())) for name in ("config.json", "moe.json")
    )
    assert (moe.d_model, moe.n_layer, moe.codebook_fingerprint) == (1408, 14, dense.codebook_fingerprint)
    idle = (moe.n_layer - moe.dense_blocks) * (moe.n_expert - moe.top_k) * 3 * moe.d_model * moe.expert_width
    assert parameters(moe) - idle == pytest.approx(parameters(dense), rel=1e-3)
    assert BYTES * parameters(moe) < 60e9


def test_neighbours_keep_the_real_items_and_share_their_prefixes(folder: Path) -> None:
    catalog = Catalog.load(folder / "out" / "catalog")
    many = with_neighbours(catalog, 600)
    assert (len(many), many.n_sharing, many.fingerprint) == (600, 0, catalog.fingerprint)
    for item in catalog.item_ids:
        assert np.array_equal(many.codes[many.index[item]], catalog.codes[catalog.index[item]])
    made = many.codes[[place for item, place in many.index.items() if item.startswith("~")]]
    assert len(made) == 600 - len(catalog)
    ones, twos = ({tuple(row) for row in catalog.codes[:, :n].tolist()} for n in (1, 2))
    assert {tuple(row) for row in made[:, :1].tolist()} <= ones
    shared = np.array([tuple(row) in twos for row in made[:, :2].tolist()])
    assert 0.4 < shared.mean() < 1  # all that differ in the last code alone, and some by chance
    again = with_neighbours(catalog, 600)
    assert np.array_equal(many.codes, again.codes)
    assert many.item_ids == again.item_ids
