"""Items are added to a catalog, or changed in it, under its codebook.

Letters: m items of the given table, n of the catalog, L levels, D vector width.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from octorec.catalog.build import codes_of, new_vectors
from octorec.catalog.catalog import Catalog
from octorec.catalog.columns import COUNTS
from octorec.data.items import check_items, matrix
from octorec.data.tables import one_array
from octorec.errors import InputError

NAMED = 5  # ids in an error
DEFAULTS: dict[str, Any] = {"title": "", "sets": [], "live": True, COUNTS: 0}  # what a new item has in a missing column


class GivenColumn(NamedTuple):
    """A GivenColumn is a column of the given table: the rows [r] of it that have a value, and the values, checked."""

    rows: np.ndarray
    values: pa.Array


def upsert(catalog: Catalog, items: pa.Table, source: str = "items") -> Catalog:
    """Return a new version of `catalog` with `items` added or changed: the same codebook, the same fingerprint.

    items: item_id and any of title, sets, vector, codes, live and, in a catalog that has counts, interactions. What an
    item has stays where its column is missing or null; "" and an empty list are values. Codes of an item move only
    where it is given a vector or codes.

    In a catalog with a codebook a new item gets its codes from its vector, where the catalog was built from vectors, or
    from its title and sets; `codes` are refused. In an imported one a new item needs `codes`. `source` names the table
    in errors. Returns `catalog` itself where nothing changes.
    """
    ids = check_items(items.select(["item_id"]), source)["item_id"]
    given = {name: _given(items, name, source) for name in items.column_names if name != "item_id"}
    if COUNTS in given and len(given[COUNTS].rows) and catalog.interactions is None:
        allowed = "this catalog has no counts to change: build or import it with the column in its item table"
        raise InputError(f"{source}: columns", COUNTS, allowed)
    places = np.array([catalog.index.get(item_id, -1) for item_id in ids.to_pylist()])
    rows = {"item_id": one_array(ids)}
    for name in (name for name in catalog.items.column_names if name in DEFAULTS):
        rows[name] = _filled(catalog, name, places, given.get(name), DEFAULTS[name])
    codes = (_codes_by_codebook if catalog.codebook else _codes_given)(catalog, pa.table(rows), places, given, source)
    rows["codes"] = _filled(catalog, "codes", places, codes, [0] * len(catalog.codebook_sizes))
    changed = pa.table({name: rows[name] for name in catalog.items.column_names}).cast(catalog.items.schema)
    known = places >= 0
    if known.all() and changed.equals(catalog.items.take(places)):
        return catalog
    return _merged(catalog, changed, places)


def _given(items: pa.Table, name: str, source: str) -> GivenColumn:
    column = one_array(items[name])
    rows = np.flatnonzero(np.asarray(column.is_valid()))
    if not len(rows):
        return GivenColumn(rows, column.slice(0, 0))
    where = source if len(rows) == len(column) else f"{source} that have a value, counted alone"
    return GivenColumn(rows, one_array(check_items(items.select(["item_id", name]).take(rows), where)[name]))


def _filled(catalog: Catalog, name: str, places: np.ndarray, given: GivenColumn | None, default: Any) -> pa.Array:
    """Return column `name` of the m items: as given, else as the catalog has it, else `default`."""
    kind = catalog.items.schema.field(name).type
    known = places >= 0
    parts = [one_array(catalog.items[name].take(pa.array(places[known]))), pa.array([default], kind)]
    index = np.where(known, np.cumsum(known) - 1, known.sum())
    if given is not None and len(given.rows):
        index[given.rows] = known.sum() + 1 + np.arange(len(given.rows))
        parts.append(given.values.cast(kind))
    return pa.concat_arrays(parts).take(pa.array(index))


def _codes_by_codebook(
    catalog: Catalog, rows: pa.Table, places: np.ndarray, given: dict[str, GivenColumn], source: str
) -> GivenColumn:
    if "codes" in given and len(given["codes"].rows):
        raise InputError(f"{source}: columns", "codes", "the catalog's codebook gives the codes: leave the column out")
    assert catalog.codebook is not None
    vector = given.get("vector", GivenColumn(np.zeros(0, np.int64), pa.array([])))
    predicted = np.setdiff1d(np.flatnonzero(places < 0), vector.rows)
    vectors = np.zeros((len(places), catalog.codebook.width), np.float32)
    if len(predicted):
        vectors[predicted] = new_vectors(catalog, rows.take(predicted), source)
    if len(vector.rows):
        brought = rows.take(vector.rows).append_column("vector", vector.values)
        vectors[vector.rows] = new_vectors(catalog, brought, source)
    moving = np.union1d(predicted, vector.rows)
    if not len(moving):
        return GivenColumn(moving, _lists(np.zeros((0, 1), np.int32)))
    stay = np.ones(len(catalog), bool)
    stay[places[moving][places[moving] >= 0]] = False
    codes = codes_of(catalog.codebook, vectors[moving], catalog.unique, catalog.codes[stay])
    return GivenColumn(moving, _lists(codes))


def _codes_given(
    catalog: Catalog, rows: pa.Table, places: np.ndarray, given: dict[str, GivenColumn], source: str
) -> GivenColumn:
    if "vector" in given and len(given["vector"].rows):
        allowed = "the catalog's codes came from elsewhere: give `codes`, not vectors"
        raise InputError(f"{source}: column vector", "vectors", allowed)
    codes = given.get("codes", GivenColumn(np.zeros(0, np.int64), _lists(np.zeros((0, 1), np.int32))))
    ids = rows["item_id"]
    without = np.setdiff1d(np.flatnonzero(places < 0), codes.rows)
    if len(without):
        some = ", ".join(ids.take(without[:NAMED]).to_pylist())
        allowed = "a new item needs `codes`, as the catalog's came from elsewhere"
        raise InputError(f"{source}: column codes", f"{len(without)} new items without codes: {some}", allowed)
    if not len(codes.rows):
        return codes
    sizes = np.array(catalog.codebook_sizes)
    values = matrix(codes.values)
    wrong = np.flatnonzero((values >= sizes).any(1)) if values.shape[1] == len(sizes) else np.arange(1)
    if len(wrong):
        item = ids[int(codes.rows[wrong[0]])].as_py()
        allowed = f"must be {len(sizes)} codes below {catalog.codebook_sizes}"
        raise InputError(f"{source}: codes of {item[:100]!r}", values[wrong[0]].tolist(), allowed)
    return codes


def _merged(catalog: Catalog, changed: pa.Table, places: np.ndarray) -> Catalog:
    """Return the catalog with the rows `changed` in the places `places`, or added where that is -1."""
    n, known = len(catalog), places >= 0
    order = np.arange(n)
    order[places[known]] = n + np.flatnonzero(known)
    order = np.append(order, n + np.flatnonzero(~known))
    items = pa.concat_tables([catalog.items, changed]).take(pa.array(order))
    about = (
        catalog.codebook,
        catalog.attribute_map,
        catalog.given_vectors,
        catalog.unique,
        catalog.learned,
        catalog.as_given,
    )
    made = Catalog.of_items(items, catalog.codebook_sizes, *about)
    return made if made.fingerprint == catalog.fingerprint else made.as_version_of(catalog.fingerprint)


def _lists(codes: np.ndarray) -> pa.Array:
    offsets = np.arange(len(codes) + 1, dtype=np.int32) * codes.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(codes.ravel(), pa.int32()))
