"""Vectors that users bring: files read, checked against their ids, and never trusted."""

import contextlib
import json
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.data.embeddings import read_embeddings, with_embeddings
from octorec.data.items import matrix
from octorec.errors import InputError

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
IDS = ["b", "a", "007", "7"]


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "ids.txt").write_text("\n".join(IDS) + "\n")
    return tmp_path / "v.npy", tmp_path / "ids.txt"


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8", "fortran"])
def test_numbers_of_any_width_become_float32(kind, files):
    np.save(files[0], np.asfortranarray(VECTORS) if kind == "fortran" else VECTORS.astype(kind))
    read = read_embeddings(*files)
    assert read["item_id"].to_pylist() == IDS
    np.testing.assert_array_equal(matrix(read["vector"]), VECTORS)
    assert read.schema.field("vector").type == pa.list_(pa.float32())


def test_integers_are_taken(files):
    np.save(files[0], (VECTORS * 8).astype(np.int8))
    np.testing.assert_array_equal(matrix(read_embeddings(*files)["vector"]), VECTORS * 8)


def ids_file(folder, kind):
    path = folder / f"other.{kind}"
    if kind == "txt":
        path.write_bytes(b"\xef\xbb\xbfb\r\na\r\n007\r\n7")
    elif kind == "json":
        path.write_text(json.dumps(IDS))
    elif kind == "npy":
        np.save(path, np.array(IDS))
    elif kind == "csv":
        path.write_text("item_id,title\n" + "".join(f"{item},x\n" for item in IDS))
    else:
        pyarrow.parquet.write_table(pa.table({"item_id": IDS}), path)
    return path


@pytest.mark.parametrize("kind", ["txt", "json", "npy", "csv", "parquet"])
def test_ids_come_in_many_files(kind, files, tmp_path):
    assert read_embeddings(files[0], ids_file(tmp_path, kind))["item_id"].to_pylist() == IDS


@pytest.mark.parametrize("kind", ["<i8", ">u4"])
def test_integer_ids_are_their_digits(kind, files, tmp_path):
    np.save(tmp_path / "i.npy", np.array([3, 1, 2, 0], kind))
    (tmp_path / "i.json").write_text("[3, 1, 2, 0]")
    for name in ("i.npy", "i.json"):
        assert read_embeddings(files[0], tmp_path / name)["item_id"].to_pylist() == ["3", "1", "2", "0"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("b\na\nc\n", r"ids\.txt: got '3 ids'.*4 rows"),
        ("b\na\n\nc\n", r"ids\.txt: column item_id: got 'empty text in row 3'"),
        ("b\na\nb\nc\n", "stands more than once"),
        ("", "no ids"),
    ],
)
def test_ids_that_are_not_one_a_row_are_refused(ids, message, files):
    files[1].write_text(ids)
    with pytest.raises(InputError, match=message):
        read_embeddings(*files)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("i.json", b'{"a": 1}', "must be a JSON list"),
        ("i.json", b'["a", 1.5, "b", "c"]', r"place 2: got 1\.5"),
        ("i.json", b'["a", true, "b", "c"]', "place 2: got True"),
        ("i.json", b'["a", "\\ud800", "b", "c"]', "UTF-8"),
        ("i.json", b"[" * 100_000, "must be a JSON list"),
        ("i.json", b'["a"', "must be a JSON list"),
        ("i.txt", b"\xff\xfe", "must be UTF-8"),
        ("i.npy", b"\x93NUMPY", "i.npy"),
        ("i.pkl", b"x", r"got '\.pkl'.*must be \.txt"),
        ("noending", b"x", "no ending"),
    ],
)
def test_foreign_files_of_ids_are_refused(name, content, message, files, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_embeddings(files[0], tmp_path / name)


def bfloat16():
    return (VECTORS.view(np.uint32) >> 16).astype(np.uint16).view("V2")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (VECTORS[0], r"float32 \[3\]"),
        (VECTORS[None], r"float32 \[1, 4, 3\]"),
        (VECTORS[:, :0], r"v\.npy"),
        (VECTORS[:0], r"v\.npy"),
        (VECTORS.astype(complex), "complex"),
        (VECTORS > 0, "bool"),
        (VECTORS.astype(str), "<U"),
        (bfloat16(), "perhaps bfloat16.*float32"),
        (np.zeros((4, 3), [("a", "<f4")]), r"v\.npy"),
    ],
)
def test_arrays_that_are_no_vectors_are_refused(array, message, files):
    np.save(files[0], array)
    with pytest.raises(InputError, match=message):
        read_embeddings(*files)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39, -1e300])
def test_numbers_that_are_not_finite_are_named(value, files):
    array = VECTORS.astype(np.float64)
    array[1:3, 2] = value
    np.save(files[0], array)
    with pytest.raises(InputError, match=r"v\.npy: got '.* in row 2 \(item a\) and 1 more"):
        read_embeddings(*files)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_nothing_is_unpickled(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = np.array([Bomb(), Bomb()], dtype=object)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Bomb()))
    np.savez(tmp_path / "z.npz", VECTORS)
    for name in ("objects.npy", "p.npy", "z.npz"):
        with pytest.raises(InputError, match=name):
            read_embeddings(tmp_path / name, files[1])
    for name in ("objects.npy", "p.npy"):
        with pytest.raises(InputError, match=name):
            read_embeddings(files[0], tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_a_pipe_a_folder_and_nothing_are_refused(files, tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.npy").mkdir()
    for vectors in ("pipe.npy", "folder.npy", "none.npy"):
        with pytest.raises(InputError, match="file"):
            read_embeddings(tmp_path / vectors, files[1])
    with pytest.raises(InputError, match="no regular file"):
        read_embeddings(files[0], tmp_path / "pipe.txt")


def test_damaged_files_are_refused_by_name(files):
    whole = files[0].read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole[: rng.integers(0, len(whole) + 1)])
        for at in rng.integers(0, 128, rng.integers(0, 4)):
            if at < len(content):
                content[at] = rng.integers(256)
        files[0].write_bytes(content)
        with contextlib.suppress(InputError):
            assert read_embeddings(*files).num_rows == 4


def test_a_header_that_promises_more_than_the_file_has_costs_nothing(files):
    for shape in ((2**40, 64), (2**70, 2), (-1, 3)):
        head = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
        files[0].write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
        with pytest.raises(InputError, match=r"v\.npy"):
            read_embeddings(*files)


def test_items_and_vectors_are_joined_by_id(files):
    items = pa.table({"item_id": ["7", "a", "b", "007"], "title": ["seven", "A", "B", "agent"]})
    joined = with_embeddings(items, read_embeddings(*files))
    assert joined["title"].to_pylist() == ["seven", "A", "B", "agent"]
    np.testing.assert_array_equal(matrix(joined["vector"]), VECTORS[[3, 1, 0, 2]])
    assert with_embeddings(None, read_embeddings(*files))["item_id"].to_pylist() == IDS


def test_what_has_no_partner_is_named_and_counted(files):
    embeddings = read_embeddings(*files)
    with pytest.raises(InputError, match="2 items without a vector: x, y"):
        with_embeddings(pa.table({"item_id": ["x", *IDS, "y"]}), embeddings)
    with pytest.raises(InputError, match=r"2 ids that the items lack: b, 007.*leave --items out"):
        with_embeddings(pa.table({"item_id": ["a", "7"]}), embeddings)
    with pytest.raises(InputError, match="columns: got 'vector'"):
        with_embeddings(pa.table({"item_id": IDS, "vector": VECTORS.tolist()}), embeddings)
