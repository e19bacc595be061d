"""The catalog: every item's semantic ID, title and named sets, and the trie of them all.

On disk a folder: `catalog.json`, `items.parquet` (item_id, title, codes, sets, live, interactions, in code order),
`codebook.safetensors` (not where the codes came from elsewhere) and `attributes.parquet` (where items have attributes).
Letters: n items, L levels, words = ceil(named sets / 64).
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from octorec.catalog.about import FORMAT_VERSION, read_about
from octorec.catalog.attributes import AttributeMap
from octorec.catalog.codebook import Codebook, check_sizes, digest
from octorec.catalog.sets import distinct_sets, set_bits
from octorec.catalog.trie import Trie, build_trie, code_order
from octorec.data.items import matrix, read_items
from octorec.data.learned import Learned
from octorec.data.tables import id_rank, one_array
from octorec.errors import InputError, MismatchError
from octorec.files import is_own_file
from octorec.output.write import new_folder

FILES = ("catalog.json", "items.parquet", "codebook.safetensors", "attributes.parquet")  # of a catalog's folder
ROWS = 4096  # read in about a millisecond
COLUMNS = ["item_id", "title", "codes", "sets", "live"]
COUNTS = "interactions"  # the column that a catalog has where it was built from interactions
NAMES_SHOWN = 20  # of named sets, in an error


@dataclass(frozen=True, eq=False)
class Catalog:
    """Items in code order: by code tuple, those of one tuple by id. Make one with `of_items`, `build_catalog`, `load`.

    items: item_id string, title string, codes list<int32>, sets list<string>, live bool, and maybe
    interactions int64 (how often the item was met); one chunk a column.
    codes [n, L] int32. set_names: bit s of the words is set_names[s]. item_sets [n, words] int64, None without sets.
    codebook: None where the codes came from elsewhere. attribute_map: None where no item has attributes.
    given_vectors: whether the codebook is over vectors that the item table brought. unique: no tuple has two items.
    learned: which interactions the codebook is over; None where that is not known, or where they were given as vectors.
    extends: an imported catalog whose fingerprint is that of the catalog before it (see `catalog.index_json`).
    """

    items: pa.Table
    codes: np.ndarray
    codebook_sizes: tuple[int, ...]
    fingerprint: str
    set_names: tuple[str, ...]
    item_sets: np.ndarray | None
    trie: Trie
    codebook: Codebook | None = None
    attribute_map: AttributeMap | None = None
    given_vectors: bool = False
    unique: bool = False
    learned: Learned | None = None
    extends: bool = False

    @classmethod
    def of_items(
        cls,
        items: pa.Table,
        codebook_sizes: Sequence[int],
        codebook: Codebook | None = None,
        attribute_map: AttributeMap | None = None,
        given_vectors: bool = False,
        unique: bool = False,
        learned: Learned | None = None,
    ) -> "Catalog":
        """A catalog of a checked item table (`data.items.check_items`) with codes, in any order.

        title is "", sets are none and live is true where the table lacks the column.
        """
        sizes = tuple(codebook_sizes)
        _check_codes(items, sizes)
        counts = [COUNTS] if COUNTS in items.column_names else []
        items = with_defaults(items).select(COLUMNS + counts)
        codes = matrix(items["codes"])
        order = code_order(codes, sizes, id_rank(one_array(items["item_id"])))
        items, codes = items.take(order).combine_chunks(), codes[order]
        names = distinct_sets(items["sets"])
        bits = set_bits(items["sets"], names)
        trie = build_trie(codes, sizes, np.asarray(items["live"]), bits)
        fingerprint = codebook.fingerprint if codebook else digest(sizes, codes, _as_json(items["item_id"]))
        about = codebook, attribute_map, given_vectors, unique, learned
        return cls(items, codes, sizes, fingerprint, names, bits, trie, *about)

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def version(self) -> str:
        """12 hexadecimal digits that change with any item's id, title, codes, sets, being live or interactions."""
        names = [name for name in self.items.column_names if name != "codes"]
        columns = [_as_json(self.items[name]) for name in names]
        return digest(self.codebook_sizes, self.codes, *columns)[:12]

    @cached_property
    def item_ids(self) -> list[str]:
        return _values(self.items["item_id"])

    @cached_property
    def titles(self) -> list[str]:
        """Each item's title, "" where there is none."""
        return _values(self.items["title"])

    @cached_property
    def sets(self) -> list[list[str]]:
        """Each item's named sets."""
        return _values(self.items["sets"])

    @cached_property
    def live(self) -> np.ndarray:
        """[n] bool: False for a withdrawn item."""
        return np.asarray(self.items["live"])

    @cached_property
    def interactions(self) -> np.ndarray | None:
        """[n] int64: how often each item was met in what the catalog was built from; None where that is not known."""
        return np.asarray(self.items[COUNTS]) if COUNTS in self.items.column_names else None

    @cached_property
    def n_interactions(self) -> int:
        """The sum of `interactions`."""
        return 0 if self.interactions is None else int(self.interactions.sum())

    @cached_property
    def popular_order(self) -> np.ndarray | None:
        """[n] int64: all places by `interactions`, the most first, equal ones in code order; None without counts."""
        return None if self.interactions is None else np.argsort(-self.interactions, kind="stable")

    @cached_property
    def index(self) -> dict[str, int]:
        """Item id -> its place in code order."""
        return {item_id: place for place, item_id in enumerate(self.item_ids)}

    @cached_property
    def id_hashes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every item id's 64-bit hash, ascending, the place of each, and where the hashes of each bucket begin.

        hashes and places [n + 1] int64, the last a bound that no search passes and -1. first [buckets] int32: a bucket
        is what a hash's first bits say, and holds 1 to 2 hashes on average.
        """
        hashes = _hashes(self.item_ids)
        order = np.argsort(hashes)
        hashes = hashes[order]
        if (hashes[1:] == hashes[:-1]).any():  # once in n^2 / 2^65 processes
            raise RuntimeError("two item ids have one hash in this process: start it with another PYTHONHASHSEED")
        buckets = 1 << max(1, len(hashes).bit_length() - 1)
        first = _bucket(hashes, buckets).searchsorted(np.arange(buckets)).astype(np.int32)
        return np.append(hashes, np.iinfo(np.int64).max), np.append(order, -1), first

    def places(self, item_ids: Sequence[str]) -> np.ndarray:
        """[m] int64: the place of each id, -1 where the catalog lacks it.

        Found by Python's keyed hash alone: a dictionary of a million ids waits for memory four times an id, and a
        binary search once a step. An unknown id is taken for one of n items with a chance of n / 2^64, 5e-14 for a
        million.
        """
        hashes, places, first = self.id_hashes
        wanted = _hashes(item_ids)
        at = first.take(_bucket(wanted, len(first)))
        found = hashes.take(at)
        while (before := found < wanted).any():
            at = at + before
            found = hashes.take(at)
        return np.where(found == wanted, places.take(at), -1)

    @cached_property
    def item_leaf(self) -> np.ndarray:
        """[n] int32: the trie's leaf of each item."""
        counts = np.diff(self.trie.leaf_items)
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    def index_of(self, item_id: str | int, field: str = "item_id") -> int:
        """An item's place in code order; an unknown id is an InputError about `field`."""
        place = self.index.get(str(item_id))
        if place is None:
            allowed = f"must be one of the catalog's {len(self)} items, such as {self.item_ids[0]!r}"
            raise InputError(field, item_id, allowed)
        return place

    def places_of(self, item_ids: Iterable[str], field: str) -> list[int]:
        """Each item's place in code order; ids that the catalog lacks are an InputError about `field`."""
        ids = list(item_ids)
        unknown = [item_id for item_id in ids if item_id not in self.index]
        if len(unknown) > 1:
            found = f"{len(unknown)} unknown items: {', '.join(item_id[:40] for item_id in unknown[:5])}"
            raise InputError(field, found, f"must be of the catalog's {len(self)} items")
        return [self.index_of(item_id, field) for item_id in ids]

    def set_mask(self, names: Iterable[str], field: str = "allow") -> np.ndarray:
        """[words] int64 with the bits of the named sets; an unknown name is an InputError about `field`."""
        bits = np.zeros(max(1, -(-len(self.set_names) // 64)), np.uint64)
        for name in names:
            if name not in self.set_bit:
                some = ", ".join(self.set_names[:NAMES_SHOWN]) or "nothing: no item has sets"
                more = f" and {len(self.set_names) - NAMES_SHOWN} more" if len(self.set_names) > NAMES_SHOWN else ""
                raise InputError(field, name, f"allowed: {some}{more}")
            bits[self.set_bit[name] // 64] |= np.uint64(1 << self.set_bit[name] % 64)
        return bits.view(np.int64)

    @cached_property
    def set_bit(self) -> dict[str, int]:
        """Named set -> its bit."""
        return {name: bit for bit, name in enumerate(self.set_names)}

    @property
    def n_sharing(self) -> int:
        """Items whose tuple another item has too."""
        counts = np.diff(self.trie.leaf_items)
        return int(counts[counts > 1].sum())

    def save(self, folder: str | Path, force: bool = False) -> None:
        """Write the catalog's folder; an existing one is an InputError unless `force`, which replaces it as a whole."""
        about = {
            "format_version": FORMAT_VERSION,
            "fingerprint": self.fingerprint,
            "codebook_sizes": self.codebook_sizes,
            "levels": len(self.codebook_sizes),
            "n_items": len(self),
            "version": self.version,
            "given_vectors": self.given_vectors,
            "unique": self.unique,
            "attributes": self.attribute_map is not None,
            "learned": self.learned and self.learned.to_dict(),
        }
        if self.extends:
            about["extends"] = True
        with new_folder(folder, force) as new:
            (new / "catalog.json").write_text(json.dumps(about, indent=1))
            pyarrow.parquet.write_table(self.items, new / "items.parquet")
            if self.codebook:
                self.codebook.save(new / "codebook.safetensors")
            if self.attribute_map:
                self.attribute_map.save(new / "attributes.parquet")

    @classmethod
    def load(cls, folder: str | Path) -> "Catalog":
        """Read what `save` wrote and check it: an InputError for a damaged or foreign folder, a MismatchError for files
        that do not belong together."""
        folder = Path(folder)
        for name in FILES:
            if os.path.lexists(folder / name) and not is_own_file(folder / name):
                raise InputError(str(folder / name), "a pipe or a link", "must be a regular file of its folder")
        about = read_about(folder)
        codebook = attribute_map = None
        if (folder / "codebook.safetensors").exists():
            codebook = Codebook.load(folder / "codebook.safetensors")
        if (folder / "attributes.parquet").exists():
            attribute_map = AttributeMap.load(folder / "attributes.parquet")
        items = read_items(folder / "items.parquet")
        record = about.get("learned")
        learned = None if record is None else Learned.from_dict(f"{folder / 'catalog.json'}: learned", record)
        flags = about["given_vectors"], about["unique"], learned
        catalog = cls.of_items(items, about["codebook_sizes"], codebook, attribute_map, *flags)
        if about.get("extends"):
            catalog = catalog.as_version_of(about["fingerprint"])
        _check_belonging(folder, about, catalog)
        return catalog

    def as_version_of(self, fingerprint: str) -> "Catalog":
        """This imported catalog with the fingerprint of the one before it."""
        return replace(self, fingerprint=fingerprint, extends=True)


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python values."""
    return [value for part in _parts(column) for value in part]


def _as_json(column: pa.ChunkedArray) -> bytes:
    """json.dumps of `_values`."""
    return f"[{', '.join(json.dumps(part)[1:-1] for part in _parts(column))}]".encode()


def _parts(column: pa.ChunkedArray) -> Iterator[list[Any]]:
    """Some rows at a time, so that other threads (a server's) go on while millions are read."""
    for start in range(0, len(column), ROWS):
        yield column.slice(start, ROWS).to_pylist()


def with_defaults(items: pa.Table, counted: bool = False) -> pa.Table:
    """`items` with the columns title, sets and live, filled with "", none and true where they are missing; counted: and
    with interactions, filled with 0."""
    n = items.num_rows
    defaults = {
        "title": pa.array([""] * n),
        "sets": pa.array([[]] * n, pa.list_(pa.string())),
        "live": pa.array(np.ones(n, bool)),
        **({COUNTS: pa.array(np.zeros(n, np.int64))} if counted else {}),
    }
    for name, column in defaults.items():
        if name not in items.column_names:
            items = items.append_column(name, column)
    return items


def _bucket(hashes: np.ndarray, buckets: int) -> np.ndarray:
    """Which of `buckets`, a power of two above 1, holds each hash [m] int64: as its first bits say, ascending."""
    bits = buckets.bit_length() - 1
    return (hashes >> (64 - bits)) + buckets // 2


def _hashes(item_ids: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(hash, item_ids), dtype=np.int64, count=len(item_ids))


def _check_codes(items: pa.Table, sizes: tuple[int, ...]) -> None:
    check_sizes(sizes)
    if items.num_rows == 0:
        raise InputError("items", "no rows", "a catalog needs at least one item")
    if "codes" not in items.column_names:
        raise InputError("items: columns", items.column_names, "column codes is missing")
    kind = items.schema.field("codes").type
    if not (pa.types.is_list(kind) and kind.value_type == pa.int32()):
        raise InputError("items: type of column codes", str(kind), "list<int32>, as data.items.check_items makes it")
    codes = matrix(items["codes"])
    if codes.shape[1] != len(sizes):
        raise MismatchError(
            "items: column codes", f"{codes.shape[1]} codes a row", f"codebook_sizes {sizes} needs {len(sizes)}"
        )
    outside = np.flatnonzero((codes >= np.array(sizes, np.int64)).any(1))
    if len(outside):
        raise InputError(
            f"items: column codes, row {outside[0] + 1}", codes[outside[0]].tolist(), f"must be below {sizes}"
        )


def _check_belonging(folder: Path, about: dict[str, Any], catalog: Catalog) -> None:
    codebook, attribute_map = catalog.codebook, catalog.attribute_map
    if catalog.extends and codebook:
        raise MismatchError(f"{folder}: extends", True, "a catalog with a codebook has the codebook's fingerprint")
    if codebook and codebook.sizes != catalog.codebook_sizes:
        allowed = f"catalog.json says {catalog.codebook_sizes}"
        raise MismatchError(f"{folder / 'codebook.safetensors'}: sizes", codebook.sizes, allowed)
    if attribute_map and not (codebook and len(attribute_map.bias) == codebook.width):
        allowed = "as wide as the codebook's centroids"
        raise MismatchError(f"{folder / 'attributes.parquet'}: width", len(attribute_map.bias), allowed)
    found: dict[str, Any] = {"levels": len(catalog.codebook_sizes), "n_items": len(catalog)}
    found |= {"fingerprint": catalog.fingerprint, "version": catalog.version, "attributes": attribute_map is not None}
    for key, value in found.items():
        if about[key] != value:
            raise MismatchError(
                f"{folder}: {key}", value, f"catalog.json says {about[key]!r}: copy the folder as a whole"
            )
