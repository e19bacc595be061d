"""Parquet files of interactions, items and users: columns of every type, and broken bytes."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from harness import fuzz
from mutate import broken_bytes
from tables import INTERACTIONS, ITEMS, USERS, read_tables, rewritten_table

TABLES = {"interactions.parquet": INTERACTIONS, "items.parquet": ITEMS, "users.parquet": USERS}


def make(folder: Path) -> None:
    for name, table in TABLES.items():
        pa.parquet.write_table(table, folder / name)


def broken(folder: Path, rng: random.Random) -> str:
    path = folder / rng.choice(list(TABLES))
    if rng.random() < 0.3:
        content = broken_bytes(path.read_bytes(), rng)
        path.write_bytes(content)
        return f"{path.name}: {content[:2000]!r}"
    return rewritten_table(path, rng)


def read(folder: Path) -> object:
    return read_tables([folder / name for name in TABLES])


@pytest.mark.slow
def test_a_broken_parquet_file_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_parquet")
