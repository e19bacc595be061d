"""Reading Parquet and CSV tables column by column: what does not fit is an InputError that names file and column."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from octorec.errors import InputError


def read_table(path: str | Path, columns: Collection[str] | None = None, text: Collection[str] = ()) -> pa.Table:
    """Read a `.parquet` or `.csv` file: those of `columns` that it has (None: all of them), at least one row.

    text: columns of a CSV that are never read as numbers, so that `007` stays `007`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), "no such file", "must be a .parquet or .csv file")
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(str(path), path.suffix, "allowed: .parquet, .csv")
    try:
        table = _read_parquet(path, columns) if path.suffix == ".parquet" else _read_csv(path, columns, text)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise InputError(str(path), str(error).splitlines()[0], f"must be a whole {path.suffix} file") from error
    if table.num_rows == 0:
        raise InputError(str(path), "no rows", "must have at least one row")
    return table


def _read_parquet(path: Path, columns: Collection[str] | None) -> pa.Table:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        _refuse_duplicates(path, names)
        return file.read(columns=None if columns is None else [name for name in names if name in columns])


def _read_csv(path: Path, columns: Collection[str] | None, text: Collection[str]) -> pa.Table:
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()))
    table = pyarrow.csv.read_csv(path, convert_options=convert)
    _refuse_duplicates(path, table.column_names)
    return table if columns is None else table.select([name for name in table.column_names if name in columns])


def _refuse_duplicates(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: columns", names, f"each name may stand once; duplicated: {', '.join(twice)}")


def require_columns(table: pa.Table, required: Collection[str], source: str) -> None:
    """Raise InputError for the first of `required` that `table` lacks."""
    for name in required:
        if name not in table.column_names:
            raise InputError(f"{source}: columns", table.column_names, f"column {name} is missing")


def text_column(table: pa.Table, name: str, source: str) -> pa.Array:
    """Column `name` as one array of strings without nulls or empty text; integers become their digits."""
    column = table.column(name)
    where = f"{source}: column {name}"
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (is_text(kind) or pa.types.is_integer(kind)):
        raise InputError(where, str(column.type), "must hold text or integers")
    refuse_nulls(column, where)
    column = one_array(column.cast(pa.string()))
    refuse_rows(pc.equal(column, ""), where, "empty text", "must not be empty")
    return column


def unique_text_column(table: pa.Table, name: str, source: str) -> pa.Array:
    """`text_column` whose values all differ."""
    column = text_column(table, name, source)
    counts = pc.value_counts(column)
    if len(counts) < len(column):
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise InputError(f"{source}: column {name}", twice, "stands more than once; each may stand once")
    return column


def timestamp_column(table: pa.Table, name: str, source: str) -> pa.Array:
    """Column `name` as int64 (integers; timestamps and dates, in their own unit) or float64 (floats, finite)."""
    column = table.column(name)
    where = f"{source}: column {name}"
    allowed = "must hold integers, floats, timestamps or dates"
    refuse_nulls(column, where)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_floating(column.type):
        column = one_array(column.cast(pa.float64()))
        refuse_rows(pc.invert(pc.is_finite(column)), where, "NaN or infinity", allowed)
        return column
    if not (pa.types.is_integer(column.type) or pa.types.is_timestamp(column.type)):
        raise InputError(where, str(column.type), allowed)
    try:
        return one_array(column.cast(pa.int64()))
    except pa.ArrowInvalid as error:
        raise InputError(where, str(error), "must fit 64-bit signed integers") from error


def refuse_nulls(column: pa.Array | pa.ChunkedArray, where: str) -> None:
    refuse_rows(pc.is_null(column), where, "null", "must have a value in every row")


def refuse_rows(bad: pa.Array | pa.ChunkedArray, where: str, found: str, allowed: str) -> None:
    """Raise InputError when any of the booleans `bad` is set, naming the first row (1-based) and how many they are."""
    rows = np.flatnonzero(np.asarray(bad))
    if len(rows):
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise InputError(where, f"{found} in row {rows[0] + 1}{more}", allowed)


def is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column's chunks as a single array."""
    return column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def id_rank(ids: pa.Array) -> np.ndarray:
    """Each id's place [n] int64 among its distinct ids: as integers where all of them are, else as text."""
    encoded = ids.dictionary_encode()
    distinct = encoded.dictionary
    order = np.asarray(pc.sort_indices(distinct)).astype(np.int64)
    if pc.all(pc.match_substring_regex(distinct, r"^-?[0-9]{1,18}$")).as_py():
        numbers = np.asarray(distinct.cast(pa.int64()))
        order = order[np.argsort(numbers[order], kind="stable")]  # `1` and `01` stay in text order
    rank = np.empty(len(distinct), np.int64)
    rank[order] = np.arange(len(distinct))
    return rank[np.asarray(encoded.indices)]
