"""What is known about each user."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from octorec.data.tables import is_text, read_table, require_columns, unique_text_column
from octorec.errors import InputError


def read_users(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read a `.parquet` or `.csv` file: each user_id's other columns, as text, numbers or booleans.

    A null is left out: a request may leave out any field of its user.
    """
    table = read_table(path, text=["user_id"])
    require_columns(table, ["user_id"], str(path))
    users = unique_text_column(table, "user_id", str(path)).to_pylist()
    fields = table.drop_columns("user_id")
    for field in fields.schema:
        if not _is_plain(field.type):
            raise InputError(f"{path}: column {field.name}", str(field.type), "must hold text, numbers or booleans")
    rows = fields.to_pylist() or [{}] * len(users)
    return {user: _present(row) for user, row in zip(users, rows, strict=True)}


def _present(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _is_plain(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    return is_text(kind) or any(check(kind) for check in plain)
