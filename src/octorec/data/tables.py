"""Read Parquet and CSV tables column by column: what does not fit is an InputError that names file and column."""

import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.chosen import chosen_columns
from octorec.data.csv_file import CsvFile
from octorec.data.hints import likely_separator, word
from octorec.data.json_file import JsonFile
from octorec.data.parquet_file import ParquetFile
from octorec.data.plain import plain_column
from octorec.data.table_format import OURS, TableFormat
from octorec.data.text_file import refuse_others
from octorec.data.times import times_of_text
from octorec.errors import InputError

PARQUET = (".parquet", ".pq", ".parquet.gzip")
CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
JSON = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
KINDS = {"Parquet": PARQUET, "CSV": CSV, "JSON lines": JSON}
ENDINGS = (*PARQUET, *CSV, *JSON)
ALLOWED = f"allowed: {', '.join((*PARQUET[:2], *CSV, *JSON[:2]))}"
LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi", "metadata": "Iceberg"}
EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}  # whole numbers below it have one float each


def read_table(
    path: str | Path,
    required: Collection[str],
    columns: Collection[str] | None = None,
    inferred: Collection[str] = (),
    form: TableFormat = OURS,
) -> pa.Table:
    """Read a Parquet, CSV or JSON lines file: those of `columns` that it has (None: all of them), at least one row,
    plain types, under our names.

    Names end in .parquet or .pq, .csv, .tsv or .jsonl, or one of the latter and .gz; with a separator in `form` any
    name is a CSV's. A folder, as Spark writes one, is read as all its files. required: columns that must be there.
    inferred: columns of a CSV that may be numbers, booleans or times; the others are text, so that `007` stays `007`.
    """
    path = Path(path)
    with readable(path):
        table = _joined(path, [_read_file(file, required, columns, inferred, form) for file in part_files(path, form)])
    if table.num_rows == 0:
        raise InputError(str(path), "no rows", "must have at least one row")
    return table


def table_names(path: str | Path, form: TableFormat = OURS) -> list[str]:
    """Return the names of a table's columns as its first file has them, or places where `form` says that there is no
    header; of JSON lines those of the first thousand.
    """
    path = Path(path)
    with readable(path):
        return list(_opened(part_files(path, form)[0], form).names)


def unread_names(path: str | Path, form: TableFormat, ours: Collection[str]) -> list[str]:
    """Return the names of a table's columns that are not read: neither one of `ours`, nor told by `form` to be one."""
    told = {str(name) for name in form.columns.values()}
    return [name for name in table_names(path, form) if name not in told and name not in ours]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what Arrow and the system say of a table into an InputError about `path`."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        kind = next((kind for kind, ends in KINDS.items() if path.name.lower().endswith(ends)), "text")
        unlike = "; a value that holds the separator stands in quotes" if "columns, got" in said else ""
        raise InputError(str(path), said, f"must be a whole {kind} file{unlike}") from error


def _joined(path: Path, tables: list[pa.Table]) -> pa.Table:
    """Join the rows of all `tables`; a column that has types in them which no one type holds is an InputError."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(str(path), str(error), "a column must be written alike in all files of a folder") from error


def kind_of(path: Path, form: TableFormat = OURS) -> str:
    """Return the kind of a file that `read_table` reads, or of the files of such a folder: Parquet,
    CSV or JSON lines.
    """
    name = part_files(path, form)[0].name.lower()
    return next((kind for kind, ends in KINDS.items() if name.endswith(ends)), "CSV")


def part_files(path: Path, form: TableFormat = OURS) -> list[Path]:
    """Return the files of a table: `path` itself, or those below a folder that are neither hidden nor a
    writer's own notes.
    """
    if path.is_file():
        if path.name.lower().endswith(ENDINGS) or form.sep:
            return [path]
        with path.open("rb") as file:
            head = file.read(2**12)
        refuse_others(path, head)
        raise InputError(str(path), path.suffix or "a name without an ending", f"{ALLOWED}; {_other_text(head)}")
    if not path.is_dir():
        found = "a pipe or device" if path.exists() else "no such file"
        raise InputError(str(path), found, f"must be a .parquet or .csv file; {ALLOWED}")
    for name, kind in LOGS.items():
        if (path / name).exists():
            raise InputError(str(path), f"a {kind} table", f"its log says which files count: write it as {PARQUET[0]}")
    inside = sorted(file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(ENDINGS))
    files = [file for file in inside if not any(map(_is_hidden, file.relative_to(path).parts))]
    if not files:
        raise InputError(str(path), "no files", f"must hold files of a table; {ALLOWED}")
    kinds = [kind for kind, ends in KINDS.items() if any(file.name.lower().endswith(ends) for file in files)]
    if len(kinds) > 1:
        raise InputError(str(path), f"{' and '.join(kinds)} files", "must hold files of one kind")
    return files


def _other_text(head: bytes) -> str:
    """Return what to do about a file that begins with `head` and whose name says nothing."""
    line = head.decode("utf-8", "replace").strip().partition("\n")[0]
    if line.startswith("{"):
        return "rename JSON lines, an object a line, to end in .jsonl"
    if line.startswith("["):
        return "a JSON array is not read: write an object a line, with jq: jq -c '.[]' old.json > new.jsonl"
    return f"other text with --sep, here maybe --sep {shlex.quote(word(likely_separator(line, ())))}"


def _is_hidden(name: str) -> bool:
    """Tell by its name whether a file or folder is not of the table; `_column=value` is a partition,
    as it is to Spark.
    """
    return name[0] == "." or (name[0] == "_" and "=" not in name)


def _opened(path: Path, form: TableFormat, every: bool = False) -> CsvFile | JsonFile | ParquetFile:
    kind = kind_of(path, form)
    if kind == "CSV":
        return CsvFile(path, form.sep, header=not form.by_place)
    return JsonFile(path, every) if kind == "JSON lines" else ParquetFile(path)


def _read_file(
    path: Path, required: Collection[str], columns: Collection[str] | None, inferred: Collection[str], form: TableFormat
) -> pa.Table:
    file = _opened(path, form, every=columns is None)
    theirs = chosen_columns(file, required, columns, form)
    if isinstance(file, CsvFile):
        guessed = [
            theirs[ours] for ours in theirs if ours in inferred and not (ours == "timestamp" and form.time_format)
        ]
        table = file.read(list(theirs.values()), guessed)
    else:
        table = file.read(list(theirs.values()))
    return table.select(list(theirs.values())).rename_columns(list(theirs))


def require_columns(table: pa.Table, required: Collection[str], source: str) -> None:
    """Raise InputError for the first of `required` that `table` lacks."""
    for name in required:
        if name not in table.column_names:
            raise InputError(f"{source}: columns", table.column_names, f"column {name} is missing")


def text_column(table: pa.Table, name: str, source: str) -> pa.Array:
    """Return column `name` as one array of strings without nulls or empty text.

    Integers become their digits, and so do decimals and floats that are all whole (12.0 is `12`: a table with a missing
    value may have had its integers made floats).
    """
    where = f"{source}: column {name}"
    column = plain_column(table.column(name), where)
    refuse_nulls(column, where)
    column = one_array(as_text(one_array(column), where))
    refuse_rows(pc.equal(column, ""), where, "empty text", "must not be empty")
    return column


def as_text(column: pa.Array, where: str) -> pa.Array:
    """Return a column of plain type as text, see `text_column`; a null stays null where the type is not floating."""
    kind, allowed = column.type, "must hold text or integers"
    if pa.types.is_floating(kind):
        values = np.asarray(column).astype(np.float64)
        odd = ~((np.abs(values) < EXACT[kind]) & (values == np.round(values)))
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
    """Return `text_column`, whose values must all differ."""
    column = text_column(table, name, source)
    counts = pc.value_counts(column)
    if len(counts) < len(column):
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise InputError(f"{source}: column {name}", twice, "stands more than once; each may stand once")
    return column


def timestamp_column(table: pa.Table, name: str, source: str, time_format: str | None = None) -> pa.Array:
    """Return column `name` as int64 (integers, whole decimals; timestamps and dates, in their own unit) or float64
    (floats and decimals, finite).

    Text is read as `data.times` does, by `time_format` where there is one.
    """
    where = f"{source}: column {name}"
    column = one_array(plain_column(table.column(name), where))
    allowed = "must hold integers, floats, timestamps or dates"
    column = _without_empty(column) if is_text(column.type) else column
    refuse_nulls(column, where)
    column = times_of_text(column, where, time_format) if is_text(column.type) else column
    kind = column.type
    if pa.types.is_decimal(kind) and kind.scale > 0:
        column = _whole_decimals(column)
        kind = column.type
    if pa.types.is_floating(kind):
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


def _whole_decimals(column: pa.Array) -> pa.Array:
    """Return decimals without a scale where all are whole, for a float would take neighbours for
    equals; else float64.
    """
    try:
        return column.cast(pa.decimal256(76, 0))
    except pa.ArrowInvalid:
        return column.cast(pa.float64())


def _without_empty(column: pa.Array) -> pa.Array:
    """Return text with null where it is empty."""
    return pc.if_else(pc.equal(column, ""), None, column)


def refuse_nulls(column: pa.Array | pa.ChunkedArray, where: str) -> None:
    refuse_rows(pc.is_null(column), where, "null", "must have a value in every row")


def refuse_rows(bad: pa.Array | pa.ChunkedArray, where: str, found: str, allowed: str) -> None:
    """Raise InputError when any of the booleans `bad` is set, naming the first row (1-based) and how many they are."""
    rows = np.flatnonzero(np.asarray(bad))
    if len(rows):
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise InputError(where, f"{found} in row {rows[0] + 1}{more}", allowed)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a plain type is text."""
    return pa.types.is_string(kind)


def one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Join a column's chunks into a single array."""
    if isinstance(column, pa.Array):
        return column
    try:
        return pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    except pa.ArrowInvalid as error:
        raise InputError("a column", f"{column.nbytes:,} bytes", "text or lists must be below 2^31 bytes") from error


def id_rank(ids: pa.Array) -> np.ndarray:
    """Return each id's place [n] int64 among its distinct ids: as integers where all of them are, else as text."""
    encoded = ids.dictionary_encode()
    distinct = encoded.dictionary
    order = np.asarray(pc.sort_indices(distinct)).astype(np.int64)
    if pc.all(pc.match_substring_regex(distinct, r"^-?[0-9]{1,18}$")).as_py():
        numbers = np.asarray(distinct.cast(pa.int64()))
        order = order[np.argsort(numbers[order], kind="stable")]  # `1` and `01` stay in text order
    rank = np.empty(len(distinct), np.int64)
    rank[order] = np.arange(len(distinct))
    return rank[np.asarray(encoded.indices)]
