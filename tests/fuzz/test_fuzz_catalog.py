"""Catalog folders: catalog.json, items.parquet, codebook.safetensors, attributes.parquet; and files of others."""

import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from checkpoints import asked_all, rewritten_json
from harness import fuzz
from mutate import broken_bytes
from tables import rewritten_table

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.catalog.foreign import read as read_foreign
from octorec.catalog.index_json import read_index
from octorec.data.items import check_items

FOREIGN = ("sid2pid.json", "items.jsonl", "info.txt", "pid2sid.parquet")
LEVELS = [np.arange(2), np.arange(2, 5)]


def make(folder: Path) -> None:
    rng = np.random.default_rng(0)
    items = {
        "item_id": [f"i{n}" for n in range(30)],
        "title": [f"Film of the year {n % 5}" for n in range(30)],
        "sets": [["even"] if n % 2 == 0 else [] for n in range(30)],
        "vector": rng.normal(size=(30, 4)).tolist(),
    }
    build_catalog(None, check_items(pa.table(items)), (4, 3, 2)).save(folder / "input")
    index = {str(n): [f"<a_{n % 4}>", f"<b_{n % 3}>", f"<c_{n % 2}>"] for n in range(12)}
    (folder / "x.index.json").write_text(json.dumps(index))
    entries = [{"pid": n, "count": n % 5, "count_after_downsample": n % 3} for n in range(1, 25)]
    (folder / FOREIGN[0]).write_text(json.dumps({str(n * 8192): entries[3 * n : 3 * n + 3] for n in range(8)}))
    lines = [{"item_id": n, "token_ids": [n % 2, 2 + n % 3], "metadata": {"title": f"{n}"}} for n in range(12)]
    (folder / FOREIGN[1]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / FOREIGN[2]).write_text("".join(f"<a_{n % 4}><b_{n}>\tTitle {n}\t{n}\n" for n in range(12)))
    pyarrow.parquet.write_table(
        pa.table({"pid": list(range(1, 13)), "sid": [[n, 1, 2] for n in range(12)]}), folder / FOREIGN[3]
    )


def broken(folder: Path, rng: random.Random) -> str:
    files = [*sorted((folder / "input").iterdir()), folder / "input" / "catalog.json", folder / "x.index.json"]
    files += [folder / name for name in FOREIGN]
    path = rng.choice(files)
    if path.suffix == ".json":
        return f"{path.name}: {rewritten_json(path, rng)}"
    if path.suffix == ".parquet" and rng.random() < 0.6:
        return rewritten_table(path, rng)
    content = broken_bytes(path.read_bytes(), rng)
    path.write_bytes(content)
    return f"{path.name}: {content[:1000]!r}"


def read(folder: Path) -> object:
    foreign = [partial(_read_foreign, folder / name) for name in FOREIGN]
    own = lambda: len(Catalog.load(folder / "input")), lambda: len(read_index(folder / "x.index.json"))
    return asked_all(*own, *foreign)


def _read_foreign(path: Path) -> int:
    return len(read_foreign(path, levels=LEVELS if path.name == FOREIGN[1] else None))


@pytest.mark.slow
def test_a_broken_catalog_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_catalog")
