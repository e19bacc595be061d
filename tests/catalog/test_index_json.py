"""The community's index files."""

import json

import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.build import assign, build_catalog, restore, withdraw
from octorec.catalog.catalog import Catalog
from octorec.catalog.index_json import read_index
from octorec.catalog.same_codebook import difference
from octorec.errors import InputError, MismatchError

INDEX = {"0": ["<a_3>", "<b_1>", "<c_0>"], "10": ["<a_0>", "<b_7>", "<c_2>"], "2": ["<a_0>", "<b_7>", "<c_2>"]}


def write(folder, content):
    path = folder / "Toys.index.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_codes_sizes_and_order(tmp_path):
    catalog = read_index(write(tmp_path, INDEX))
    assert catalog.codebook_sizes == (4, 8, 3)
    assert catalog.item_ids == ["2", "10", "0"]
    assert catalog.codes.tolist() == [[0, 7, 2], [0, 7, 2], [3, 1, 0]]
    assert catalog.codebook is None
    catalog.save(tmp_path / "catalog")
    assert Catalog.load(tmp_path / "catalog").fingerprint == catalog.fingerprint


def test_given_sizes_and_the_fingerprint(tmp_path):
    path = write(tmp_path, INDEX)
    catalog = read_index(path, codebook_sizes=(256, 256, 256))
    assert catalog.codebook_sizes == (256, 256, 256)
    assert catalog.fingerprint != read_index(path).fingerprint
    moved = {**INDEX, "0": ["<a_3>", "<b_1>", "<c_1>"]}
    assert read_index(write(tmp_path, moved), codebook_sizes=(256, 256, 256)).fingerprint != catalog.fingerprint


def test_items_bring_titles_and_sets(tmp_path):
    items = pa.table(
        {"item_id": ["2", "5", "0", "10"], "title": ["two", "five", "nil", "ten"], "sets": [["x"], [], ["y"], []]}
    )
    catalog = read_index(write(tmp_path, INDEX), items)
    assert catalog.titles == ["two", "ten", "nil"]
    assert catalog.sets == [["x"], [], ["y"]]
    with pytest.raises(InputError, match="2 items of the index are missing: 10, 2"):
        read_index(write(tmp_path, INDEX), items.slice(2, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "readable JSON"),
        ("[" * 100_000, "readable JSON"),
        ("[]", "got 'list'"),
        ('{"\\ud800": ["<a_0>"]}', "must be UTF-8 text"),
        ("{}", "must be"),
        ('{"1": ["<a_0>"], "1": ["<a_1>"]}', "item 1: got 'stands more than once'"),
        ({"1": ["<a_1>", "<b_1>"], "2": ["<a_1>"]}, "item 2.*must have 2 codes"),
        ({"1": "<a_1>"}, "item 1: got '<a_1>'"),
        ({"1": []}, "item 1"),
        ({"1": ["<a_1>", "<c_1>"]}, "item 1: got '<c_1>'"),
        ({"1": ["<a_-1>"]}, "item 1: got '<a_-1>'"),
        ({"1": ["a_1"]}, "item 1: got 'a_1'"),
        ({"1": ["<a_1> "]}, "item 1"),
        ({"1": [1, 2]}, "item 1: got 1"),
        ({"": ["<a_1>"]}, "empty text"),
        ({"1": ["<a_\u0663>"]}, "item 1"),  # a digit of another script
        ({"1": ["<a_9999999999>"]}, "item 1"),
        ({"1": [f"<{chr(97 + level)}_0>" for level in range(30)]}, "item 1: got '<{_0>'"),
        ({"1": [["<a_1>"]]}, "item 1"),
        ({"1": None}, "item 1: got None"),
        ('{"a":' * 100_000, "readable JSON"),
        ("null", "got 'NoneType'"),
    ],
)
def test_malformed_files(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_index(write(tmp_path, content))


def test_sizes_that_do_not_fit(tmp_path):
    with pytest.raises(InputError, match="must be below"):
        read_index(write(tmp_path, INDEX), codebook_sizes=(4, 7, 3))
    with pytest.raises(MismatchError, match="3 codes a row"):
        read_index(write(tmp_path, INDEX), codebook_sizes=(4, 8))


def test_files_that_are_too_large_or_no_text(tmp_path, monkeypatch):
    path = write(tmp_path, INDEX)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="cannot be read"):
        read_index(path)
    write(tmp_path, INDEX)
    monkeypatch.setattr("octorec.catalog.index_json.MOST_BYTES", 20)
    with pytest.raises(InputError, match="bytes; at most 20"):
        read_index(path)


def grown(count, first=0):
    """`count` items from number `first` on, each with the codes that its number says."""
    return {str(n): [f"<a_{n % 5}>", f"<b_{n % 7}>"] for n in range(first, first + count)}


def test_the_next_index_has_the_fingerprint_of_its_base(tmp_path):
    items = pa.table({"item_id": list(grown(20)), "title": ["old"] * 20, "sets": [["x"]] * 20})
    base = withdraw(read_index(write(tmp_path, grown(20)), items, (8, 8)), ["7"])
    following = read_index(write(tmp_path, grown(20, first=5)), base=base)
    assert (following.fingerprint, following.codebook_sizes) == (base.fingerprint, (8, 8))
    assert following.version != base.version
    assert {following.titles[following.index_of(n)] for n in (5, 19)} == {"old"}
    assert following.titles[following.index_of(24)] == ""
    assert following.sets[following.index_of(24)] == []
    assert [item for item in following.item_ids if not following.live[following.index_of(item)]] == ["7"]
    following.save(tmp_path / "following")
    loaded = Catalog.load(tmp_path / "following")
    assert (loaded.fingerprint, loaded.version, loaded.extends) == (base.fingerprint, following.version, True)
    third = read_index(write(tmp_path, grown(20, first=15)), base=loaded)  # none of the first ten is left
    assert restore(withdraw(third, ["15"]), ["15"]).fingerprint == base.fingerprint


def test_an_index_of_another_codebook_is_no_version_of_the_base(tmp_path):
    base = read_index(write(tmp_path, grown(20)), codebook_sizes=(8, 8))
    moved = {**grown(20), "3": ["<a_0>", "<b_0>"], "4": ["<a_0>", "<b_0>"]}
    with pytest.raises(MismatchError, match=r"item '3' \(and 1 more\) has the codes \[0, 0\] in it, and had \[3, 3\]"):
        read_index(write(tmp_path, moved), base=base)
    with pytest.raises(MismatchError, match="only 9 of its items were known, and at least 10"):
        read_index(write(tmp_path, grown(20, first=11)), base=base)
    with pytest.raises(MismatchError, match=r"its codebook_sizes are \(8, 9\), not \(8, 8\)"):
        read_index(write(tmp_path, grown(20)), codebook_sizes=(8, 9), base=base)
    with pytest.raises(InputError, match="must be below"):
        read_index(write(tmp_path, {**grown(20), "new": ["<a_8>", "<b_0>"]}), base=base)


def test_a_small_catalog_may_keep_half_of_its_items(tmp_path):
    base = read_index(write(tmp_path, grown(4)), codebook_sizes=(8, 8))
    assert difference(read_index(write(tmp_path, grown(4, first=2)), codebook_sizes=(8, 8)), base) is None
    assert difference(read_index(write(tmp_path, grown(1, first=3)), codebook_sizes=(8, 8)), base) is None
    why = difference(read_index(write(tmp_path, grown(4, first=3)), codebook_sizes=(8, 8)), base)
    assert why == "only 1 of its items were known, and at least 2 with the codes they had are needed"


def test_a_base_with_a_codebook_gets_its_items_otherwise(tmp_path):
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    items = pa.table({"item_id": ["0", "1", "2", "3"], "vector": list(vectors)})
    base = build_catalog(None, items, (2, 2))
    with pytest.raises(InputError, match="catalog assign"):
        read_index(write(tmp_path, grown(4)), base=base)
    imported = read_index(write(tmp_path, grown(4)))
    with pytest.raises(InputError, match="with this catalog as --base"):
        assign(imported, pa.table({"item_id": ["9"], "title": ["nine"]}))


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_index(tmp_path / "none.index.json")
