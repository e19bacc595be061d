"""A Parquet file's footer says how much memory the wanted columns may take, before any of them is read."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from octorec.data.expanded import refuse_beyond
from octorec.data.parquet_footer import read_chunks
from octorec.data.plain import is_list, plain_column
from octorec.data.text_file import refuse_others
from octorec.errors import InputError

AT_ONCE = 4096  # rows of a part that is read of a row group
BUFFER = 2**20  # bytes of a column that are read from the disk at a time


class ParquetFile:
    """A ParquetFile knows the names of its columns."""

    def __init__(self, path: Path):
        """Read the footer; what is no Parquet file is an InputError."""
        self.path = path
        with path.open("rb") as plain:
            head = plain.read(64)
        if not head.startswith(b"PAR1"):
            refuse_others(path, head)
            if head and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
                found, advice = "text", "the name of a CSV ends in .csv, that of JSON lines in .jsonl"
                raise InputError(str(path), found, f"must be a whole Parquet file; {advice}")
        with pyarrow.parquet.ParquetFile(path) as file:
            self.names: list[str] = list(file.schema_arrow.names)

    def read(self, columns: Collection[str]) -> pa.Table:
        """Read `columns` as `read_parquet` does."""
        return read_parquet(self.path, columns)


def read_parquet(path: Path, columns: Collection[str]) -> pa.Table:
    """Read the `columns` of a Parquet file in plain types (see `data.plain`).

    A file that would take more memory than one of its size may (see `data.expanded`) is an InputError.
    """
    _refuse_large_footer(path, columns)
    with pyarrow.parquet.ParquetFile(path, **_options(path)) as file:
        parts, size = [], 0
        for group in range(file.num_row_groups):
            part = file.read_row_group(group, columns=list(columns))
            part.validate(full=True)  # text that is no UTF-8, categories that are not there
            size += part.nbytes + sum(_text_bytes(part.column(name)) for name in part.column_names)
            refuse_beyond(path, size, f"{path}: its text")
            parts.append(_plain(part, path))
        return pa.concat_tables(parts) if parts else _plain(file.schema_arrow.empty_table().select(columns), path)


def count_rows(path: Path) -> int:
    """Return how many rows a Parquet file says that it has."""
    with pyarrow.parquet.ParquetFile(path) as file:
        rows: int = file.metadata.num_rows
        return rows


def read_parts(path: Path, columns: Collection[str], parts: Sequence[tuple[int, int]]) -> Iterator[pa.Table]:
    """Yield `columns` of some parts of a file in plain types, a table each.

    parts: the first row and the number of rows, ascending and apart. Row groups without any of them are not read, and
    no more is in memory than a part and 4,096 rows: of what `read_parquet` refuses, a file is refused here too.
    """
    _refuse_large_footer(path, columns)
    with pyarrow.parquet.ParquetFile(path, buffer_size=BUFFER, **_options(path)) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    left, pieces = [*parts], []
    for first, rows in _rows(path, columns, sizes, parts):
        while left and left[0][0] < first + rows.num_rows:
            start, count = left[0]
            pieces.append(rows.slice(max(0, start - first), start + count - max(first, start)))
            if start + count > first + rows.num_rows:
                break
            yield pa.concat_tables(pieces)
            pieces = []
            del left[0]


def _rows(
    path: Path, columns: Collection[str], sizes: Sequence[int], parts: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the rows of the row groups that hold any of `parts`, some at a time, each with the number of the first."""
    begin = 0
    for group, size in enumerate(sizes):
        if any(first < begin + size and first + count > begin for first, count in parts):
            with pyarrow.parquet.ParquetFile(path, buffer_size=BUFFER, **_options(path)) as file:
                at = begin
                for batch in file.iter_batches(AT_ONCE, row_groups=[group], columns=list(columns)):
                    part = pa.Table.from_batches([batch])
                    part.validate(full=True)  # text that is no UTF-8, categories that are not there
                    size_of = part.nbytes + sum(_text_bytes(part.column(name)) for name in part.column_names)
                    refuse_beyond(path, size_of, f"{path}: its text")
                    yield at, _plain(part, path)
                    at += part.num_rows
        begin += size


def _options(path: Path) -> dict[str, Any]:
    """Return how a file is opened: equal text takes memory once, and a year above 2262 does not wrap, as in ns."""
    with pyarrow.parquet.ParquetFile(path) as file:
        leaves = [file.schema.column(leaf) for leaf in range(len(file.schema))]
        text = [leaf.path for leaf in leaves if _holds_text(leaf)]
    return {"read_dictionary": text, "coerce_int96_timestamp_unit": "us"}


def _refuse_large_footer(path: Path, columns: Collection[str]) -> None:
    sizes: Counter[str] = Counter()
    chunks = read_chunks(path, columns)
    for chunk in chunks:
        sizes[chunk.path[0]] += chunk.size
    if chunks:
        total = sizes.total() + max(chunk.largest_page for chunk in chunks)
        refuse_beyond(path, total, f"{path}: column {sizes.most_common(1)[0][0]} and others")


def _holds_text(leaf: pyarrow.parquet.ColumnSchema) -> bool:
    """Tell whether a leaf is text, read as a dictionary so that equal values take memory once."""
    return leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type != "DECIMAL"


def _text_bytes(column: pa.ChunkedArray | pa.Array) -> int:
    """Return how many bytes the text of a column takes once its dictionaries are decoded."""
    if isinstance(column, pa.ChunkedArray):
        return sum(_text_bytes(chunk) for chunk in column.chunks)
    if is_list(column.type):
        return _text_bytes(column.flatten())
    if not pa.types.is_dictionary(column.type):
        return 0
    values = column.dictionary
    if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
        return 0
    lengths = np.asarray(pc.binary_length(values).fill_null(0)).astype(np.int64)
    return int(lengths[np.asarray(column.indices.drop_null())].sum())


def _plain(table: pa.Table, path: Path) -> pa.Table:
    columns = {name: plain_column(table.column(name), f"{path}: column {name}") for name in table.column_names}
    return pa.table(columns)
