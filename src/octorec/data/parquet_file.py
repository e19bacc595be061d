"""A Parquet file's footer says how much memory the wanted columns may take, before any of them is read."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from octorec.data.expanded import refuse_beyond
from octorec.data.parquet_footer import read_chunks
from octorec.data.plain import is_list, plain_column
from octorec.data.text_file import refuse_others
from octorec.errors import InputError


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
    with pyarrow.parquet.ParquetFile(path) as file:
        leaves = [file.schema.column(leaf) for leaf in range(len(file.schema))]
        text = [leaf.path for leaf in leaves if _holds_text(leaf)]
    options = {"read_dictionary": text, "coerce_int96_timestamp_unit": "us"}  # in ns a year above 2262 would wrap
    with pyarrow.parquet.ParquetFile(path, **options) as file:
        parts, size = [], 0
        for group in range(file.num_row_groups):
            part = file.read_row_group(group, columns=list(columns))
            part.validate(full=True)  # text that is no UTF-8, categories that are not there
            size += part.nbytes + sum(_text_bytes(part.column(name)) for name in part.column_names)
            refuse_beyond(path, size, f"{path}: its text")
            parts.append(_plain(part, path))
        return pa.concat_tables(parts) if parts else _plain(file.schema_arrow.empty_table().select(columns), path)


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
