"""Semantic IDs are learned from the training part alone, and the catalog says so."""

import json

import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.build import assign, build_catalog, withdraw
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.data.learned import learned_from
from octorec.data.splits import training_part
from octorec.errors import InputError

SIZES = (6, 5, 4)


def interactions(newest, users=60, held=1):
    """Random histories over items 0..29, the last `held` of them `newest(user, n)`."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(users):
        items = [*map(str, rng.permutation(30)[:7]), *(newest(user, n) for n in range(held))]
        rows += [(f"u{user}", item, time) for time, item in enumerate(items)]
    ids, items, times = zip(*rows, strict=True)
    return Interactions.from_table(pa.table({"user_id": ids, "item_id": items, "timestamp": times}))


def items(described=True):
    ids = [*map(str, range(30)), "cold", "cold2"]
    sets = [[f"s{n % 3}"] if described else [] for n in range(32)]
    return pa.table({"item_id": ids, "sets": pa.array(sets, pa.list_(pa.string()))})


def codes(catalog):
    return {item: tuple(row) for item, row in zip(catalog.item_ids, catalog.codes.tolist(), strict=True)}


TARGETS = [
    lambda user, n: str(user % 30),
    lambda user, n: str((7 * user + n) % 30),
    lambda user, n: "cold" if user % 2 else "cold2",
    lambda user, n: "cold2",
]


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("table", [None, items(), items(described=False)], ids=["met", "described", "bare"])
@pytest.mark.parametrize("held", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_no_codes_change_with_the_held_out_targets(table, unique, held):
    sizes = (6, 5, 40) if unique else SIZES
    made = [build_catalog(interactions(t, held=held), table, sizes, unique=unique, hold_out=held) for t in TARGETS]
    first = codes(made[0])
    for catalog in made[1:]:
        found = codes(catalog)
        assert {item: found[item] for item in first} == first
        assert catalog.fingerprint == made[0].fingerprint
        assert catalog.learned == made[0].learned
    if table is None:
        assert set(codes(made[2])) - set(first) == {"cold", "cold2"}
        assert codes(made[2])["cold2"] == codes(made[3])["cold2"]
    if unique:
        assert all(catalog.n_sharing == 0 for catalog in made)


def test_without_a_hold_out_the_targets_do_change_the_codes():
    first, second = (build_catalog(interactions(target), None, SIZES) for target in TARGETS[:2])
    assert codes(first) != codes(second)


def test_an_item_with_attributes_goes_where_they_say():
    made = build_catalog(interactions(TARGETS[2]), items(), SIZES, hold_out=1)
    same = build_catalog(training_part(interactions(TARGETS[2]), 1), items(), SIZES)
    assert codes(made) == codes(same)


def test_held_out_items_must_be_in_the_item_table_too():
    with pytest.raises(InputError, match="1 items that the item table lacks: new"):
        build_catalog(interactions(lambda user, n: "new"), items(), SIZES, hold_out=1)


def test_a_catalog_says_what_it_learned_from(tmp_path):
    data = interactions(TARGETS[0])
    made = build_catalog(data, items(), SIZES, hold_out=1)
    assert made.learned == learned_from(training_part(data, 1))
    assert (made.learned.hold_out, made.learned.interactions, made.learned.newest) == (1, 420, 6)
    made.save(tmp_path / "catalog")
    loaded = Catalog.load(tmp_path / "catalog")
    new = pa.table({"item_id": ["n"], "sets": [["s1"]]})
    for version in (loaded, assign(loaded, new), withdraw(loaded, ["3"])):
        assert version.learned == made.learned


def test_a_catalog_from_before_the_record_still_loads(tmp_path):
    build_catalog(interactions(TARGETS[0]), items(), SIZES).save(tmp_path / "catalog")
    path = tmp_path / "catalog" / "catalog.json"
    about = json.loads(path.read_text())
    for old in ({k: v for k, v in about.items() if k != "learned"}, {**about, "learned": None}):
        path.write_text(json.dumps(old))
        assert Catalog.load(tmp_path / "catalog").learned is None
    path.write_text(json.dumps({**about, "learned": {"hold_out": 1}}))
    with pytest.raises(InputError, match=r"catalog\.json: learned: got"):
        Catalog.load(tmp_path / "catalog")


def test_vectors_that_items_bring_leave_no_record():
    vectors = np.random.default_rng(0).normal(size=(32, 3)).tolist()
    made = build_catalog(interactions(TARGETS[0]), items().append_column("vector", pa.array(vectors)), SIZES)
    assert made.given_vectors
    assert made.learned is None


def test_a_hold_out_below_nothing_or_one_that_leaves_nothing_is_refused():
    with pytest.raises(InputError, match="hold_out: got -1"):
        build_catalog(interactions(TARGETS[0]), None, SIZES, hold_out=-1)
    with pytest.raises(InputError, match="two different items, held-out ones aside"):
        build_catalog(interactions(TARGETS[0]), None, SIZES, hold_out=100)
