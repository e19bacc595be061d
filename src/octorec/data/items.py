"""The item table says what is known about each item."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.plain import plain_column
from octorec.data.table_format import ITEMS, OURS, TableFormat
from octorec.data.tables import (
    is_text,
    one_array,
    read_table,
    refuse_nulls,
    refuse_rows,
    require_columns,
    text_column,
    unique_text_column,
)
from octorec.errors import InputError

COLUMNS = ITEMS


def read_items(path: str | Path, form: TableFormat = OURS) -> pa.Table:
    """Read a table of items (see `data.tables.read_table`), written as `form` says, and check it as `check_items`."""
    return check_items(read_table(path, ["item_id"], COLUMNS, inferred=["live", "interactions"], form=form), str(path))


def check_items(table: pa.Table, source: str = "items") -> pa.Table:
    """Return the columns of `table` that an item table may have, in one chunk each and in these types:

    - item_id string, unique; integers become text. The one column that must be there.
    - title string; null becomes "".
    - codes list<int32>: the item's semantic ID, as long in every row, not negative.
    - sets list<string>: named sets such as genres or regions; null becomes an empty list. Text is split at "|".
    - vector list<float>: finite, as long in every row.
    - live bool: false for a withdrawn item.
    - interactions int64: how often the item was met; null becomes 0.

    `source` names the table in errors.
    """
    require_columns(table, ["item_id"], source)
    if table.num_rows == 0:
        raise InputError(source, "no rows", "must have at least one row")
    out = {"item_id": unique_text_column(table, "item_id", source)}
    checks = {"title": _titles, "codes": code_lists, "sets": _sets, "vector": vectors, "live": _live}
    checks["interactions"] = _counts
    for name, check in checks.items():
        if name in table.column_names:
            where = f"{source}: column {name}"
            out[name] = check(one_array(plain_column(table.column(name), where)), where)
    return pa.table(out)


def item_ids(table: pa.Table, source: str = "items") -> list[str]:
    """Return the ids of `table`, which may stand more than once, as text."""
    return text_column(table, "item_id", source).to_pylist()


def matrix(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a checked `codes` or `vector` column as [items, width]."""
    column = one_array(column)
    return np.asarray(column.flatten()).reshape(len(column), -1)


def _titles(column: pa.Array, where: str) -> pa.Array:
    if not (is_text(column.type) or pa.types.is_null(column.type)):
        raise InputError(where, str(column.type), "must hold text")
    return column.cast(pa.string()).fill_null("")


def code_lists(column: pa.Array, where: str) -> pa.Array:
    """Return a plain column of lists as list<int32>: codes of 0 or more, as many in each row; else an InputError."""
    values = _even_lists(column, where, pa.types.is_integer, "lists of integers, one code a level")
    refuse_rows(_any_in_row(column, np.asarray(values) < 0), where, "a negative code", "codes are 0 or more")
    try:
        return column.cast(pa.list_(pa.int32()))
    except pa.ArrowInvalid as error:
        raise InputError(where, str(error), "codes must be below 2^31") from error


def vectors(column: pa.Array, where: str) -> pa.Array:
    """Return a plain column of vectors as list<float>: finite and as long in every row, else an InputError about
    `where` is raised.
    """
    values = _even_lists(column, where, _is_number, "lists of numbers, as long in every row")
    finite = np.isfinite(np.asarray(values.cast(pa.float32())))
    refuse_rows(_any_in_row(column, ~finite), where, "NaN or infinity", "must hold numbers that float32 holds")
    return column.cast(pa.list_(pa.float32()))


def _sets(column: pa.Array, where: str) -> pa.Array:
    if is_text(column.type):  # a CSV has no lists
        column = pc.split_pattern(pc.if_else(pc.equal(column, ""), None, column), "|")
    if pa.types.is_null(column.type) or column.type == pa.list_(pa.null()):  # nothing but nulls or empty lists
        column = column.cast(pa.list_(pa.string()))
    if not (pa.types.is_list(column.type) and is_text(column.type.value_type)):
        raise InputError(where, str(column.type), 'must hold lists of text, or text that "|" separates')
    refuse_nulls(column.flatten(), f"{where} (counted over all lists)")
    empty = pa.array([[]], column.type)[0]
    return column.fill_null(empty).cast(pa.list_(pa.string()))


def _live(column: pa.Array, where: str) -> pa.Array:
    if not pa.types.is_boolean(column.type):
        raise InputError(where, str(column.type), "must hold booleans")
    refuse_nulls(column, where)
    return column


def _counts(column: pa.Array, where: str) -> pa.Array:
    allowed = "must hold integers, 0 or more"
    if pa.types.is_null(column.type):
        column = column.cast(pa.int64())
    if not _is_number(column.type):
        raise InputError(where, str(column.type), allowed)
    column = column.fill_null(0)
    try:
        counts = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(where, str(error), allowed) from error
    refuse_rows(np.asarray(counts) < 0, where, "a negative number", allowed)
    return counts


def _even_lists(column: pa.Array, where: str, is_allowed: Callable[[pa.DataType], bool], allowed: str) -> pa.Array:
    """Return the values of lists that are all there, all as long and of an allowed type."""
    if not (pa.types.is_list(column.type) and is_allowed(column.type.value_type)):
        hint = " (a CSV has no lists: use Parquet or JSON lines)" if is_text(column.type) else ""
        raise InputError(where, str(column.type), f"must hold {allowed}{hint}")
    refuse_nulls(column, where)
    lengths = np.asarray(pc.list_value_length(column))
    refuse_rows(
        lengths != lengths[0], where, f"a length that is not the first row's {lengths[0]}", f"must hold {allowed}"
    )
    values = column.flatten()
    if lengths[0] == 0:
        raise InputError(where, "empty lists", f"must hold {allowed}")
    refuse_nulls(values, f"{where} (counted over all lists)")
    return values


def _any_in_row(column: pa.Array, bad: np.ndarray) -> np.ndarray:
    return np.any(bad.reshape(len(column), -1), axis=1)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)
