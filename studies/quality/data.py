"""The Amazon sets of S3-Rec and TIGER through OctoRec's own loaders; see docs/quality.md for where they come from.

    NAME.txt               one user a line: `user item item ...`, oldest first
    NAME.attributes.json   item -> attribute ids (category, brand)

    python -m studies.quality.data --data FOLDER --out runs/catalogs

makes the sets' catalogs beforehand on one CPU core (a minute each), so that a GPU does not wait for them.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmarks.program import run
from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.data.items import check_items
from octorec.data.splits import Example, leave_last_out
from octorec.data.tables import id_rank, one_array
from studies.quality.sequences import read_sequences

SETS = ("beauty", "sports", "toys")


@dataclass(frozen=True)
class Shop:
    """One set. train: all but each user's last two items. validation, test: an example a user each, same order."""

    name: str
    train: Interactions
    validation: list[Example]
    test: list[Example]
    items: pa.Table

    @property
    def examples(self) -> list[Example]:
        """Both held-out items of every user."""
        return [example for pair in zip(self.validation, self.test, strict=True) for example in pair]


def read_shop(folder: Path, name: str, users: int | None = None) -> Shop:
    """Read a set; users: only so many are held out to be judged, for a try."""
    interactions = read_sequences(folder / f"{name}.txt")
    items = _items(interactions, folder / f"{name}.attributes.json")
    train, examples = leave_last_out(interactions, 2)
    return Shop(name, train, examples[0::2][:users], examples[1::2][:users], items)


def catalog_of(shop: Shop, codebook_sizes: tuple[int, ...], made: Path | None = None) -> Catalog:
    """Semantic IDs from co-occurrence in the training part and from attributes; a tuple of its own for every item.

    made: a folder of catalogs that were made before, by the name that `catalog_name` gives.
    """
    folder = None if made is None else made / catalog_name(shop.name, codebook_sizes)
    if folder is not None and folder.is_dir():
        return Catalog.load(folder)
    return build_catalog(shop.train, shop.items, codebook_sizes, seed=0, unique=True)


def catalog_name(name: str, codebook_sizes: tuple[int, ...]) -> str:
    return f"{name}-{'x'.join(map(str, codebook_sizes))}"


def _items(interactions: Interactions, attributes: Path) -> pa.Table:
    """Every item of the set, its attributes as named sets, in the order of the ids."""
    known = json.loads(attributes.read_text())
    column = one_array(interactions.table["item_id"])
    ranks = id_rank(column)
    ids: dict[int, str] = dict(zip(ranks.tolist(), column.to_pylist(), strict=True))
    items = [ids[rank] for rank in sorted(ids)]
    sets = [[str(attribute) for attribute in known.get(item, [])] for item in items]
    return check_items(pa.table({"item_id": items, "sets": pa.array(sets, pa.list_(pa.string()))}))


def main() -> None:
    from studies.quality.settings import CODEBOOK_SIZES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name in SETS:
        start = time.perf_counter()
        catalog = catalog_of(read_shop(options.data, name), CODEBOOK_SIZES)
        catalog.save(options.out / catalog_name(name, CODEBOOK_SIZES), force=True)
        print(f"{name}: {len(catalog):,} items, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    run(main)
