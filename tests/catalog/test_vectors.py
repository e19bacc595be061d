"""Item vectors, the features of attributes, the map from them, and named sets as bits."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.catalog import vectors as item_vectors_module
from octorec.catalog.attributes import WORD_WEIGHT, AttributeMap, Vocabulary, fit_map, fit_vocabulary
from octorec.catalog.columns import with_defaults
from octorec.catalog.sets import distinct_sets, set_bits
from octorec.catalog.vectors import WINDOW, id_vectors, item_vectors, predicted_vectors
from octorec.data.interactions import Interactions
from octorec.data.items import check_items
from octorec.errors import InputError


def table(titles, sets, **more):
    ids = [str(i) for i in range(len(titles))]
    return pa.table({"item_id": ids, "title": titles, "sets": pa.array(sets, pa.list_(pa.string())), **more})


def groups(n_users=40, seed=0):
    """Users who each meet six of one group's twelve items, in some order: items 0..11 and 12..23."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        items = rng.permutation(12)[:6] + 12 * (user % 2)
        rows += [(f"u{user}", str(item), time) for time, item in enumerate(items)]
    users, items, times = zip(*rows, strict=True)
    return Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))


ITEMS = table(
    [f"film number {i} {'comet' if i < 12 else 'river'}" for i in range(25)],
    [["a"] if i < 12 else ["b"] for i in range(25)],
)


def test_set_bits_cross_a_word():
    names = [f"s{i:03}" for i in range(130)]
    sets = [["s000", "s129", "s063"], [], ["s064", "s064"], names]
    column = table([""] * 4, sets)["sets"]
    assert distinct_sets(column) == tuple(names)
    bits = set_bits(column, names)
    assert (bits.shape, bits.dtype) == ((4, 3), np.int64)
    for row, item in zip(bits, sets, strict=True):
        found = {name for s, name in enumerate(names) if int(row[s // 64]) >> (s % 64) & 1}
        assert found == set(item)
    assert set_bits(column, []) is None


def test_counts_see_a_window_of_each_history():
    history = [0, 1, 2, 1, 3, 4, 5, 6]
    rows = {"user_id": ["u"] * 8 + ["v"], "item_id": [*map(str, history), "7"], "timestamp": [*range(8), 0]}
    counts = item_vectors_module._counts(Interactions.from_table(pa.table(rows)), ITEMS).toarray()
    expected = np.zeros((25, 25))
    for i, a in enumerate(history):
        for j, b in enumerate(history):
            if 0 < abs(i - j) <= WINDOW and a != b:
                expected[a, b] += 1
    np.testing.assert_array_equal(counts, expected)


def test_items_met_together_lie_together():
    vectors, *_ = item_vectors(groups(), table([""] * 24, [[]] * 24), seed=0)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    likeness = vectors @ vectors.T
    assert likeness[:12, :12].mean() > likeness[:12, 12:].mean() + 0.3
    assert likeness[12:, 12:].mean() > likeness[:12, 12:].mean() + 0.3


def test_an_item_nobody_met_goes_where_its_attributes_say():
    vectors, attribute_map, _ = item_vectors(groups(), ITEMS, seed=0)
    assert attribute_map is not None
    assert vectors.dtype == np.float32
    assert (vectors[24] @ vectors[12:24].T).mean() > (vectors[24] @ vectors[:12].T).mean() + 0.3
    new = table(["a comet", "unheard of"], [["zzz"], ["b"]])
    likeness = predicted_vectors(attribute_map, new, unit=True) @ vectors.T
    assert likeness[0, :12].mean() > likeness[0, 12:24].mean() + 0.1  # by one word of the title
    assert likeness[1, 12:24].mean() > likeness[1, :12].mean() + 0.3


@pytest.mark.parametrize(
    "items",
    [
        table([""] * 25, [[]] * 25),
        table([*ITEMS["title"].to_pylist()[:24], "Solo"], [*ITEMS["sets"].to_pylist()[:24], []]),
    ],
    ids=["nobody has attributes", "the others have"],
)
def test_an_item_of_which_nothing_is_known_goes_where_its_id_alone_says(items):
    vectors, _, known = item_vectors(groups(), items, seed=0)
    assert known.tolist() == [True] * 24 + [False]
    np.testing.assert_array_equal(vectors[24], id_vectors(["24"], vectors.shape[1])[0])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    others = id_vectors(["24", "25", "é"], 90)
    assert np.abs(others @ others.T - np.eye(3)).max() < 0.4


def test_given_vectors_are_taken_as_they_are():
    given = np.random.default_rng(0).normal(size=(25, 3)).astype(np.float32) * 7
    vectors, attribute_map, _ = item_vectors(None, ITEMS.append_column("vector", pa.array(given.tolist())), seed=0)
    np.testing.assert_array_equal(vectors, given)
    assert attribute_map.bias.shape == (3,)


def test_a_seed_says_it_all():
    first, same = (item_vectors(groups(), ITEMS, seed=4).vectors for _ in range(2))
    assert first.tobytes() == same.tobytes()


def test_what_vectors_need():
    with pytest.raises(InputError, match="interactions: got None"):
        item_vectors(None, ITEMS, 0)
    with pytest.raises(InputError, match=r"12 items that the item table lacks: .*every item met"):
        item_vectors(groups(), ITEMS.slice(0, 12), 0)
    with pytest.raises(InputError, match="that the item table lacks"):
        item_vectors(groups(), ITEMS.append_column("vector", pa.array([[1.0]] * 25)).slice(0, 12), 0)
    alone = pa.table({"user_id": ["u", "v"], "item_id": ["0", "1"], "timestamp": [0, 0]})
    with pytest.raises(InputError, match="two different items"):
        item_vectors(Interactions.from_table(alone), ITEMS, 0)


def test_features_by_hand():
    items = table(["Star Wars", "Star Trek", "Dune: star, STAR", ""], [["a"], ["a", "b"], [], []])
    vocabulary = fit_vocabulary(items)
    assert (vocabulary.sets, vocabulary.words) == (("a", "b"), ("star",))
    idf_a, idf_b, idf_star = (math.log(5 / (1 + having)) + 1 for having in (2, 1, 3))
    np.testing.assert_allclose(vocabulary.idf, [idf_a, idf_b, idf_star], rtol=1e-6)
    length = math.hypot(idf_a, idf_b)
    expected = [[1, 0, WORD_WEIGHT], [idf_a / length, idf_b / length, WORD_WEIGHT], [0, 0, WORD_WEIGHT], [0, 0, 0]]
    np.testing.assert_allclose(vocabulary.features(items).toarray(), expected, rtol=1e-6)


def test_ridge_against_augmented_least_squares():
    rng = np.random.default_rng(0)
    items = table([""] * 30, [[f"s{j}" for j in np.flatnonzero(rng.random(5) < 0.5)] or ["s0"] for _ in range(30)])
    vocabulary = fit_vocabulary(items)
    features, targets = vocabulary.features(items), rng.normal(size=(30, 4))
    fitted = fit_map(vocabulary, features, targets)
    augmented = np.concatenate([features.toarray(), np.eye(5)])
    wanted = np.linalg.lstsq(augmented, np.concatenate([targets - targets.mean(0), np.zeros((5, 4))]), rcond=None)[0]
    np.testing.assert_allclose(fitted.weight, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fitted.predict(items), targets.mean(0) + features @ wanted, rtol=1e-4, atol=1e-5)


def test_attribute_map_on_disk(tmp_path):
    _, attribute_map, _ = item_vectors(groups(), ITEMS, seed=0)
    attribute_map.save(tmp_path / "attributes.parquet")
    loaded = AttributeMap.load(tmp_path / "attributes.parquet")
    assert loaded.vocabulary.sets == ("a", "b")
    assert loaded.predict(ITEMS).tobytes() == attribute_map.predict(ITEMS).tobytes()


def test_foreign_attribute_maps_are_refused(tmp_path):
    path = tmp_path / "attributes.parquet"
    pyarrow.parquet.write_table(pa.table({"kind": ["bias"], "name": [""]}), path)
    with pytest.raises(InputError, match="column idf is missing"):
        AttributeMap.load(path)
    AttributeMap(
        Vocabulary(("a",), (), np.ones(1, np.float32)), np.ones((1, 2), np.float32), np.ones(2, np.float32)
    ).save(path)
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).slice(1), path)
    with pytest.raises(InputError, match="one bias, then sets"):
        AttributeMap.load(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="must be a whole"):
        AttributeMap.load(path)


def test_a_map_of_very_many_named_sets_is_over_the_more_frequent_ones(monkeypatch):
    monkeypatch.setattr("octorec.catalog.attributes.MAX_SETS", 3)
    sets = [["z", "a", f"own {row}"] for row in range(20)] + [["b"], ["b"]]
    items = with_defaults(check_items(pa.table({"item_id": list(range(22)), "sets": sets})))
    vocabulary = fit_vocabulary(items)
    assert vocabulary.sets == ("a", "b", "z")
    assert vocabulary.features(items).shape == (22, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": ["bias", "set", None]}, "column kind: got 'null in row 3'"),
        ({"name": ["", "a", None]}, "column name: got 'null in row 3'"),
        ({"name": ["", "a", "a"]}, "a name twice"),
        ({"kind": ["bias", "word", "set"]}, "one bias, then sets, then words"),
        ({"idf": np.array([1, np.nan, 1], np.float32)}, "column idf: got 'NaN or infinity in row 2'"),
        ({"idf": ["1", "1", "1"]}, "the table that OctoRec wrote"),
        ({"weight": pa.array([[1, 2], [1], [1, 2]], pa.list_(pa.float32()))}, "column weight"),
        ({"weight": pa.array([[1, 2], None, [1, 2]], pa.list_(pa.float32()))}, "column weight"),
        ({"weight": pa.array([[1, 2], [1, float("nan")], [1, 2]], pa.list_(pa.float32()))}, "column weight"),
    ],
)
def test_damaged_attribute_maps_are_refused(change, message, tmp_path):
    good = {
        "kind": ["bias", "set", "set"],
        "name": ["", "a", "b"],
        "idf": np.ones(3, np.float32),
        "weight": pa.array([[1, 2]] * 3, pa.list_(pa.float32(), 2)),
    }
    pyarrow.parquet.write_table(pa.table(good), tmp_path / "attributes.parquet")
    assert AttributeMap.load(tmp_path / "attributes.parquet").weight.shape == (2, 2)
    pyarrow.parquet.write_table(pa.table({**good, **change}), tmp_path / "attributes.parquet")
    with pytest.raises(InputError, match=message):
        AttributeMap.load(tmp_path / "attributes.parquet")


@pytest.mark.parametrize("titles", [["word here", "word there"] * 12, ["word"] + [""] * 23, ["word"] * 24])
def test_titles_that_share_one_word_alone_say_something(titles: list[str]) -> None:
    items = table(titles, [[]] * 24)
    made, attribute_map, known = item_vectors(groups(), items, seed=0)
    assert known.all()
    assert np.isfinite(made).all()
    assert attribute_map is None or np.isfinite(predicted_vectors(attribute_map, items.slice(0, 1), unit=True)).all()
