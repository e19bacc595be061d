"""Evaluation reads a Parquet file of its own strictly, as a wrong rank would give a wrong verdict."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from octorec.errors import InputError

MOST_DIGITS = 9  # most digits of a length of list


def read_table(path: str | Path, what: str, required: set[str]) -> pa.Table:
    """Read the table of a file that `what`.save wrote, with the columns `required`; anything else is an InputError."""
    allowed = f"must be a file that {what}.save wrote"
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(what.lower(), str(path), f"{allowed} ({error})") from error
    if not required <= set(table.column_names):
        with_columns = f"{allowed}, with the columns {', '.join(sorted(required))}"
        raise InputError(f"{what.lower()} {path}: columns", table.column_names, with_columns)
    return table


def read_column(where: str, table: pa.Table, name: str, kind: pa.DataType | None) -> np.ndarray:
    """Read a column [n] without nulls, whose type is `kind` (None: any); else an InputError that begins
    with `where` is raised.
    """
    column = table.column(name)
    if kind is not None and column.type != kind:
        raise InputError(f"{where}: column {name}", str(column.type), f"must be {kind}")
    if column.null_count:
        raise InputError(f"{where}: column {name}", f"{column.null_count} nulls", "must have a value in every row")
    return column.to_numpy()


def read_matrix(where: str, table: pa.Table, name: str, kind: pa.DataType) -> np.ndarray:
    """Read a column of lists of one length, whose values are of `kind`, as [n, length]."""
    column = table.column(name).combine_chunks()
    if not pa.types.is_fixed_size_list(column.type) or column.type.value_type != kind:
        raise InputError(f"{where}: column {name}", str(column.type), f"must hold lists of one length of {kind}")
    values = column.flatten()
    if column.null_count or values.null_count:
        raise InputError(f"{where}: column {name}", "nulls", "must have a value in every row")
    return values.to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


def read_tuples(where: str, table: pa.Table, name: str) -> np.ndarray:
    """Read a column of lists of text as tuples, [n] object."""
    column = table.column(name)
    if column.type != pa.list_(pa.string()) or column.null_count:
        raise InputError(f"{where}: column {name}", str(column.type), "must hold a list of text in every row")
    return tuples([tuple(row) for row in column.to_pylist()])


def tuples(rows: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Return tuples as [n] object, also where all have one length."""
    out = np.empty(len(rows), object)
    for place, row in enumerate(rows):
        out[place] = row
    return out


def asked_in(where: str, table: pa.Table, k: int) -> tuple[int, ...]:
    """Return the lengths that a saved table's metadata says were asked for; none in a file from before
    they were kept.
    """
    text = (table.schema.metadata or {}).get(b"asked", b"").decode(errors="replace")
    lengths = [length_in(part) for part in text.split(",") if part]
    if not all(0 < length <= k for length in lengths):
        raise InputError(f"{where}: asked", text, f"must be lengths of list from 1 to {k}, with commas")
    return tuple(lengths)


def metadata(asked: tuple[int, ...], exclude_seen: bool) -> dict[str, str]:
    """Return what a saved table says of its lists, as `asked_in` and `exclude_seen_in` read it."""
    return {"asked": ",".join(map(str, asked)), "exclude_seen": str(exclude_seen).lower()}


def exclude_seen_in(where: str, table: pa.Table) -> bool:
    """Tell whether the lists of a saved table hold no item of the history; in a file from before that
    was said none did.
    """
    text = (table.schema.metadata or {}).get(b"exclude_seen", b"true").decode(errors="replace")
    if text not in ("true", "false"):
        raise InputError(f"{where}: exclude_seen", text, "must be true or false")
    return text == "true"


def length_in(text: str) -> int:
    """Return the length of list that `text` says, 0 where it says none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else 0
