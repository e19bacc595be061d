"""The Amazon sets of S3-Rec and TIGER through OctoRec's own loaders; see docs/quality.md for where they come from.

NAME.txt               one user a line: `user item item ...`, oldest first
NAME.attributes.json   item -> attribute ids (category, brand)
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions, read_sequences
from octorec.data.items import check_items
from octorec.data.splits import Example, leave_last_out
from octorec.data.tables import id_rank, one_array

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
    """Read a set; users: only the first so many, for a try."""
    interactions = read_sequences(folder / f"{name}.txt")
    items = _items(interactions, folder / f"{name}.attributes.json")
    if users is not None:
        rows = interactions.user_starts()[users]
        interactions = Interactions(interactions.table.slice(0, rows).combine_chunks())
    train, examples = leave_last_out(interactions, 2)
    return Shop(name, train, examples[0::2], examples[1::2], items)


def catalog_of(shop: Shop, codebook_sizes: tuple[int, ...], seed: int = 0) -> Catalog:
    """Semantic IDs from co-occurrence in the training part and from attributes; a tuple of its own for every item."""
    return build_catalog(shop.train, shop.items, codebook_sizes, seed, unique=True)


def _items(interactions: Interactions, attributes: Path) -> pa.Table:
    """Every item of the set, its attributes as named sets, in the order of the ids."""
    known = json.loads(attributes.read_text())
    column = one_array(interactions.table["item_id"])
    ranks = id_rank(column)
    ids: dict[int, str] = dict(zip(ranks.tolist(), column.to_pylist(), strict=True))
    items = [ids[rank] for rank in sorted(ids)]
    sets = [[str(attribute) for attribute in known.get(item, [])] for item in items]
    return check_items(pa.table({"item_id": items, "sets": pa.array(sets, pa.list_(pa.string()))}))
