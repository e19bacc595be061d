"""A catalog holds every item's semantic ID, title and named sets, and the trie of them all.

`folder` is its form on disk.

Letters: n items, L levels, words = ceil(named sets / 64).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from octorec.catalog.attributes import AttributeMap
from octorec.catalog.codebook import Codebook, digest
from octorec.catalog.columns import COLUMNS, COUNTS, check_codes, with_defaults
from octorec.catalog.folder import check_belonging, read_folder, write_folder
from octorec.catalog.ids import IdHashes
from octorec.catalog.sets import distinct_sets, set_bits
from octorec.catalog.trie import Trie, build_trie, code_order
from octorec.catalog.values import as_json, values
from octorec.data.items import matrix
from octorec.data.learned import Learned
from octorec.data.tables import id_rank, one_array
from octorec.errors import InputError

NAMES_SHOWN = 20  # named sets that an error shows


@dataclass(frozen=True, eq=False)
class Catalog:
    """A Catalog holds items in code order: by code tuple, those of one tuple by id, or `as_given`.

    Make one with `of_items`, `build_catalog`, `load`.

    items: item_id string, title string, codes list<int32>, sets list<string>, live bool, and maybe
    interactions int64 (how often the item was met); one chunk a column.
    codes [n, L] int32. set_names: bit s of the words is set_names[s]. item_sets [n, words] int64, None without sets.
    codebook: None where the codes came from elsewhere. attribute_map: None where no item has attributes.
    given_vectors: whether the codebook is over vectors that the item table brought. unique: no tuple has two items.
    learned: which interactions the codebook is over; None where that is not known, or where they were given as vectors.
    as_given: items of one tuple lie in the order in which they were given, new ones last.
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
    as_given: bool = False
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
        as_given: bool = False,
    ) -> "Catalog":
        """Return a catalog of a checked item table (`data.items.check_items`) with codes, in any order.

        title is "", sets are none and live is true where the table lacks the column. as_given: items of one tuple keep
        the table's order, where they else go by id.
        """
        sizes = tuple(codebook_sizes)
        check_codes(items, sizes)
        counts = [COUNTS] if COUNTS in items.column_names else []
        items = with_defaults(items).select(COLUMNS + counts)
        codes = matrix(items["codes"])
        order = code_order(codes, sizes, None if as_given else id_rank(one_array(items["item_id"])))
        items, codes = items.take(order).combine_chunks(), codes[order]
        names = distinct_sets(items["sets"])
        bits = set_bits(items["sets"], names)
        trie = build_trie(codes, sizes, np.asarray(items["live"]), bits)
        fingerprint = codebook.fingerprint if codebook else digest(sizes, codes, as_json(items["item_id"]))
        about = codebook, attribute_map, given_vectors, unique, learned, as_given
        return cls(items, codes, sizes, fingerprint, names, bits, trie, *about)

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def version(self) -> str:
        """Return 12 hexadecimal digits that change with any item's id, title, codes, sets, being live
        or interactions.
        """
        names = [name for name in self.items.column_names if name != "codes"]
        columns = [as_json(self.items[name]) for name in names]
        return digest(self.codebook_sizes, self.codes, *columns)[:12]

    @cached_property
    def item_ids(self) -> list[str]:
        return values(self.items["item_id"])

    @cached_property
    def titles(self) -> list[str]:
        """Return each item's title, "" where there is none."""
        return values(self.items["title"])

    @cached_property
    def title_column(self) -> Any:
        """Return `titles` as a column of Arrow."""
        return one_array(self.items["title"])

    @cached_property
    def sets(self) -> list[list[str]]:
        """Return each item's named sets."""
        return values(self.items["sets"])

    @cached_property
    def live(self) -> np.ndarray:
        """Return [n] bool: False for a withdrawn item."""
        return np.asarray(self.items["live"])

    @cached_property
    def interactions(self) -> np.ndarray | None:
        """Return [n] int64: how often each item was met in what the catalog was built from; None where
        that is not known.
        """
        return np.asarray(self.items[COUNTS]) if COUNTS in self.items.column_names else None

    @cached_property
    def n_interactions(self) -> int:
        """Return the sum of `interactions`."""
        return 0 if self.interactions is None else int(self.interactions.sum())

    @cached_property
    def popular_order(self) -> np.ndarray | None:
        """Return [n] int64: all places by `interactions`, the most first, equal ones in code order;
        None without counts.
        """
        return None if self.interactions is None else np.argsort(-self.interactions, kind="stable")

    @cached_property
    def index(self) -> dict[str, int]:
        """Return the dictionary item id -> its place in code order."""
        return {item_id: place for place, item_id in enumerate(self.item_ids)}

    @cached_property
    def id_hashes(self) -> IdHashes:
        """Return the hashes in which `places` looks ids up."""
        return IdHashes.of(self.item_ids)

    def places(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return [m] int64: the place of each id, -1 where the catalog lacks it (`IdHashes.find`)."""
        return self.id_hashes.find(item_ids)

    @cached_property
    def item_leaf(self) -> np.ndarray:
        """Return [n] int32: the trie's leaf of each item."""
        counts = np.diff(self.trie.leaf_items)
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    def index_of(self, item_id: str | int, field: str = "item_id") -> int:
        """Return an item's place in code order; raise an InputError about `field` for an unknown id."""
        place = self.index.get(str(item_id))
        if place is None:
            allowed = f"must be one of the catalog's {len(self)} items, such as {self.item_ids[0]!r}"
            raise InputError(field, item_id, allowed)
        return place

    def places_of(self, item_ids: Iterable[str], field: str) -> list[int]:
        """Return each item's place in code order; raise an InputError about `field` for ids that the catalog lacks."""
        ids = list(item_ids)
        unknown = [item_id for item_id in ids if item_id not in self.index]
        if len(unknown) > 1:
            found = f"{len(unknown)} unknown items: {', '.join(item_id[:40] for item_id in unknown[:5])}"
            raise InputError(field, found, f"must be of the catalog's {len(self)} items")
        return [self.index_of(item_id, field) for item_id in ids]

    def set_mask(self, names: Iterable[str], field: str = "allow") -> np.ndarray:
        """Return [words] int64 with the bits of the named sets; raise an InputError about `field` for
        an unknown name.
        """
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
        """Return the dictionary named set -> its bit."""
        return {name: bit for bit, name in enumerate(self.set_names)}

    @property
    def n_sharing(self) -> int:
        """Return how many items have a tuple that another item has too."""
        counts = np.diff(self.trie.leaf_items)
        return int(counts[counts > 1].sum())

    def save(self, folder: str | Path, force: bool = False) -> None:
        """Write the catalog's folder; an existing one is an InputError unless `force`, which replaces it as a whole."""
        write_folder(folder, self._about(), self.items, self.codebook, self.attribute_map, force)

    @classmethod
    def load(cls, folder: str | Path) -> "Catalog":
        """Read what `save` wrote and check it: an InputError for a damaged or foreign folder, a MismatchError for files
        that do not belong together."""
        found = read_folder(folder)
        about = found.about
        flags = about["given_vectors"], about["unique"], found.learned, about.get("as_given", False)
        catalog = cls.of_items(found.items, about["codebook_sizes"], found.codebook, found.attribute_map, *flags)
        if about.get("extends"):
            catalog = catalog.as_version_of(about["fingerprint"])
        check_belonging(found, catalog._about())
        return catalog

    def _about(self) -> dict[str, Any]:
        """Return what catalog.json says of the catalog, except for the version of the format."""
        about = {
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
        flags = {"as_given": self.as_given, "extends": self.extends}
        return {**about, **{name: value for name, value in flags.items() if value}}

    def as_version_of(self, fingerprint: str) -> "Catalog":
        """Return this imported catalog with the fingerprint of the one before it."""
        return replace(self, fingerprint=fingerprint, extends=True)
