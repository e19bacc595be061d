"""A catalog's item table has these columns, with these values where a column is missing, and these codes."""

import numpy as np
import pyarrow as pa

from octorec.catalog.codebook import check_sizes
from octorec.data.items import matrix
from octorec.errors import InputError, MismatchError

COLUMNS = ["item_id", "title", "codes", "sets", "live"]
COUNTS = "interactions"  # the column that a catalog has where it was built from interactions


def with_defaults(items: pa.Table, counted: bool = False) -> pa.Table:
    """Return `items` with the columns title, sets and live, filled with "", none and true where they are missing;
    counted: and with interactions, filled with 0.
    """
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


def check_codes(items: pa.Table, sizes: tuple[int, ...]) -> None:
    """Refuse an empty table and codes that are not of these codebook sizes."""
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
