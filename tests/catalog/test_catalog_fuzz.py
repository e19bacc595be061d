"""Damaged tables and catalogs: read, or refused with an InputError; no traceback, no hang, no large memory."""

import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.catalog.index_json import read_index
from octorec.data.interactions import read_interactions
from octorec.data.items import read_items
from octorec.data.users import read_users
from octorec.errors import InputError
from studies.quality.sequences import read_sequences

PIECES = [b'"', b"\n", b"\r", b",", b";", b"\0", b"\xff", b"\xef\xbb\xbf", b"-1", b"1e999", b"NaN", b"null", b"[", b"{"]
PIECES += [b"}", b"9" * 30, b"true", b'""', b"\x15", b"\x7f" * 8]
LONGEST = 20.0  # seconds of processor time a file
MEMORY = 500  # MB that all files together may add
CATALOG = ["catalog.json", "items.parquet", "codebook.safetensors", "attributes.parquet"]
READERS: dict[str, Callable[[Path], Any]] = {
    "log.csv": read_interactions,
    "log.parquet": read_interactions,
    "users.csv": read_users,
    "items.parquet": read_items,
    "log.txt": read_sequences,
    "x.index.json": read_index,
    **{f"catalog/{name}": lambda path: Catalog.load(path.parent) for name in CATALOG},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz")
    vectors = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    columns = {"item_id": [f"i{n}" for n in range(30)], "title": ["a title"] * 30, "sets": [["a", "b"]] * 30}
    items = pa.table({**columns, "vector": list(vectors)})
    pyarrow.parquet.write_table(items, path / "items.parquet")
    build_catalog(None, items, (4, 4)).save(path / "catalog")
    log = pa.table({"user_id": ["a", "b"] * 20, "item_id": list(range(40)), "timestamp": list(range(40))})
    pyarrow.parquet.write_table(log, path / "log.parquet")
    (path / "log.csv").write_text("user_id,item_id,timestamp\n" + "".join(f'"u{n}","i,{n}",{n}\n' for n in range(20)))
    (path / "users.csv").write_text("user_id,age,zip\n" + "".join(f"u{n},{n},0{n}\n" for n in range(20)))
    (path / "log.txt").write_text("".join(f"{n} 1 2 3\n" for n in range(9)))
    (path / "x.index.json").write_text(json.dumps({str(n): [f"<a_{n}>", f"<b_{n % 3}>"] for n in range(20)}))
    return path


def damaged(whole: bytes, dice: random.Random) -> bytes:
    content = bytearray(whole)
    for _ in range(dice.choice([1, 1, 1, 2, 5, 20])):
        at = dice.randrange(len(content) + 1)
        match dice.randrange(4):
            case 0:
                content[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del content[at : at + dice.choice([1, 2, 8, 100])]
            case 2:
                content[at:at] = dice.choice(PIECES)
            case 3:
                content[at:at] = content[at : at + dice.choice([1, 5, 50])]
    return bytes(content)


def fuzz(path: Path, seeds: Iterator[int]) -> None:
    whole, before = path.read_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for seed in seeds:
            path.write_bytes(damaged(whole, random.Random(seed)))
            start = time.process_time()
            try:
                READERS[f"{path.parent.name}/{path.name}" if path.parent.name == "catalog" else path.name](path)
            except InputError:
                pass
            except BaseException as error:
                raise AssertionError(f"{path.name}, seed {seed}") from error
            assert time.process_time() - start < LONGEST, f"{path.name}, seed {seed}"
    finally:
        path.write_bytes(whole)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY * 1000


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str, folder: Path) -> None:
    fuzz(folder / name, iter(range(40)))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused(name: str, folder: Path) -> None:
    end, first = time.monotonic() + 4, time.time_ns()
    fuzz(folder / name, iter(lambda: first + int(time.monotonic() * 1e6) if time.monotonic() < end else None, None))
