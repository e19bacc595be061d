"""The catalog's order, look-ups and folder, and every damage to it."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook
from octorec.catalog.residual_kmeans import fit_codebook
from octorec.data.items import check_items
from octorec.errors import InputError, MismatchError
from octorec.formats import CATALOG_FILES

ROWS = {
    "item_id": ["10", "9", "7", "8"],
    "codes": [[1, 0], [1, 0], [0, 2], [1, 1]],
    "title": ["ten", "nine", "seven", "eight"],
    "sets": [["x"], ["y", "x"], [], ["z"]],
    "live": [True, True, False, True],
}


def make(**change):
    return Catalog.of_items(check_items(pa.table({**ROWS, **change})), (2, 3))


def built(n=40, **options):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    codebook = fit_codebook(vectors, (4, 4), seed=0)
    codes = pa.array(codebook.assign(vectors).tolist(), pa.list_(pa.int32()))
    return Catalog.of_items(pa.table({"item_id": [str(i) for i in range(n)], "codes": codes}), (4, 4), codebook)


def test_items_come_in_code_order_ties_by_id_as_integer():
    catalog = make()
    assert catalog.item_ids == ["7", "9", "10", "8"]
    assert catalog.titles == ["seven", "nine", "ten", "eight"]
    assert catalog.codes.tolist() == [[0, 2], [1, 0], [1, 0], [1, 1]]
    assert catalog.sets == [[], ["y", "x"], ["x"], ["z"]]
    assert catalog.live.tolist() == [False, True, True, True]
    assert catalog.item_leaf.tolist() == [0, 1, 1, 2]
    assert catalog.trie.leaf_items.tolist() == [0, 1, 3, 4]
    assert catalog.trie.levels[1].child_live.tolist() == [0, 2, 1]
    assert (len(catalog), catalog.n_sharing) == (4, 2)
    assert catalog.codes.dtype == np.int32


def test_order_does_not_depend_on_the_tables():
    shuffled = pa.table(ROWS).take([2, 0, 3, 1])
    assert Catalog.of_items(check_items(shuffled), (2, 3)).version == make().version


def test_lookups():
    catalog = make()
    assert [catalog.index_of(item) for item in ("9", 10, "7")] == [1, 2, 0]
    with pytest.raises(InputError, match=r"history: got '11'; must be one of the catalog's 4 items"):
        catalog.index_of("11", "history")
    assert catalog.set_names == ("x", "y", "z")
    assert catalog.item_sets.tolist() == [[0], [3], [1], [4]]
    assert catalog.set_mask(["z", "x"]).tolist() == [5]
    assert catalog.set_mask([]).tolist() == [0]
    with pytest.raises(InputError, match="allow: got 'w'; allowed: x, y, z"):
        catalog.set_mask(["w"])


def test_many_places_at_once():
    ids = [str(number) for number in np.random.default_rng(0).permutation(3000)]
    items = check_items(pa.table({"item_id": ids, "codes": [[n % 9, n % 7] for n in range(3000)]}))
    catalog = Catalog.of_items(items, (9, 7))
    wanted = [*ids[:50], "no such item", "3000", ids[0]]
    assert catalog.places(wanted).tolist() == [catalog.index.get(item, -1) for item in wanted]
    assert catalog.places([]).tolist() == []


@pytest.mark.parametrize(
    "known",
    [[7], [-(2**63), 2**63 - 1], [5, 6, 7, 8, 9, -1, 2**62], list(range(40)), [2**63 - 1 - n for n in range(9)]],
)
def test_places_by_hashes_at_the_ends_and_in_one_bucket(known, monkeypatch):
    hashes = {f"i{number}": value for number, value in enumerate(known)}
    near = known[0] - 1 if known[0] > 0 else known[0] + 1  # within 64 bits
    strangers = {"lowest": -(2**63), "highest": 2**63 - 1, "zero": 0, "near": near}
    strangers = {item: value for item, value in strangers.items() if value not in known}
    monkeypatch.setattr(
        "octorec.catalog.ids._hashes", lambda ids: np.array([(hashes | strangers)[item] for item in ids], np.int64)
    )
    items = check_items(pa.table({"item_id": list(hashes), "codes": [[number] for number in range(len(known))]}))
    catalog = Catalog.of_items(items, (64,))
    wanted = [*strangers, *hashes, *strangers]
    assert catalog.places(wanted).tolist() == [catalog.index.get(item, -1) for item in wanted]


def test_two_ids_of_one_hash_are_refused(monkeypatch):
    monkeypatch.setattr("octorec.catalog.ids._hashes", lambda ids: np.zeros(len(ids), np.int64))
    catalog = Catalog.of_items(check_items(pa.table({"item_id": ["a", "b"], "codes": [[0], [1]]})), (2,))
    with pytest.raises(RuntimeError, match="PYTHONHASHSEED"):
        catalog.places(["a"])


def test_columns_that_are_missing_have_defaults():
    catalog = Catalog.of_items(check_items(pa.table({"item_id": ["a"], "codes": [[1]]})), (2,))
    assert (catalog.titles, catalog.sets, catalog.live.tolist()) == ([""], [[]], [True])
    assert catalog.item_sets is None
    assert catalog.trie.levels[0].child_sets is None
    with pytest.raises(InputError, match="no item has sets"):
        catalog.set_mask(["x"])


def test_version_changes_with_any_content_and_the_fingerprint_with_codes_alone():
    catalog = make()
    changes = {"title": ["a"] * 4, "sets": [[]] * 4, "live": [True] * 4}
    for name, value in changes.items():
        assert make(**{name: value}).version != catalog.version
        assert make(**{name: value}).fingerprint == catalog.fingerprint
    for name, value in {"codes": [[1, 0], [1, 0], [0, 1], [1, 1]], "item_id": ["a", "b", "c", "d"]}.items():
        assert make(**{name: value}).version != catalog.version
        assert make(**{name: value}).fingerprint != catalog.fingerprint
    wider = Catalog.of_items(check_items(pa.table(ROWS)), (2, 4))
    assert wider.fingerprint != catalog.fingerprint


def test_the_fingerprint_of_a_codebook_is_the_catalogs():
    catalog = built()
    assert catalog.fingerprint == catalog.codebook.fingerprint


@pytest.mark.parametrize(
    ("columns", "sizes", "message"),
    [
        ({"item_id": ["1"]}, (2,), "column codes is missing"),
        ({"item_id": ["1"], "codes": [[0, 1]]}, (2, 2, 2), r"2 codes a row.*needs 3"),
        ({"item_id": ["1", "2"], "codes": [[0, 1], [1, 2]]}, (2, 2), r"row 2: got \[1, 2\]; must be below"),
        ({"item_id": ["1"], "codes": [[0]]}, (), "codebook_sizes"),
        ({"item_id": ["1"], "codes": [[0]]}, (0,), "codebook_sizes"),
    ],
)
def test_bad_codes(columns, sizes, message):
    with pytest.raises(InputError, match=message):
        Catalog.of_items(check_items(pa.table(columns)), sizes)


def test_codes_of_another_type_are_refused():
    """Their fingerprint would not be the one that the saved catalog has."""
    with pytest.raises(InputError, match=r"int64.*list<int32>, as data"):
        Catalog.of_items(pa.table({"item_id": ["1"], "codes": [[0]]}), (2,))


def test_no_items():
    with pytest.raises(InputError, match="no rows"):
        Catalog.of_items(pa.table(ROWS).slice(0, 0), (2, 3))


@pytest.mark.parametrize("catalog", [make(), built()])
def test_on_disk(catalog, tmp_path):
    catalog.save(tmp_path / "catalog")
    loaded = Catalog.load(tmp_path / "catalog")
    assert loaded.items.equals(catalog.items)
    assert (loaded.fingerprint, loaded.version) == (catalog.fingerprint, catalog.version)
    assert loaded.codebook_sizes == catalog.codebook_sizes
    np.testing.assert_array_equal(loaded.trie.levels[1].child_live, catalog.trie.levels[1].child_live)
    with pytest.raises(InputError, match="it exists already"):
        catalog.save(tmp_path / "catalog")
    catalog.save(tmp_path / "catalog", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["catalog"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "reads format version 1"),
        ({"format_version": None}, "reads format version 1"),
        ({"codebook_sizes": "4,4"}, "codebook_sizes: got '4,4'; must be of type list"),
        ({"codebook_sizes": [4.0, 4.0]}, "codebook_sizes: got 4.0; must be of type int"),
        ({"codebook_sizes": [True, 4]}, "codebook_sizes: got True; must be of type int"),
        ({"codebook_sizes": [float("nan"), 4]}, "NaN is no number of JSON"),
        ({"codebook_sizes": [-4, 4]}, "needs a size of 1 to 2147483647 for each level"),
        ({"codebook_sizes": [10**30, 4]}, "needs a size of 1 to 2147483647 for each level"),
        ({"codebook_sizes": []}, "needs a size of 1"),
        ({"levels": True}, "levels: got True; must be of type int"),
        ({"n_items": 40.0}, "n_items: got 40.0; must be of type int"),
        ({"format_version": True}, "format_version: got True"),
        ({"extends": 1}, "extends: got 1; must be of type bool"),
        ({"unique": 0}, "unique: got 0; must be of type bool"),
        ({"colour": "red"}, "unknown key"),
        ({"version": None}, "version"),
    ],
)
def test_bad_catalog_json(change, message, tmp_path):
    built().save(tmp_path / "catalog")
    path = tmp_path / "catalog" / "catalog.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        Catalog.load(tmp_path / "catalog")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebook_sizes": [4, 5]}, "codebook.*sizes"),
        ({"codebook_sizes": [4, 4, 4]}, "2 codes a row"),
        ({"levels": 3}, "levels"),
        ({"n_items": 41}, "n_items"),
        ({"fingerprint": "0" * 16}, "fingerprint"),
        ({"version": "0" * 12}, "version"),
        ({"attributes": True}, "attributes"),
        ({"extends": True}, "extends: got True; a catalog with a codebook"),
        ({"codebook_sizes": [10**9, 4]}, "codebook.*sizes"),
    ],
)
def test_catalog_json_that_disagrees_with_the_rest(change, message, tmp_path):
    built().save(tmp_path / "catalog")
    path = tmp_path / "catalog" / "catalog.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(MismatchError, match=message):
        Catalog.load(tmp_path / "catalog")


def test_files_of_another_catalog(tmp_path):
    catalog = built()
    catalog.save(tmp_path / "catalog")
    folder = tmp_path / "catalog"
    other = Codebook(tuple(level + 1 for level in catalog.codebook.centroids))
    other.save(folder / "codebook.safetensors")
    with pytest.raises(MismatchError, match="fingerprint"):
        Catalog.load(folder)
    (folder / "codebook.safetensors").unlink()
    with pytest.raises(MismatchError, match="fingerprint"):
        Catalog.load(folder)
    catalog.codebook.save(folder / "codebook.safetensors")
    pyarrow.parquet.write_table(catalog.items.slice(1), folder / "items.parquet")
    with pytest.raises(MismatchError, match="n_items"):
        Catalog.load(folder)
    twice = pa.concat_tables([catalog.items, catalog.items.slice(0, 1)])
    pyarrow.parquet.write_table(twice, folder / "items.parquet")
    with pytest.raises(InputError, match="stands more than once"):
        Catalog.load(folder)


def test_damaged_folders(tmp_path):
    for path, said in (
        (tmp_path, r"holds catalog\.json; this one is empty"),
        ("x" * 5000, "too long"),
        ("a\0b", "null"),
    ):
        with pytest.raises(InputError, match=said):
            Catalog.load(path)
    built().save(tmp_path / "catalog")
    folder = tmp_path / "catalog"
    for name in ("catalog.json", "items.parquet", "codebook.safetensors"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=name):
            Catalog.load(folder)
        (folder / name).write_bytes(whole)
    Catalog.load(folder)
    for text, message in (
        (b"[1]", "must hold an object"),
        (b"1", "must hold an object"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":1,"a":1}', "twice"),
        (b"\xff", "is no JSON"),
        (b"NaN", "is no JSON"),
        (b" " * 2**24, "at most"),
        (b"", "is no JSON"),
    ):
        (folder / "catalog.json").write_bytes(text)
        with pytest.raises(InputError, match=rf"catalog\.json.*{message}"):
            Catalog.load(folder)
    (folder / "catalog.json").unlink()
    built().save(folder, force=True)
    (folder / "items.parquet").unlink()
    with pytest.raises(InputError, match="no such file"):
        Catalog.load(folder)


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("item_id", pa.nulls(40), "null in row 1"),
        ("item_id", pa.array(["i"] * 40), "stands more than once"),
        ("codes", pa.array([[0]] * 40), "1 codes a row"),
        ("codes", pa.array([[0, 4]] * 40), "must be below"),
        ("codes", pa.array([None] * 40, pa.list_(pa.int32())), "null in row 1"),
        ("codes", pa.array([[0, None]] * 40), "null in row 2"),
        ("codes", pa.array([["a", "b"]] * 40), "lists of integers"),
        ("codes", pa.array([[0, 2**40]] * 40), "codes must be below"),
        ("title", pa.array([1] * 40), "must hold text"),
        ("sets", pa.array([1] * 40), "must hold lists of text"),
        ("live", pa.nulls(40), "must hold booleans"),
    ],
)
def test_a_damaged_item_table_is_refused(name, column, message, tmp_path):
    built().save(tmp_path / "c")
    items = built().items
    items = items.set_column(items.column_names.index(name), name, column)
    pyarrow.parquet.write_table(items, tmp_path / "c" / "items.parquet")
    with pytest.raises(InputError, match=message):
        Catalog.load(tmp_path / "c")


def test_more_named_sets_than_fit_are_refused_before_memory_is_asked_for(monkeypatch):
    monkeypatch.setattr("octorec.catalog.sets.BITS_BYTES", 4 * 8 * 2)
    names = [f"s{n}" for n in range(128)]
    assert make(sets=[names, [], [], []]).item_sets.shape == (4, 2)
    with pytest.raises(InputError, match="column sets: got '129 named sets of 4 items'; at most 128 of so many items"):
        make(sets=[[*names, "one more"], [], [], []])


def test_an_unknown_set_names_some_of_many():
    catalog = make(sets=[[f"s{n:03}" for n in range(500)], [], [], []])
    with pytest.raises(InputError, match=r"allowed: s000, .*s019 and 480 more$"):
        catalog.set_mask(["x"])


@pytest.mark.parametrize("name", CATALOG_FILES[:3])
def test_links_and_pipes_are_no_files_of_a_catalog(tmp_path, name):
    folder = tmp_path / "catalog"
    built().save(folder)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"{name}.*must be a regular file of its folder"):
        Catalog.load(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=rf"{name}.*must be a regular file of its folder"):
        Catalog.load(folder)


def test_a_catalog_in_the_hugging_face_cache_is_read(tmp_path):
    folder = tmp_path / "snapshots" / "0123" / "catalog"
    built().save(folder)
    (tmp_path / "blobs").mkdir()
    for path in list(folder.iterdir()):
        path.rename(tmp_path / "blobs" / path.name)
        path.symlink_to(f"../../../blobs/{path.name}")
    assert Catalog.load(folder).version == built().version


def test_a_failing_save_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Codebook, "save", full)
    with pytest.raises(OSError, match="disk full"):
        built().save(tmp_path / "catalog")
    assert list(tmp_path.iterdir()) == []
