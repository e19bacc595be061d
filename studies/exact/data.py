"""The three shops of the proof of quality as one: interactions.csv, its catalog, config.json, and moe.json beside it.

    python -m studies.exact.data --data FOLDER --out runs/union

A user or an item of Beauty is called b12, one of Sports s12, one of Toys t12. The position in a history is its time.
The catalog has 3 x 8192 codes unless others are asked for, and a tuple for every item; it comes from attributes, and
from co-occurrence without the two newest items of each user. A few minutes on two CPU cores.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from benchmarks.program import run
from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import COLUMNS, Interactions
from octorec.errors import InputError
from octorec.files import json_text
from octorec.models.onerec_config import OneRecConfig
from octorec.models.presets import preset
from octorec.output.write import new_file
from studies.quality.data import SETS, Shop, read_shop

CODEBOOK_SIZES = (8192, 8192, 8192)
HOLD_OUT = 2  # newest items of each user: the older one is for validation, the newest is the test
CONTEXT = 20  # items of a history that the model reads


def union(shops: Sequence[Shop]) -> tuple[Interactions, pa.Table]:
    """Return all interactions of the shops, held-out ones too, and their items with attributes as named sets."""
    tables, items = [], []
    for shop in shops:
        table = _whole(shop)
        tables.append(
            pa.table([*(_called(shop.name, table[name]) for name in COLUMNS[:2]), table["timestamp"]], COLUMNS)
        )
        sets = [[f"{shop.name[0]}{one}" for one in row] for row in shop.items["sets"].to_pylist()]
        ids = _called(shop.name, shop.items["item_id"])
        items.append(pa.table({"item_id": ids, "sets": pa.array(sets, pa.list_(pa.string()))}))
    return Interactions.from_table(pa.concat_tables(tables)), pa.concat_tables(items)


def shop_of(identifier: str) -> str:
    """Return the shop that a user or an item of the union comes from."""
    for name in SETS:
        if name[0] == identifier[0]:
            return name
    raise InputError("user_id", identifier, f"must begin as one of {', '.join(SETS)} does: see studies.exact.data")


def _whole(shop: Shop) -> pa.Table:
    """The interactions of a shop with those that were held out."""
    users: list[str] = []
    items: list[str] = []
    times: list[int] = []
    for example in shop.test:
        history = [*example.history, example.target]
        users += [example.user_id] * len(history)
        items += history
        times += range(len(history))
    return pa.table([pa.array(users), pa.array(items), pa.array(times)], COLUMNS)


def _called(name: str, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(name[0], ids, "")


def dimensions(catalog: Catalog) -> OneRecConfig:
    """Return the dense 0.5B of the paper for a catalog's codes."""
    sizes, fingerprint = catalog.codebook_sizes, catalog.fingerprint
    small = {"max_context": CONTEXT, "recency_buckets": CONTEXT}
    return preset("0.5b", codebook_sizes=sizes, codebook_fingerprint=fingerprint, **small)


def moe_form(dense: OneRecConfig) -> OneRecConfig:
    """Return the mixture of experts beside a dense model: as wide and deep, and as many parameters take part in a row.

    A row goes to three of 16 routed experts and to a shared one, each a quarter of the dense FFN; the first two blocks
    stay dense, as in the paper's.
    """
    return dataclasses.replace(dense, n_dense=2, n_expert=16, n_shared=1, top_k=3, d_expert=dense.ffn_width // 4)


def write(shops: Sequence[Shop], out: Path, codebook_sizes: Sequence[int] = CODEBOOK_SIZES) -> Catalog:
    """Write `interactions.csv`, `catalog/`, `config.json` and `moe.json` into `out`, over what stands there."""
    interactions, items = union(shops)
    out.mkdir(parents=True, exist_ok=True)
    with new_file(out / "interactions.csv") as scratch:
        options = pyarrow.csv.WriteOptions(quoting_style="none")
        pyarrow.csv.write_csv(interactions.table, scratch, options)
    catalog = build_catalog(interactions, items, codebook_sizes, seed=0, unique=True, progress=_say, hold_out=HOLD_OUT)
    catalog.save(out / "catalog", force=True)
    dense = dimensions(catalog)
    for name, model in (("config.json", dense), ("moe.json", moe_form(dense))):
        with new_file(out / name) as scratch:
            scratch.write_text(json_text(model.to_dict(), indent=1) + "\n")
    return catalog


def _say(done: int, total: int, what: str = "") -> None:
    print(f"{done}/{total} {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--codebook-sizes", type=int, nargs="+", default=CODEBOOK_SIZES)
    options = parser.parse_args()
    start = time.perf_counter()
    catalog = write([read_shop(options.data, name) for name in SETS], options.out, options.codebook_sizes)
    print(f"{len(catalog):,} items, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    run(main)
