"""JSON lines of interactions, items and users, plain and in gzip, and the flags that say how a table is written."""

import gzip
import json
import random
from pathlib import Path

import pytest
from harness import fuzz
from mutate import WORDS, broken_bytes, mutated
from tables import INTERACTIONS, ITEMS, USERS, read_tables

NAMES = ("interactions.jsonl", "items.jsonl.gz", "users.jsonl")


def make(folder: Path) -> None:
    for name, table in zip(NAMES, (INTERACTIONS, ITEMS, USERS), strict=True):
        write(folder / name, "".join(f"{json.dumps(row)}\n" for row in table.to_pylist()).encode())


def write(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def broken(folder: Path, rng: random.Random) -> str:
    path = folder / rng.choice(NAMES)
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    action = rng.randrange(5)
    if action == 0:
        content = broken_bytes(content, rng)
    elif action == 1:
        content = content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"", b",\n")))
    else:
        rows = [json.loads(line) for line in content.splitlines()]
        at = rng.randrange(len(rows))
        rows[at] = mutated(rows[at], rng)
        if action == 2:
            rows = [{rng.choice(WORDS) if rng.random() < 0.1 else key: row[key] for key in row}
                    for row in rows if isinstance(row, dict)]  # fmt: skip
        content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    write(path, content)
    if path.suffix == ".gz" and rng.random() < 0.2:
        path.write_bytes(broken_bytes(path.read_bytes(), rng))
    return f"{path.name}: {content[:2000]!r}"


def read(folder: Path) -> object:
    return read_tables([folder / name for name in NAMES])


@pytest.mark.slow
def test_broken_json_lines_are_refused_in_one_line() -> None:
    fuzz("test_fuzz_jsonl")
