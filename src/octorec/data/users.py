"""Read what is known about each user."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.plain import plain_column
from octorec.data.table_format import OURS, TableFormat
from octorec.data.tables import is_text, kind_of, one_array, read_table, refuse_rows, unique_text_column
from octorec.errors import InputError

NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"  # a number as programs write it
LENIENT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")  # texts that stand for no value in a field of numbers
INDEX = re.compile(r"(Unnamed: [0-9]+|__index_level_[0-9]+__)?")  # columns that pandas adds


def read_users(
    path: str | Path, kinds: Mapping[str, str] | None = None, form: TableFormat = OURS
) -> dict[str, dict[str, Any]]:
    """Read a table (see `data.tables.read_table`), written as `form` says: each user_id's other columns, as text,
    numbers or booleans.

    kinds: `category` or `number` for each field of a model; a category of a CSV stays as it is written, and text of a
    number is read as numbers. A CSV's column without a kind is numbers where each value is written as one, without
    leading zeros, else text. Null, NaN and an empty value of a CSV are left out: a request may leave out any field of
    its user. Floats that are all whole become integers. Infinity is an InputError.
    """
    table = read_table(path, ["user_id"], form=form)
    users = unique_text_column(table, "user_id", str(path)).to_pylist()
    written = kind_of(Path(path), form) == "CSV"
    fields = {}
    for name in table.column_names:
        if name != "user_id" and not INDEX.fullmatch(name):
            where = f"{path}: column {name}"
            column = one_array(plain_column(table.column(name), where))
            fields[name] = _values(column, where, (kinds or {}).get(name), written).to_pylist()
    present = [
        {name: values[row] for name, values in fields.items() if values[row] is not None} for row in range(len(users))
    ]
    return dict(zip(users, present, strict=True))


def _values(column: pa.Array, where: str, kind: str | None, written: bool) -> pa.Array:
    """Return a field's values in a plain type that holds text, numbers or booleans; null where there is none."""
    if is_text(column.type):
        column = pc.if_else(pc.equal(column, ""), None, column) if written else column
        if kind == "number":
            return _whole(_numbers(column, where), where)
        return _whole(_numbers(column, where), where) if written and kind is None and _all_numbers(column) else column
    if pa.types.is_decimal(column.type) or pa.types.is_floating(column.type):
        return _whole(column.cast(pa.float64()), where)
    if not (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):
        raise InputError(where, str(column.type), "must hold text, numbers or booleans")
    return column


def _all_numbers(column: pa.Array) -> bool:
    """Tell whether every value is a number as programs write it, and an integer small enough that a
    float64 holds it.
    """
    return bool(pc.all(pc.match_substring_regex(column, NUMBER)).as_py()) and not _any_long(column)


def _any_long(column: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring_regex(column, r"^-?[0-9]{16,}$")).as_py())


def _numbers(column: pa.Array, where: str) -> pa.Array:
    """Return text as float64, null where it says that there is none."""
    column = pc.utf8_trim_whitespace(column)
    column = pc.if_else(pc.is_in(column, pa.array(MISSING)), None, column)
    odd = pc.invert(pc.match_substring_regex(column, LENIENT)).fill_null(False)
    refuse_rows(odd, where, "text that is no number", "is a number of the model")
    return column.cast(pa.float64())


def _whole(column: pa.Array, where: str) -> pa.Array:
    """Return float64 as integers where all values are whole; NaN becomes null."""
    column = pc.if_else(pc.is_nan(column), None, column)
    values = np.asarray(column.fill_null(0))
    refuse_rows(np.isinf(values), where, "infinity", "must be finite")
    return column.cast(pa.int64()) if np.all((values == np.round(values)) & (np.abs(values) < 2**53)) else column
