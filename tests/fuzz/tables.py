"""Tables of interactions, items and users, broken in types and values, and how OctoRec reads them."""

import datetime
import decimal
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from checkpoints import asked_all
from mutate import WORDS

from octorec.data.interactions import read_interactions
from octorec.data.items import read_items
from octorec.data.users import read_users

N = 12
INTERACTIONS = pa.table(
    {
        "user_id": [f"u{n % 4}" for n in range(N)],
        "item_id": [f"{n % 5}" for n in range(N)],
        "timestamp": [1_700_000_000 + n for n in range(N)],
    }
)
ITEMS = pa.table(
    {
        "item_id": [f"{n:03d}" for n in range(N)],
        "title": [f"Film {n}, the {n}th" for n in range(N)],
        "sets": [f"a|b{n % 2}" for n in range(N)],
        "vector": [[float(n), 1.0] for n in range(N)],
        "live": [n > 0 for n in range(N)],
    }
)
USERS = pa.table({"user_id": [f"u{n}" for n in range(N)], "plan": ["free", "paid"] * (N // 2), "age": [30.5] * N})
KINDS: tuple[Any, ...] = (
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.bool_(), pa.null(),
    pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(10, 2),
    pa.decimal256(40, 0), pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns"), pa.time64("us"),
    pa.timestamp("us", "Europe/Berlin"), pa.duration("ms"), pa.dictionary(pa.int8(), pa.string()),
    pa.list_(pa.string()), pa.list_(pa.float64()), pa.large_list(pa.int64()), pa.list_(pa.float32(), 2),
    pa.list_(pa.list_(pa.int64())), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64()),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, "", "0", "007", "x", " x", "nan", True, 0, -1, 1.5, float("nan"), float("inf"), 2**63 - 1, -(2**63),
    [], ["a"], [None], [1.0, 2.0], [float("nan"), 1.0], {"a": 1}, b"\xff", decimal.Decimal("1.00"),
    datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1), "\x1b[31m", "a" * 10_000, *WORDS[:20],
)  # fmt: skip


def broken_table(table: pa.Table, rng: random.Random) -> pa.Table:
    """The table with one to three changes to a column's type, values or name, or to the number of rows."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        table = _changed(table, rng)
    return table


def _changed(table: pa.Table, rng: random.Random) -> pa.Table:
    if not table.num_columns:
        return table
    at = rng.randrange(table.num_columns)
    name = table.column_names[at]
    action = rng.randrange(8)
    if action == 0:
        return table.remove_column(at)
    if action == 1:
        return table.append_column(rng.choice([name, *WORDS[:9]]), table.column(at))
    if action == 2:
        return table.rename_columns([rng.choice((n.upper(), f" {n}", n)) for n in table.column_names])
    if action == 3:
        return table.slice(rng.randrange(table.num_rows + 1), rng.choice((0, 1, 5, N)))
    try:
        values = table.column(at).to_pylist()
    except (ValueError, OverflowError):  # nanoseconds and years that Python's own times lack
        return table
    return table.set_column(at, name, _column(values, rng))


def _column(values: list[Any], rng: random.Random) -> pa.Array:
    """The values in another type, or with some of them replaced by values of one kind."""
    if rng.random() < 0.5:
        value = rng.choice(VALUES)
        share = rng.choice((0.1, 0.5, 1.0))
        values = [value if rng.random() < share else old for old in values]
    for kind in (rng.choice(KINDS), None, pa.string()):
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError, UnicodeEncodeError):
            continue
    return pa.array([str(value).encode("utf-8", "replace").decode() for value in values])


def rewritten_table(path: Path, rng: random.Random) -> str:
    """Break a Parquet file where it lies, in its columns; returns what to show of it."""
    table = broken_table(pa.parquet.read_table(path), rng)
    try:
        pa.parquet.write_table(table, path)
    except pa.ArrowException:  # what Parquet lacks
        table = table.slice(0, 0).select([])
        pa.parquet.write_table(table, path)
    return about(path, table)


def about(path: Path, table: pa.Table) -> str:
    """What to show of a table: its types, and its first rows as text."""
    return f"{path.name}: {table.schema} {table.slice(0, 3).to_string(preview_cols=9)[:1500]}"


def read_tables(paths: Sequence[Path]) -> object:
    """The rows of a file of interactions, one of items and one of users, in this order."""
    interactions, items, users = paths
    return asked_all(
        lambda: read_interactions(interactions).histories(),
        lambda: read_items(items).num_rows,
        lambda: read_users(users),
    )
