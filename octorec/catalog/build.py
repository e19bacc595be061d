"""Making a catalog from interactions and items, and new versions of it: items added, withdrawn, restored."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.catalog.catalog import Catalog, with_defaults
from octorec.catalog.codebook import Progress, fit_codebook
from octorec.catalog.vectors import item_vectors, predicted_vectors
from octorec.data.interactions import Interactions
from octorec.data.items import check_items, matrix
from octorec.errors import InputError


def build_catalog(
    interactions: Interactions | None,
    items: pa.Table | None,
    codebook_sizes: Sequence[int],
    seed: int = 0,
    unique: bool = False,
    progress: Progress | None = None,
) -> Catalog:
    """Give every item a semantic ID by residual k-means over its vector (see `catalog.vectors`).

    interactions: may be None where the items have a `vector` column. Give the training part alone where the catalog is
    to be judged on the rest. items: item_id and any of title, sets, vector, live; None: the items met, without more.
    unique: no two items share a tuple. progress(what begins, steps done, steps in all) is called before each step.
    """
    items = _items_met(interactions) if items is None else check_items(items)
    _refuse_codes(items)
    steps = len(codebook_sizes) + 2
    if progress:
        progress("item vectors", 0, steps)
    items = with_defaults(items)
    vectors, attribute_map = item_vectors(interactions, items, seed)
    codebook = fit_codebook(vectors, codebook_sizes, seed, _later(progress, 1, steps))
    if progress:
        progress("codes and trie", steps - 1, steps)
    codes = codebook.assign_unique(vectors) if unique else codebook.assign(vectors)
    given = "vector" in items.column_names
    return Catalog.of_items(_with_codes(items, codes), codebook.sizes, codebook, attribute_map, given, unique)


def assign(catalog: Catalog, new_items: pa.Table) -> Catalog:
    """A new version of `catalog` with `new_items` added: same codebook, same fingerprint, no code of an old item moves.

    Where the catalog was built from vectors that its items brought, a new item brings its own or has it predicted from
    title and sets; else it is always predicted. An id that the catalog has is an InputError, withdrawn or not.
    """
    new_items = check_items(new_items)
    _refuse_codes(new_items)
    known = [item_id for item_id in new_items["item_id"].to_pylist() if item_id in catalog.index]
    if known:
        found = f"{len(known)} items of the catalog: {', '.join(known[:5])}"
        raise InputError("items: column item_id", found, "new items only; `restore` brings a withdrawn one back")
    if catalog.codebook is None:
        raise InputError(
            "catalog",
            "no codebook",
            "its codes came from elsewhere: import an index with old and new items, with this catalog as --base",
        )
    new_items = with_defaults(new_items)
    vectors = _new_vectors(catalog, new_items)
    if catalog.unique:
        codes = catalog.codebook.assign_unique(vectors, catalog.codes)
    else:
        codes = catalog.codebook.assign(vectors)
    columns = catalog.items.column_names
    items = pa.concat_tables([catalog.items, _with_codes(new_items, codes).select(columns)])
    return Catalog.of_items(
        items, catalog.codebook_sizes, catalog.codebook, catalog.attribute_map, catalog.given_vectors, catalog.unique
    )


def withdraw(catalog: Catalog, item_ids: Iterable[str]) -> Catalog:
    """A new version in which these items are never recommended; they stay known in histories."""
    return _with_live(catalog, item_ids, False)


def restore(catalog: Catalog, item_ids: Iterable[str]) -> Catalog:
    """A new version in which these items, withdrawn before, may be recommended again."""
    return _with_live(catalog, item_ids, True)


def _with_live(catalog: Catalog, item_ids: Iterable[str], value: bool) -> Catalog:
    live = catalog.live.copy()
    live[[catalog.index_of(item_id) for item_id in item_ids]] = value
    column = catalog.items.column_names.index("live")
    items = catalog.items.set_column(column, "live", pa.array(live))
    return replace(catalog, items=items, trie=catalog.trie.with_live(live, catalog.item_sets))


def _items_met(interactions: Interactions | None) -> pa.Table:
    if interactions is None:
        raise InputError("items", None, "needed where there are no interactions")
    return pa.table({"item_id": pc.unique(interactions.table["item_id"])})


def _refuse_codes(items: pa.Table) -> None:
    if "codes" in items.column_names:
        allowed = "the codebook gives the codes: leave the column out, or import codes from an index file"
        raise InputError("items: columns", "codes", allowed)


def _new_vectors(catalog: Catalog, new_items: pa.Table) -> np.ndarray:
    if "vector" not in new_items.column_names:
        return predicted_vectors(catalog.attribute_map, new_items, unit=not catalog.given_vectors)
    where = "items: column vector"
    if not catalog.given_vectors:
        raise InputError(where, "vectors", "this catalog made its own from interactions: leave the column out")
    vectors = matrix(new_items["vector"])
    assert catalog.codebook is not None
    if vectors.shape[1] != catalog.codebook.width:
        raise InputError(
            where, f"width {vectors.shape[1]}", f"the catalog's vectors have width {catalog.codebook.width}"
        )
    return vectors


def _with_codes(items: pa.Table, codes: np.ndarray) -> pa.Table:
    offsets = np.arange(len(codes) + 1, dtype=np.int32) * codes.shape[1]
    return items.append_column("codes", pa.ListArray.from_arrays(offsets, codes.ravel()))


def _later(progress: Progress | None, done_before: int, steps: int) -> Progress | None:
    """`progress` for a part of the work."""
    if progress is None:
        return None
    return lambda what, done, _: progress(what, done_before + done, steps)
