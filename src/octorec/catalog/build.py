"""Make a catalog from interactions and items, and new versions of it: items added, withdrawn, restored."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook, check_sizes
from octorec.catalog.columns import with_defaults
from octorec.catalog.counts import with_counts
from octorec.catalog.kmeans import ITERATIONS
from octorec.catalog.residual_kmeans import fit_codebook
from octorec.catalog.unique_codes import assign_unique
from octorec.catalog.vectors import id_vectors, item_rows, item_vectors, predicted_vectors
from octorec.data.interactions import Interactions
from octorec.data.items import check_items, matrix
from octorec.data.learned import learned_from
from octorec.data.splits import training_part
from octorec.data.tables import id_rank
from octorec.errors import InputError
from octorec.progress import Progress, part, silent
from octorec.settings import SEED


def build_catalog(
    interactions: Interactions | None,
    items: pa.Table | None,
    codebook_sizes: Sequence[int],
    seed: int = SEED,
    unique: bool = False,
    progress: Progress = silent,
    hold_out: int = 0,
) -> Catalog:
    """Give every item a semantic ID by residual k-means over its vector (see `catalog.vectors`).

    interactions: may be None where the items have a `vector` column. items: item_id and any of title, sets, vector,
    live; None: the items met, without more. unique: no two items share a tuple. progress: called before each step.

    hold_out: newest interactions of each user that nothing is learned from, so that a model may be judged on them; 0
    where `interactions` is a training part already. No held-out interaction changes the codes of an item met in the
    others. An item that none of them meets gets its codes from its attributes, or from its id where it has none.
    """
    check_sizes(codebook_sizes)
    check_seed(seed)
    learned = None if interactions is None else training_part(interactions, hold_out)
    later: list[str] = []
    if items is None:
        items = _items_met(learned)
        later = _met_later(interactions, items)
    else:
        items = check_items(items)
        if interactions is not None:
            item_rows(interactions, items)
    _refuse_codes(items)
    steps = len(codebook_sizes) * ITERATIONS + 2
    progress(0, steps, "item vectors")
    items = with_defaults(items)
    vectors, attribute_map, known = item_vectors(learned, items, seed)
    codebook = fit_codebook(vectors[known], codebook_sizes, seed, part(progress, 1, steps))
    progress(steps - 1, steps, "codes and trie")
    given = "vector" in items.column_names
    items = _with_codes(items, codes_of(codebook, vectors, unique))
    if later:
        codes = codes_of(codebook, id_vectors(later, codebook.width), unique, matrix(items["codes"]))
        items = pa.concat_tables([items, _with_codes(with_defaults(pa.table({"item_id": later})), codes)])
    if learned is not None:
        items = with_counts(items, learned)
    record = None if given or learned is None else learned_from(learned)
    return Catalog.of_items(items, codebook.sizes, codebook, attribute_map, given, unique, record)


def check_seed(seed: int) -> None:
    """Raise InputError unless the seed is one that every generator here takes."""
    if not 0 <= seed < 2**32:
        raise InputError("seed", seed, "must be an integer from 0 to 2^32 - 1")


def assign(catalog: Catalog, new_items: pa.Table) -> Catalog:
    """Return a new version of `catalog` with `new_items` added: same codebook, same fingerprint, no
    code of an old item moves.

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
            "its codes came from elsewhere: upsert items with codes, or import an index with this catalog as --base",
        )
    new_items = with_defaults(new_items, counted=catalog.interactions is not None)
    codes = codes_of(catalog.codebook, new_vectors(catalog, new_items), catalog.unique, catalog.codes)
    columns = catalog.items.column_names
    items = pa.concat_tables([catalog.items, _with_codes(new_items, codes).select(columns)])
    about = catalog.codebook, catalog.attribute_map, catalog.given_vectors, catalog.unique, catalog.learned
    return Catalog.of_items(items, catalog.codebook_sizes, *about)


def withdraw(catalog: Catalog, item_ids: Iterable[str], field: str = "item_id") -> Catalog:
    """Return a new version in which these items are never recommended; they stay known in histories."""
    return _with_live(catalog, item_ids, False, field)


def restore(catalog: Catalog, item_ids: Iterable[str], field: str = "item_id") -> Catalog:
    """Return a new version in which these items, withdrawn before, may be recommended again."""
    return _with_live(catalog, item_ids, True, field)


def _with_live(catalog: Catalog, item_ids: Iterable[str], value: bool, field: str) -> Catalog:
    live = catalog.live.copy()
    live[catalog.places_of(item_ids, field)] = value
    if np.array_equal(live, catalog.live):
        return catalog
    column = catalog.items.column_names.index("live")
    items = catalog.items.set_column(column, "live", pa.array(live))
    return replace(catalog, items=items, trie=catalog.trie.with_live(live, catalog.item_sets))


def _items_met(interactions: Interactions | None) -> pa.Table:
    if interactions is None:
        raise InputError("items", None, "needed where there are no interactions")
    return pa.table({"item_id": pc.unique(interactions.table["item_id"])})


def _met_later(interactions: Interactions | None, items: pa.Table) -> list[str]:
    """Return the ids, in order, that `interactions` meet and `items` lacks."""
    assert interactions is not None
    ids = pc.unique(interactions.table["item_id"])
    ids = ids.filter(pc.invert(pc.is_in(ids, pc.unique(items["item_id"]))))
    return ids.take(np.argsort(id_rank(ids))).to_pylist()


def codes_of(codebook: Codebook, vectors: np.ndarray, unique: bool, taken: np.ndarray | None = None) -> np.ndarray:
    """Return the codes [n, L] of `vectors`; unique: all different, and none of `taken` [m, L]."""
    return assign_unique(codebook, vectors, taken) if unique else codebook.assign(vectors)


def _refuse_codes(items: pa.Table) -> None:
    if "codes" in items.column_names:
        allowed = "the codebook gives the codes: leave the column out, or import codes from an index file"
        raise InputError("items: columns", "codes", allowed)


def new_vectors(catalog: Catalog, new_items: pa.Table, source: str = "items") -> np.ndarray:
    """Return vectors [m, D] of new items under the catalog's codebook: their own, or predicted from title and sets.

    source: the name of the table in errors.
    """
    if "vector" not in new_items.column_names:
        return predicted_vectors(catalog.attribute_map, new_items, not catalog.given_vectors, source)
    where = f"{source}: column vector"
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
