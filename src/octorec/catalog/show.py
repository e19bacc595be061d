"""Show one item of a catalog to people: what it is called, its codes, and the items that share most of them."""

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.catalog.columns import COUNTS
from octorec.errors import InputError

NAMED = 5  # items that an error names
COMPARED = 20_000  # ids that an unknown one is compared with


@dataclass(frozen=True)
class Neighbour:
    """A Neighbour is another item.

    shared: how many of its codes, from the first one on, are those of the item that is shown.
    """

    item_id: str
    title: str
    shared: int


@dataclass(frozen=True)
class AboutItem:
    """An AboutItem is what a catalog says about an item.

    interactions: how many it is met in, None where the catalog keeps no counts. sharing: for each level, how many other
    items have its codes up to there.
    """

    item_id: str
    title: str
    codes: list[int]
    sets: list[str]
    live: bool
    interactions: int | None
    sharing: list[int]
    neighbours: list[Neighbour]

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield lines for people."""
        yield f"item {self.item_id}: {self.title or 'without a title'}"
        yield f"codes        {', '.join(map(str, self.codes))}"
        yield f"sets         {', '.join(self.sets) or 'none'}"
        yield f"state        {'live' if self.live else 'withdrawn: never recommended, known in histories'}"
        if self.interactions is not None:
            yield f"met          in {self.interactions:,} interactions"
        for level, count in enumerate(self.sharing, 1):
            yield f"shared       the first {level} of {len(self.codes)} codes: by {count:,} other items"
        for other in self.neighbours:
            title = f": {other.title}" if other.title else ""
            yield f"neighbour    {other.item_id}{title} (shares {other.shared} of {len(self.codes)} codes)"


def about_item(catalog: Catalog, place: int, neighbours: int) -> AboutItem:
    """Return what `catalog` says about the item at `place` in code order, with at most `neighbours` other items.

    They are those that share the most codes, and of these the ones whose next codes are nearest in code order.
    """
    shared = (catalog.codes == catalog.codes[place]).cumprod(axis=1).sum(axis=1)  # [n]: levels that agree
    others = np.delete(np.arange(len(catalog)), place)
    nearest = others[np.lexsort((np.abs(others - place), -shared[others]))]
    near = [place for place in nearest[:neighbours].tolist() if shared[place]]
    counted = COUNTS in catalog.items.column_names
    levels = range(1, catalog.codes.shape[1] + 1)
    return AboutItem(
        catalog.item_ids[place],
        catalog.titles[place],
        catalog.codes[place].tolist(),
        catalog.sets[place],
        bool(catalog.live[place]),
        catalog.items[COUNTS][place].as_py() if counted else None,
        [int((shared >= level).sum()) - 1 for level in levels],
        [Neighbour(catalog.item_ids[other], catalog.titles[other], int(shared[other])) for other in near],
    )


def find_item(catalog: Catalog, text: str) -> int:
    """Return the place of the item whose id is `text`, or else of the only one whose title holds it, in any case.

    Otherwise an InputError names items whose titles hold it, or ids that are like it.
    """
    place = catalog.index.get(text)
    if place is not None:
        return place
    wanted = text.casefold().strip()
    titled = [place for place, title in enumerate(catalog.titles) if wanted and wanted in title.casefold()]
    if len(titled) == 1:
        return titled[0]
    if titled:
        some = ", ".join(f"{catalog.item_ids[place]} ({catalog.titles[place]})" for place in titled[:NAMED])
        raise InputError("item", text, f"no such id, and {len(titled):,} titles hold it: {some}")
    alike = ", ".join(map(repr, _alike(catalog.item_ids, text)))
    like = f"most like it: {alike}" if alike else f"they are such as {catalog.item_ids[0]!r}"
    raise InputError("item", text, f"no such id or title among {len(catalog):,} items; {like}")


def _alike(ids: list[str], text: str) -> list[str]:
    """Return some of `ids` that are like `text`: first those that differ in case, spaces or leading zeros alone."""
    plain = _plain(text)
    same = [item_id for item_id in ids if _plain(item_id) == plain]
    near = [item_id for item_id in ids if abs(len(item_id) - len(text)) <= 1][:COMPARED]
    return list(dict.fromkeys(same + difflib.get_close_matches(text, near, NAMED)))[:NAMED]


def _plain(item_id: str) -> str:
    return item_id.strip().casefold().lstrip("0").removesuffix(".0")
