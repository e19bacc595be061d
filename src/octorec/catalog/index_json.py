"""Read the `.index.json` files of MiniOneRec and LETTER: `{"0": ["<a_1>", "<b_7>", "<c_3>"], ...}`."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.catalog.catalog import Catalog
from octorec.catalog.columns import COUNTS, with_defaults
from octorec.catalog.same_codebook import difference
from octorec.data.items import check_items
from octorec.data.tables import one_array
from octorec.errors import InputError, MismatchError
from octorec.reading import read_text

TOKEN = re.compile(r"<([a-z])_([0-9]{1,9})>")
MOST_BYTES = 2**29  # most bytes of an index: some 10 million items
SHAPE = 'must be {"item id": ["<a_1>", "<b_7>", ...], ...} with the letters a, b, ... in order'


def read_index(
    path: str | Path,
    items: pa.Table | None = None,
    codebook_sizes: Sequence[int] | None = None,
    base: Catalog | None = None,
) -> Catalog:
    """Return a catalog of the index's items, without a codebook.

    items: their title, sets and live; rows of other items are left out. codebook_sizes: None takes those of `base`,
    else each level's largest code + 1, which may be less than what a model was trained with.

    base: the imported catalog before this one, whose fingerprint this one then has; items may come and go, but one that
    both have must have its codes (else a MismatchError), and has its details from `base` where `items` is None. Without
    `base` the fingerprint is over the table of codes.
    """
    path = Path(path)
    if base and base.codebook:
        raise InputError("base", "a catalog with a codebook", "give it new items by `catalog assign`")
    rows = _read(path)
    codes = _codes(path, rows)
    if codebook_sizes is None:
        codebook_sizes = base.codebook_sizes if base else [int(code) + 1 for code in codes.max(0)]
    try:
        table = pa.table({"item_id": list(rows), "codes": pa.array(list(codes))})
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise InputError(f"{path}: item", error.object, "must be UTF-8 text") from error
    if items is not None:
        table = _with_details(table, check_items(items))
    elif base is not None:
        table = _with_details(table, base.items, every=False)
    catalog = Catalog.of_items(check_items(table, str(path)), codebook_sizes)
    if base is None:
        return catalog
    if why := difference(catalog, base):
        raise MismatchError(f"{path}: codes", catalog.fingerprint, f"are of another codebook than the base's: {why}")
    return catalog.as_version_of(base.fingerprint)


def _read(path: Path) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if twice:
            raise InputError(f"{path}: item {twice[0]}", "stands more than once", "each item may stand once")
        return dict(pairs)

    try:
        rows = json.loads(read_text(path, "index", MOST_BYTES), object_pairs_hook=no_duplicates)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), str(error), "must be a readable JSON file") from error
    if not isinstance(rows, dict) or not rows:
        raise InputError(str(path), type(rows).__name__, SHAPE)
    return rows


def _codes(path: str | Path, rows: dict[str, Any]) -> np.ndarray:
    """Return the codes [items, levels] int32."""
    codes = [_tuple(f"{path}: item {item}", tokens) for item, tokens in rows.items()]
    for item, row in zip(rows, codes, strict=True):
        if len(row) != len(codes[0]):
            raise InputError(
                f"{path}: item {item}", rows[item], f"must have {len(codes[0])} codes, as the first item has"
            )
    return np.array(codes, np.int32)


def _tuple(where: str, tokens: Any) -> list[int]:
    if not isinstance(tokens, list) or not tokens:
        raise InputError(where, tokens, SHAPE)
    codes = []
    for level, token in enumerate(tokens):
        match = TOKEN.fullmatch(token) if isinstance(token, str) else None
        if not match or match[1] != chr(ord("a") + level):
            raise InputError(where, token, SHAPE)
        codes.append(int(match[2]))
    return codes


def _with_details(table: pa.Table, items: pa.Table, every: bool = True) -> pa.Table:
    """Return `table` with what `items` knows of its rows; every: it must know them all."""
    rows = pc.index_in(table["item_id"], one_array(items["item_id"]))
    missing = table["item_id"].filter(pc.is_null(rows)).to_pylist()
    if missing and every:
        found = f"{len(missing)} items of the index are missing: {', '.join(missing[:5])}"
        raise InputError("items: column item_id", found, "must hold every item of the index")
    names = ["title", "sets", "live", *([COUNTS] if COUNTS in items.column_names else [])]
    details = with_defaults(items).select(names).take(one_array(rows))
    missing_as = {"live": True, COUNTS: 0}
    for name in names:
        column = details[name].fill_null(missing_as[name]) if name in missing_as else details[name]
        table = table.append_column(name, column)
    return table
