"""Predictions lie in a Parquet file: a row an example, lists of one length, and what was asked in the metadata."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from octorec.evaluate.saved import asked_in, exclude_seen_in, read_column, read_matrix, read_table, read_tuples
from octorec.output.write import new_file

LISTS = {"ranked": pa.string(), "log_probs": pa.float32()}


def write_predictions(
    path: str | Path,
    columns: Mapping[str, Any],
    others: np.ndarray | None,
    lists: Mapping[str, np.ndarray | None],
    about: Mapping[str, str],
) -> None:
    """Write a file. columns: [n] by name. others: tuples of further targets [n]. lists: LISTS, [n, length] or None."""
    found = dict(columns)
    if others is not None:
        found["others"] = pa.array(map(list, others), pa.list_(pa.string()))
    for name, kind in LISTS.items():
        if (rows := lists[name]) is not None:
            found[name] = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), kind), rows.shape[1])
    with new_file(path) as scratch:
        table = pa.table(found).replace_schema_metadata(dict(about))
        pyarrow.parquet.write_table(table, scratch, compression="zstd")


def read_predictions(path: str | Path) -> dict[str, Any]:
    """Return the fields of `Predictions` that a file holds; anything else is an InputError."""
    table = read_table(path, "Predictions", {"user_id", "target", "known", "seen", "ranked"})
    where, has = f"predictions {path}", set(table.column_names)
    ranked = read_matrix(where, table, "ranked", LISTS["ranked"])
    known, seen = (read_column(where, table, name, pa.bool_()) for name in ("known", "seen"))
    return {
        "user_ids": read_column(where, table, "user_id", None),
        "targets": read_column(where, table, "target", pa.string()),
        "ranked": ranked,
        "known": known,
        "seen": seen,
        "log_probs": read_matrix(where, table, "log_probs", LISTS["log_probs"]) if "log_probs" in has else None,
        "asked": asked_in(where, table, ranked.shape[1]),
        "askable": read_column(where, table, "askable", pa.bool_()) if "askable" in has else None,
        "exclude_seen": exclude_seen_in(where, table),
        "others": read_tuples(where, table, "others") if "others" in has else None,
        "prompted": (table.schema.metadata or {}).get(b"prompted") == b"true",
    }
