"""Read Parquet tables that name the semantic ID of each item: pid and sid, or a tokenizer's pid and codes."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from octorec.catalog.sid2pid import BITS, LEVELS, unpacked
from octorec.catalog.sid_rows import SidRows
from octorec.catalog.sid_text import text_codes
from octorec.data.items import code_lists, matrix
from octorec.data.parquet_file import ParquetFile
from octorec.data.plain import plain_column
from octorec.data.tables import is_text, one_array, readable, refuse_nulls, refuse_rows, text_column
from octorec.errors import InputError

IDS = ("pid", "iid", "item_id")
SIDS = ("sid", "codes")


def read_pid2sid(path: str | Path) -> SidRows:
    """Return the rows of a table, in its order.

    Its id column is one of IDS, integers or text; that of the SID one of SIDS: a list of codes, the integer
    a * 8192^2 + b * 8192 + c, or text such as `<s_a_1><s_b_7><s_c_3>`. Raises InputError by column and row.
    """
    path = Path(path)
    with readable(path):
        file = ParquetFile(path)
        id_field, sid = _one_of(path, IDS, file.names), _one_of(path, SIDS, file.names)
        table = file.read([id_field, sid])
    if table.num_rows == 0:
        raise InputError(str(path), "no rows", "a catalog needs at least one item")
    ids = one_array(text_column(table, id_field, str(path)))
    where = f"{path}: column {sid}"
    return SidRows(path, ids, _codes(one_array(plain_column(table[sid], where)), where), id_field=id_field)


def _one_of(path: Path, names: tuple[str, ...], columns: list[str]) -> str:
    found = [name for name in names if name in columns]
    if not found:
        raise InputError(f"{path}: columns", columns, f"must have a column {' or '.join(names)}")
    return found[0]


def _codes(column: pa.Array, where: str) -> np.ndarray:
    """Return the codes [n, L] int64 of a plain column of SIDs."""
    if pa.types.is_integer(column.type):
        refuse_nulls(column, where)
        packed = np.asarray(column)
        most = 2 ** (BITS * LEVELS)
        outside = (packed < 0) | (packed >= most)
        refuse_rows(outside, where, "a number out of range", f"must be a * 8192^2 + b * 8192 + c, below {most}")
        return unpacked(packed)
    if is_text(column.type):
        refuse_nulls(column, where)
        return text_codes(column, where)
    return matrix(code_lists(column, where)).astype(np.int64)
