"""A change makes a new version of a catalog: items are added or changed, withdrawn, restored, all of it or nothing.

Letters: m items that are named, n of the catalog, L levels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from octorec.catalog.build import restore, withdraw
from octorec.catalog.catalog import Catalog
from octorec.catalog.upsert import upsert
from octorec.data.items import item_ids
from octorec.errors import InputError

COMPARED = 4096  # items at a time, so that other threads (a server's) go on


@dataclass
class Change:
    """A Change counts how many of the named items were added, changed in title, sets, codes or counts (recoded: in
    codes), withdrawn, restored, and left as they were.
    """

    added: int = 0
    changed: int = 0
    recoded: int = 0
    withdrawn: int = 0
    restored: int = 0
    unchanged: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in asdict(self).items() if count) or "nothing named"


def change_items(
    catalog: Catalog,
    upserts: pa.Table | None = None,
    withdrawn: Sequence[str] = (),
    restored: Sequence[str] = (),
    source: str = "items",
) -> tuple[Catalog, Change]:
    """Return a new version of `catalog`, and what changed in it: first `upserts` (see `upsert`), then the other two.

    An id of `withdrawn` or `restored` that the catalog lacks then, or that is in both, is an InputError. source: the
    name of `upserts` in errors.
    """
    refuse_both(withdrawn, restored)
    after = catalog if upserts is None else upsert(catalog, upserts, source)
    after = withdraw(after, withdrawn, "withdraw") if withdrawn else after
    after = restore(after, restored, "restore") if restored else after
    named = [] if upserts is None else item_ids(upserts, source)
    return after, compare(catalog, after, [*named, *withdrawn, *restored])


def refuse_both(withdrawn: Sequence[str], restored: Sequence[str]) -> None:
    """Raise InputError for an item that is to be withdrawn and restored."""
    both = sorted(set(withdrawn) & set(restored))
    if both:
        raise InputError("withdraw", both[0], "is to be restored too: name it in one of the two")


def compare(before: Catalog, after: Catalog, named: Sequence[str]) -> Change:
    """Return what changed of the items with the ids `named`, each counted once."""
    change = Change()
    ids = list(dict.fromkeys(named))
    for old, new in zip(_rows(before, ids), _rows(after, ids), strict=True):
        if new is None:  # an item that this version lacks, of a server that withdraws it from every version
            change.unchanged += 1
            continue
        was_live = old is None or old["live"]
        differs = old is not None and {**old, "live": None} != {**new, "live": None}
        change.added += old is None
        change.changed += differs
        change.recoded += old is not None and old["codes"] != new["codes"]
        change.withdrawn += was_live and not new["live"]
        change.restored += new["live"] and not was_live
        change.unchanged += old is not None and not differs and old["live"] == new["live"]
    return change


def _rows(catalog: Catalog, ids: Sequence[str]) -> Iterator[dict | None]:
    """Yield each id's row as Python values; None where the catalog lacks it."""
    for start in range(0, len(ids), COMPARED):
        places = np.array([catalog.index.get(item_id, -1) for item_id in ids[start : start + COMPARED]])
        rows = iter(catalog.items.take(places[places >= 0]).to_pylist())
        yield from (next(rows) if place >= 0 else None for place in places)
