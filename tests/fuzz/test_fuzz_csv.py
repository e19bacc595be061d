"""CSV files of interactions, items and users."""

import random
from pathlib import Path

import pyarrow.csv
import pytest
from harness import fuzz
from mutate import WORDS, broken_bytes
from tables import INTERACTIONS, ITEMS, USERS, read_tables

NAMES = ("interactions.csv", "items.csv", "users.csv")


def make(folder: Path) -> None:
    for name, table in zip(NAMES, (INTERACTIONS, ITEMS.drop_columns(["vector"]), USERS), strict=True):
        pyarrow.csv.write_csv(table, folder / name)


def broken(folder: Path, rng: random.Random) -> str:
    path = folder / rng.choice(NAMES)
    content = path.read_bytes()
    action = rng.randrange(5)
    if action == 0:
        lines = content.split(b"\n")
        at = rng.randrange(len(lines))
        cells = lines[at].split(b",")
        cells[rng.randrange(len(cells))] = rng.choice(WORDS).encode("utf-8", "replace")
        lines[at] = b",".join(cells)
        content = b"\n".join(lines)
    elif action == 1:
        content = content.replace(b",", rng.choice((b";", b"\t", b"|", b",,", b"")))
    elif action == 2:
        content = content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"", b"\n,\n")))
    elif action == 3:
        content = content.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-32-le", "cp037")))
    else:
        content = broken_bytes(content, rng)
    path.write_bytes(content)
    return f"{path.name}: {content[:2000]!r}"


def read(folder: Path) -> object:
    return read_tables([folder / name for name in NAMES])


@pytest.mark.slow
def test_a_broken_csv_file_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_csv")
