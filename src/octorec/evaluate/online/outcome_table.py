"""Read a table of outcomes as a company has it, in the columns of `rows.OUTCOMES`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.described import time_unit
from octorec.data.plain import plain_column
from octorec.data.table_format import TableFormat
from octorec.data.tables import as_text, is_text, one_array, read_table, refuse_nulls, refuse_rows, timestamp_column
from octorec.data.times import times_of_text
from octorec.errors import InputError
from octorec.evaluate.online.rows import OUTCOMES, TIME
from octorec.evaluate.online.unit import MOST_BYTES, unit_id

LARGEST = 1e15  # largest value: the square of a sum of such values is still a number
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # a second
LAST = 10**10 * 10**6  # microseconds: the year 2286


def read_outcome_table(path: str | Path, form: TableFormat | None = None) -> pa.Table:
    """Read the rows [n] of a Parquet, CSV or JSON lines table (see `data.tables.read_table`), as
    `rows.OUTCOMES` has them.

    form: how it is written, its columns by our names. It needs `event`, `time` and one of `unit` and `request_id`;
    further columns of the file are left out. Raises InputError, which names file, column and row.
    """
    form = form or TableFormat()
    for name in form.columns:
        if name not in OUTCOMES.names:
            raise InputError("columns", name, f"allowed: {', '.join(OUTCOMES.names)}")
    inferred = ("time", "value") if form.time_format is None else ("value",)
    table = read_table(path, ("time", "event"), OUTCOMES.names, inferred=inferred, form=form)
    if "unit" not in table.column_names and "request_id" not in table.column_names:
        raise InputError(f"{path}: columns", table.column_names, "must have unit or request_id; name it by columns")
    made = {}
    for name in OUTCOMES.names:
        where = f"{path}: column {name}"
        made[name] = (
            _column(one_array(plain_column(table[name], where)), name, where, form.time_format)
            if name in table.column_names
            else None
        )
    made["value"] = made["value"] if made["value"] is not None else pa.array(np.ones(table.num_rows))
    nothing = [name for name in made if made[name] is None]
    made |= {name: pa.nulls(table.num_rows, OUTCOMES.field(name).type) for name in nothing}
    return pa.table(made, schema=OUTCOMES)


def _column(column: pa.Array, name: str, where: str, time_format: str | None) -> pa.Array:
    if name == "time":
        return _times(column, where, time_format)
    if name == "value":
        return _values(column, where)
    text = _texts(column, where)
    if name == "event":
        refuse_nulls(text, where)
    return _units(text, where) if name == "unit" else text


def _times(column: pa.Array, where: str, time_format: str | None) -> pa.Array:
    """Return microseconds since 1970, in UTC; times without a zone are taken to be in UTC.

    Numbers are s, ms, us or ns since 1970, whichever makes all of them times from 1973 to 2286.
    """
    column = _without_empty(column)
    refuse_nulls(column, where)
    column = times_of_text(column, where, time_format) if is_text(column.type) else column
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        allowed = "must be times from 1970 to 2286"
        try:
            stamps = column.cast(
                pa.timestamp("us"), safe=not pa.types.is_timestamp(column.type) or column.type.unit != "ns"
            )
        except pa.ArrowInvalid as error:
            raise InputError(where, str(error), allowed) from error
        moments = np.asarray(stamps.cast(pa.int64()))
        refuse_rows((moments < 0) | (moments >= LAST), where, "a time before 1970 or after 2286", allowed)
        return pa.array(moments, TIME)
    numbers = np.asarray(timestamp_column(pa.table({"time": column}), "time", where.removesuffix(": column time")))
    unit = time_unit(numbers.min(), numbers.max())
    if unit is None:
        allowed = "numbers must be seconds, ms, us or ns since 1970, one of these in all rows, from 1973 to 2286"
        raise InputError(where, f"{numbers.min()} to {numbers.max()}", allowed)
    if numbers.dtype == np.int64:
        ticks = TICKS[unit]
        return pa.array(numbers * (10**6 // ticks) if ticks <= 10**6 else numbers // (ticks // 10**6), TIME)
    return pa.array(np.rint(numbers * (1e6 / TICKS[unit])).astype(np.int64), TIME)


def _values(column: pa.Array, where: str) -> pa.Array:
    """Return finite numbers, 1 where there is none; True is 1."""
    kind, allowed = column.type, f"must hold numbers from -{LARGEST:g} to {LARGEST:g}"
    if is_text(kind) and pc.all(pc.equal(column, "")).as_py():  # a CSV's column without a value
        return pa.array(np.ones(len(column)))
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    if not any(check(kind) for check in numeric):
        raise InputError(where, f"{kind}", allowed)
    values = column.cast(pa.int8()).cast(pa.float64()) if pa.types.is_boolean(kind) else column.cast(pa.float64())
    numbers = np.asarray(pc.fill_null(values, 1.0))
    refuse_rows(~np.isfinite(numbers), where, "NaN or infinity", allowed)
    refuse_rows(np.abs(numbers) > LARGEST, where, f"a number beyond {LARGEST:g}", allowed)
    return pa.array(numbers)


def _texts(column: pa.Array, where: str) -> pa.Array:
    """Return text or null, which stands for empty text; integers become their digits."""
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    empty = np.asarray(column.is_null())
    filled = column.fill_null(0) if pa.types.is_floating(column.type) else column  # null would be NaN there
    text = one_array(as_text(filled, where))
    return _without_empty(pc.if_else(pa.array(empty), None, text) if empty.any() else text)


def _units(text: pa.Array, where: str) -> pa.Array:
    """Return each id as `unit_id` has it, which is asked about the few that are not plain."""
    plain = pc.and_(pc.string_is_ascii(text), pc.less_equal(pc.binary_length(text), MOST_BYTES))
    odd = pc.unique(text.filter(pc.invert(plain)))
    if not len(odd):
        return text
    known = pa.array([unit_id(one, where) for one in odd.to_pylist()], pa.string())
    place = pc.index_in(text, value_set=odd)
    return pc.if_else(pc.is_valid(place), known.take(place), text)


def _without_empty(column: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(column, ""), None, column) if is_text(column.type) else column
