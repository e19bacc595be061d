"""A catalog in files that several processes map: it is in memory once, however many read it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook
from octorec.catalog.ids import IdHashes
from octorec.catalog.trie import Trie, TrieLevel

ABOUT = "about.json"
TEXTS = {"item_ids": "item_id", "titles": "title"}  # columns that answers name
ARRAYS = ("live", "item_leaf", "interactions", "popular_order")  # None where the catalog has none
OPTIONAL_OF_LEVEL = "child_sets"


class Texts(Sequence[str]):
    """Texts are a column of texts, each made when it is asked for. ends [n + 1] int64: where each begins in `data`."""

    def __init__(self, ends: np.ndarray, data: np.ndarray):
        self._ends, self._data = ends.data, data.data

    def __len__(self) -> int:
        return len(self._ends) - 1

    def column(self) -> pa.LargeStringArray:
        """Return them as a column of Arrow, in the same memory."""
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(self._ends), pa.py_buffer(self._data))

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        if at < 0:
            at += len(self)
        return str(self._data[self._ends[at] : self._ends[at + 1]], "utf-8")


def write(catalog: Catalog, folder: Path) -> None:
    """Write what requests and answers need of a catalog to a new folder. `write_hashes` is to follow."""
    folder.mkdir()
    for name, column in TEXTS.items():
        ends, data = _texts(catalog.items[column])
        _save(folder, f"{name}.ends", ends)
        _save(folder, f"{name}.data", data)
    for name in ARRAYS:
        _save(folder, name, getattr(catalog, name))
    _save(folder, "codes", catalog.codes)
    _save(folder, "item_sets", catalog.item_sets)
    _save(folder, "leaf_items", catalog.trie.leaf_items)
    for number, level in enumerate(catalog.trie.levels):
        for field in TrieLevel._fields:
            _save(folder, f"level{number}.{field}", getattr(level, field))
    if catalog.codebook is not None:
        for number, centroids in enumerate(catalog.codebook.centroids):
            _save(folder, f"level{number}.centroids", centroids)
    about: dict[str, Any] = {"sizes": catalog.codebook_sizes, "fingerprint": catalog.fingerprint}
    about |= {"sets": catalog.set_names, "version": catalog.version, "n_interactions": catalog.n_interactions}
    (folder / ABOUT).write_text(json.dumps(about))


def write_hashes(folder: str) -> None:
    """Write the hashes of a folder's ids, as processes with this one's PYTHONHASHSEED look them up."""
    here = Path(folder)
    hashes = IdHashes.of([*_load_texts(here, "item_ids")])
    _save(here, "hashes", hashes.hashes)
    _save(here, "places", hashes.places)
    (here / "span.json").write_text(json.dumps(hashes.span))


def open_mapped(folder: Path) -> Catalog:
    """Return the catalog that `write` wrote; its arrays are mapped, and stay so when the folder is gone."""
    about = json.loads((folder / ABOUT).read_text())
    sizes = tuple(about["sizes"])
    levels = tuple(
        TrieLevel(*(_load(folder, f"level{number}.{field}") for field in TrieLevel._fields))
        for number in range(len(sizes))
    )
    trie = Trie(levels, _load(folder, "leaf_items"))
    parts = sizes, about["fingerprint"], tuple(about["sets"]), _load(folder, "item_sets"), trie
    centroids = tuple(_load(folder, f"level{number}.centroids") for number in range(len(sizes)))
    codebook = None if centroids[0] is None else Codebook(centroids)
    catalog = Catalog(pa.table({}), _load(folder, "codes"), *parts, codebook)
    span = json.loads((folder / "span.json").read_text())
    known = {name: _load(folder, name) for name in ARRAYS} | {name: _load_texts(folder, name) for name in TEXTS}
    known |= {"title_column": known["titles"].column()}
    known |= {"version": about["version"], "n_interactions": about["n_interactions"]}
    known |= {"id_hashes": IdHashes(_load(folder, "hashes"), _load(folder, "places"), span)}
    vars(catalog).update(known)  # what the catalog would make of its table
    assert catalog.places([catalog.item_ids[0]])[0] == 0, "the hashes are of another PYTHONHASHSEED"
    return catalog


def _texts(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each text ends [n + 1] int64, and the bytes of all of them."""
    array = pa.concat_arrays(column.cast(pa.large_string()).chunks)
    _, ends, data = array.buffers()
    ends = np.frombuffer(ends, np.int64)[array.offset : array.offset + len(array) + 1]
    return ends - ends[0], np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]


def _save(folder: Path, name: str, array: np.ndarray | None) -> None:
    if array is not None:
        np.save(folder / f"{name}.npy", array)


def _load(folder: Path, name: str) -> Any:
    """Return a mapped array, None where it was None; a plain one, as NumPy's own of mapped memory is slow to index."""
    path = folder / f"{name}.npy"
    if not path.exists():
        return None
    found = np.load(path, mmap_mode="r")
    return np.asarray(found) if found.size else np.array(found)


def _load_texts(folder: Path, name: str) -> Texts:
    return Texts(_load(folder, f"{name}.ends"), _load(folder, f"{name}.data"))
