"""Building a catalog, and new versions of it."""

import time

import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.build import assign, build_catalog, restore, withdraw
from octorec.catalog.catalog import Catalog
from octorec.catalog.index_json import read_index
from octorec.data.interactions import Interactions
from octorec.data.movielens import movielens_100k
from octorec.data.splits import leave_last_out
from octorec.errors import InputError

SIZES = (6, 5, 4)


def interactions(seed=0):
    """60 items in three groups of twenty; a user meets items of one group."""
    rng = np.random.default_rng(seed)
    rows = [(user, user % 3 * 20 + item) for user in range(90) for item in rng.permutation(20)[:8]]
    users, items = zip(*rows, strict=True)
    columns = {"user_id": users, "item_id": [str(item) for item in items], "timestamp": range(len(rows))}
    return Interactions.from_table(pa.table({name: list(column) for name, column in columns.items()}))


def items():
    groups = ["north", "east", "west"]
    return pa.table(
        {
            "item_id": [str(i) for i in range(60)],
            "title": [f"Item {i} of the {groups[i // 20]}" for i in range(60)],
            "sets": [[groups[i // 20]] for i in range(60)],
        }
    )


@pytest.fixture(scope="module")
def catalog():
    return build_catalog(interactions(), items(), SIZES, seed=0)


def given_vectors(n=60, seed=0, start=0, **columns):
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return pa.table({"item_id": [str(start + i) for i in range(n)], "vector": vectors.tolist(), **columns})


def test_every_item_has_codes_of_its_group(catalog):
    assert (len(catalog), catalog.codebook_sizes) == (60, SIZES)
    first = {}
    for item, row in zip(catalog.item_ids, catalog.codes.tolist(), strict=True):
        first.setdefault(int(item) // 20, set()).add(row[0])
    assert not first[0] & first[1]
    assert not first[0] & first[2]
    assert not first[1] & first[2]
    assert catalog.titles[catalog.index["41"]] == "Item 41 of the west"
    assert catalog.set_names == ("east", "north", "west")


def test_a_seed_says_it_all(catalog):
    assert build_catalog(interactions(), items(), SIZES, seed=0).version == catalog.version
    assert build_catalog(interactions(), items(), SIZES, seed=1).fingerprint != catalog.fingerprint


def test_items_alone_and_interactions_alone():
    met = build_catalog(interactions(), None, SIZES)
    assert (len(met), set(met.titles), met.attribute_map) == (60, {""}, None)
    given = build_catalog(None, given_vectors(), SIZES)
    assert given.given_vectors
    assert given.codebook.width == 3
    with pytest.raises(InputError, match="items: got None"):
        build_catalog(None, None, SIZES)


def test_unique_tuples_stay_unique():
    catalog = build_catalog(interactions(), items(), SIZES)
    unique = build_catalog(interactions(), items(), (6, 5, 40), unique=True)
    assert catalog.n_sharing > 0
    assert unique.n_sharing == 0
    new = pa.table({"item_id": ["n1", "n2", "n3"], "title": ["of the west"] * 3, "sets": [["west"]] * 3})
    bigger = assign(unique, new)
    assert (len(bigger), bigger.n_sharing) == (63, 0)
    assert len({tuple(bigger.codes[bigger.index[item]][:2]) for item in ("n1", "n2", "n3")}) == 1


def test_progress_counts_to_the_end():
    calls = []
    build_catalog(interactions(), items(), SIZES, progress=lambda *call: calls.append(call))
    done = [done for done, _, _ in calls]
    assert done == sorted(set(done))
    assert {steps for _, steps, _ in calls} == {done[-1] + 1}
    assert [what for _, _, what in calls if "iteration 1" in what] == [
        f"level {n} of 3, iteration 1" for n in (1, 2, 3)
    ]


def test_new_items_get_codes_and_old_ones_keep_theirs(catalog, tmp_path):
    new = pa.table(
        {"item_id": ["n1", "5000"], "title": ["New in the north", ""], "sets": [["north", "fresh"], ["east"]]}
    )
    catalog.save(tmp_path / "catalog")
    bigger = assign(Catalog.load(tmp_path / "catalog"), new)
    assert (len(bigger), bigger.fingerprint) == (62, catalog.fingerprint)
    assert bigger.version != catalog.version
    for item in catalog.item_ids:
        assert bigger.codes[bigger.index[item]].tolist() == catalog.codes[catalog.index[item]].tolist()
    for item, group in (("n1", range(20)), ("5000", range(20, 40))):
        first = {int(catalog.codes[catalog.index[str(member)], 0]) for member in group}
        assert int(bigger.codes[bigger.index[item], 0]) in first
    assert bigger.set_names == ("east", "fresh", "north", "west")
    assert bigger.sets[bigger.index["n1"]] == ["north", "fresh"]
    bigger.save(tmp_path / "bigger")
    assert Catalog.load(tmp_path / "bigger").version == bigger.version


def test_new_items_with_vectors_of_their_own():
    catalog = build_catalog(None, given_vectors(sets=[["a"], ["b"]] * 30), SIZES)
    bigger = assign(catalog, given_vectors(5, seed=9, start=100))
    vectors = np.random.default_rng(9).normal(size=(5, 3)).astype(np.float32)
    expected = catalog.codebook.assign(vectors)
    np.testing.assert_array_equal(bigger.codes[[bigger.index[str(i)] for i in range(100, 105)]], expected)
    predicted = assign(catalog, pa.table({"item_id": ["x"], "sets": [["a"]]}))
    weight = catalog.attribute_map.bias + catalog.attribute_map.weight[0]
    np.testing.assert_array_equal(predicted.codes[predicted.index["x"]], catalog.codebook.assign(weight[None])[0])


def test_what_assign_refuses(catalog, tmp_path):
    def refuse(catalog, columns, message):
        with pytest.raises(InputError, match=message):
            assign(catalog, pa.table(columns))

    refuse(catalog, {"item_id": ["7", "x"], "sets": [["east"]] * 2}, "1 items of the catalog: 7")
    refuse(withdraw(catalog, ["7"]), {"item_id": ["7"], "sets": [["east"]]}, "`restore` brings")
    refuse(catalog, {"item_id": ["x", "x"], "sets": [["east"]] * 2}, "stands more than once")
    refuse(catalog, {"item_id": ["x"], "sets": [["south"]]}, "nothing is known: x")
    refuse(catalog, {"item_id": ["x"], "vector": [[1.0, 2.0]]}, "leave the column out")
    refuse(catalog, {"item_id": ["x"], "codes": [[1, 2, 3]]}, "leave the column out")
    refuse(build_catalog(None, given_vectors(), SIZES), {"item_id": ["x"], "vector": [[1.0, 2.0]]}, "width 3")
    refuse(build_catalog(None, given_vectors(), SIZES), {"item_id": ["x"]}, "nothing is known: x")
    (tmp_path / "i.json").write_text('{"1": ["<a_0>"]}')
    refuse(read_index(tmp_path / "i.json"), {"item_id": ["x"], "sets": [["a"]]}, "import an index")


def test_what_build_refuses():
    with pytest.raises(InputError, match="import codes from an index file"):
        build_catalog(interactions(), items().append_column("codes", [[[0, 0, 0]] * 60]), SIZES)
    with pytest.raises(InputError, match="the distinct item vectors"):
        build_catalog(interactions(), items(), (61, 2))
    for sizes in ((), (4, 0)):
        with pytest.raises(InputError, match="codebook_sizes"):
            build_catalog(interactions(), items(), sizes)


def test_withdrawn_items_leave_the_trie_and_come_back(catalog):
    branch = int(catalog.codes[0, 0])
    gone = [item for item, row in zip(catalog.item_ids, catalog.codes, strict=True) if row[0] == branch]
    fewer = withdraw(catalog, gone)
    position = fewer.trie.levels[0].child_code.tolist().index(branch)
    assert fewer.trie.levels[0].child_live[position] == 0
    assert fewer.trie.levels[0].child_live.sum() == 60 - len(gone)
    assert (~fewer.live).sum() == len(gone)
    assert fewer.trie.levels[0].child_code is catalog.trie.levels[0].child_code
    assert fewer.fingerprint == catalog.fingerprint
    assert fewer.version != catalog.version
    assert catalog.live.all()
    assert restore(fewer, gone).version == catalog.version
    assert withdraw(fewer, gone[:1]).version == fewer.version
    with pytest.raises(InputError, match="item_id: got 'nope'"):
        withdraw(catalog, ["nope"])


def test_a_withdrawn_version_survives_the_disk(catalog, tmp_path):
    fewer = withdraw(catalog, ["3", "30"])
    fewer.save(tmp_path / "catalog")
    loaded = Catalog.load(tmp_path / "catalog")
    for a, b in zip(loaded.trie.levels, fewer.trie.levels, strict=True):
        np.testing.assert_array_equal(a.child_live, b.child_live)
    np.testing.assert_array_equal(loaded.trie.levels[-1].child_sets, fewer.trie.levels[-1].child_sets)


def test_items_withdrawn_from_the_start():
    live = [i != 3 for i in range(60)]
    catalog = build_catalog(interactions(), items().append_column("live", [live]), SIZES)
    assert catalog.trie.levels[0].child_live.sum() == 59
    assert not catalog.live[catalog.index["3"]]


@pytest.mark.slow
def test_movielens(tmp_path):
    data = movielens_100k(tmp_path)
    train, _ = leave_last_out(data.interactions, 10)
    start = time.process_time()
    catalog = build_catalog(train, data.items, (64, 64, 64))
    seconds = time.process_time() - start
    print(f"\n1,682 films: {seconds:.1f} s, {catalog.n_sharing} share their tuple")
    assert seconds < 120
    assert catalog.n_sharing < 0.3 * 1682
    assert build_catalog(train, data.items, (64, 64, 64), unique=True).n_sharing == 0
    star_trek = [catalog.codes[place, 0] for place, title in enumerate(catalog.titles) if title.startswith("Star Trek")]
    assert np.bincount(star_trek).max() >= len(star_trek) / 2
