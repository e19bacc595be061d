"""Catalog folders: catalog.json, items.parquet, codebook.safetensors, attributes.parquet; and .index.json of others."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from checkpoints import asked_all, rewritten_json
from harness import fuzz
from mutate import broken_bytes
from tables import rewritten_table

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.catalog.index_json import read_index
from octorec.data.items import check_items


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


def broken(folder: Path, rng: random.Random) -> str:
    files = [*sorted((folder / "input").iterdir()), folder / "input" / "catalog.json", folder / "x.index.json"]
    path = rng.choice(files)
    if path.suffix == ".json":
        return f"{path.name}: {rewritten_json(path, rng)}"
    if path.suffix == ".parquet" and rng.random() < 0.6:
        return rewritten_table(path, rng)
    content = broken_bytes(path.read_bytes(), rng)
    path.write_bytes(content)
    return f"{path.name}: {content[:1000]!r}"


def read(folder: Path) -> object:
    return asked_all(lambda: len(Catalog.load(folder / "input")), lambda: len(read_index(folder / "x.index.json")))


@pytest.mark.slow
def test_a_broken_catalog_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_catalog")
