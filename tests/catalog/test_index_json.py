"""The community's index files."""

import json

import pyarrow as pa
import pytest

from octorec.catalog.catalog import Catalog
from octorec.catalog.index_json import read_index
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


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_index(tmp_path / "none.index.json")
