"""Reading Parquet and CSV tables column by column: what does not fit is an InputError that names file and column."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.csv_file import CsvFile
from octorec.data.parquet_file import column_names, read_parquet
from octorec.data.plain import plain_column
from octorec.errors import InputError

PARQUET = (".parquet", ".pq", ".parquet.gzip")
CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
ALLOWED = f"allowed: {', '.join((*PARQUET[:2], *CSV))}"
LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi", "metadata": "Iceberg"}
EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}  # whole numbers up to here have one float each


def read_table(
    path: str | Path, required: Collection[str], columns: Collection[str] | None = None, inferred: Collection[str] = ()
) -> pa.Table:
    """Read a Parquet or CSV file: those of `columns` that it has (None: all of them), at least one row, plain types.

    Names end in .parquet or .pq, .csv or .tsv, or one of the latter and .gz. A folder, as Spark writes one, is read as
    all its files. required: columns that must be there. inferred: columns of a CSV that may be numbers, booleans or
    times; the others are text, so that `007` stays `007`.
    """
    path = Path(path)
    try:
        tables = [_read_file(file, required, columns, inferred) for file in part_files(path)]
        table = _joined(path, tables)
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        kind = "CSV" if path.name.lower().endswith(CSV) else ".parquet"
        raise InputError(str(path), said, f"must be a whole {kind} file") from error
    if table.num_rows == 0:
        raise InputError(str(path), "no rows", "must have at least one row")
    return table


def _joined(path: Path, tables: list[pa.Table]) -> pa.Table:
    """The rows of all `tables`; a column that has types in them which no one type holds is an InputError."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(str(path), str(error), "a column must be written alike in all files of a folder") from error


def is_csv(path: str | Path) -> bool:
    """Whether a file that `read_table` reads, or the files of such a folder, are CSV."""
    return str(part_files(Path(path))[0]).lower().endswith(CSV)


def part_files(path: Path) -> list[Path]:
    """The files of a table: `path` itself, or those below a folder that are neither hidden nor a writer's own notes."""
    if path.is_file():
        if not path.name.lower().endswith((*PARQUET, *CSV)):
            raise InputError(str(path), path.suffix, ALLOWED)
        return [path]
    if not path.is_dir():
        raise InputError(str(path), "no such file", f"must be a .parquet or .csv file; {ALLOWED}")
    for name, kind in LOGS.items():
        if (path / name).exists():
            raise InputError(str(path), f"a {kind} table", f"its log says which files count: write it as {PARQUET[0]}")
    inside = sorted(file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith((*PARQUET, *CSV)))
    files = [file for file in inside if not any(map(_is_hidden, file.relative_to(path).parts))]
    if not files:
        raise InputError(str(path), "no files", f"must hold files of a table; {ALLOWED}")
    if len({file.name.lower().endswith(CSV) for file in files}) > 1:
        raise InputError(str(path), "Parquet and CSV files", "must hold files of one kind")
    return files


def _is_hidden(name: str) -> bool:
    """Whether a file or folder is not of the table, by its name; `_column=value` is a partition, as it is to Spark."""
    return name[0] == "." or (name[0] == "_" and "=" not in name)


def _read_file(
    path: Path, required: Collection[str], columns: Collection[str] | None, inferred: Collection[str]
) -> pa.Table:
    csv_file = CsvFile(path) if path.name.lower().endswith(CSV) else None
    names = csv_file.names if csv_file else column_names(path)
    wanted = [name for name in names if columns is None or name in columns]
    _check_names(path, names, required, wanted if columns is None else columns)
    if csv_file:
        return csv_file.read(wanted, [name for name in wanted if name in inferred])
    return read_parquet(path, wanted)


def _check_names(path: Path, names: list[str], required: Collection[str], known: Collection[str]) -> None:
    """Refuse a name of `known` that stands twice or differs in case or spaces, and the lack of one `required`."""
    where = f"{path}: columns"
    twice = sorted({name for name in names if name in known and names.count(name) > 1})
    if twice:
        raise InputError(where, names, f"each name may stand once; duplicated: {', '.join(twice)}")
    for name in names:
        meant = "_".join(name.replace("_", " ").lower().split())
        if meant in {*known, *required} and meant not in names:
            raise InputError(where, names, f"rename {name!r} to {meant!r}")
    for name in required:
        if name not in names:
            in_folder = f"/{name}=" in path.as_posix()
            hint = ": the names of folders are not read, so write the table without partitions" if in_folder else ""
            raise InputError(where, names, f"column {name} is missing{hint}")


def require_columns(table: pa.Table, required: Collection[str], source: str) -> None:
    """Raise InputError for the first of `required` that `table` lacks."""
    for name in required:
        if name not in table.column_names:
            raise InputError(f"{source}: columns", table.column_names, f"column {name} is missing")


def text_column(table: pa.Table, name: str, source: str) -> pa.Array:
    """Column `name` as one array of strings without nulls or empty text.

    Integers become their digits, and so do decimals and floats that are all whole (12.0 is `12`: a table with a missing
    value may have had its integers made floats).
    """
    where = f"{source}: column {name}"
    column = plain_column(table.column(name), where)
    refuse_nulls(column, where)
    column = one_array(_as_text(one_array(column), where))
    refuse_rows(pc.equal(column, ""), where, "empty text", "must not be empty")
    return column


def _as_text(column: pa.Array, where: str) -> pa.Array:
    kind, allowed = column.type, "must hold text or integers"
    if pa.types.is_floating(kind):
        values = np.asarray(column).astype(np.float64)
        odd = ~((np.abs(values) <= EXACT[kind]) & (values == np.round(values)))
        refuse_rows(odd, where, f"a {kind} that is no whole number", allowed)
        column = column.cast(pa.int64())
    elif pa.types.is_decimal(kind):
        try:
            column = column.cast(pa.decimal256(76, 0))
        except pa.ArrowInvalid as error:
            raise InputError(where, f"{kind} with fractions", allowed) from error
    elif not (is_text(kind) or pa.types.is_integer(kind)):
        raise InputError(where, str(kind), allowed)
    return column.cast(pa.string())


def unique_text_column(table: pa.Table, name: str, source: str) -> pa.Array:
    """`text_column` whose values all differ."""
    column = text_column(table, name, source)
    counts = pc.value_counts(column)
    if len(counts) < len(column):
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise InputError(f"{source}: column {name}", twice, "stands more than once; each may stand once")
    return column


def timestamp_column(table: pa.Table, name: str, source: str) -> pa.Array:
    """Column `name` as int64 (integers, whole decimals; timestamps and dates, in their own unit) or float64 (floats and
    decimals, finite)."""
    where = f"{source}: column {name}"
    column = one_array(plain_column(table.column(name), where))
    kind, allowed = column.type, "must hold integers, floats, timestamps or dates"
    refuse_nulls(column, where)
    if pa.types.is_floating(kind) or (pa.types.is_decimal(kind) and kind.scale > 0):
        column = column.cast(pa.float64())
        refuse_rows(pc.invert(pc.is_finite(column)), where, "NaN or infinity", allowed)
        refuse_rows(pc.greater_equal(pc.abs(column), 2.0**63), where, "a number of 2^63 or more", allowed)
        return column
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("s"))
    elif not any(check(kind) for check in (pa.types.is_integer, pa.types.is_decimal, pa.types.is_timestamp)):
        raise InputError(where, str(kind), allowed)
    try:
        return column.cast(pa.int64())
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


def is_text(kind: pa.DataType) -> bool:
    """Whether a plain type is text."""
    return pa.types.is_string(kind)


def one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column's chunks as a single array."""
    if isinstance(column, pa.Array):
        return column
    try:
        return pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    except pa.ArrowInvalid as error:
        raise InputError("a column", f"{column.nbytes:,} bytes", "text or lists must be below 2^31 bytes") from error


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
