"""The answer to a request that tells nothing of its user: the items that were met most often."""

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.engine.items import ROWS, ItemFilter, returnable

FIRST_ROWS = 1024  # items looked at first; then twice as many each time


def most_popular(catalog: Catalog, chosen: ItemFilter, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `k` items with the most interactions of those that may be returned: indices [n], scores [n] float32.

    Equal ones come in the catalog's order. A score is the log of the item's share of all interactions, each
    item's counted once more, so that it is finite also where an item was never met. The catalog must have counts.
    """
    order, counts = catalog.popular_order, catalog.interactions
    assert order is not None
    assert counts is not None
    items, start, rows = np.zeros(0, np.int64), 0, FIRST_ROWS
    while len(items) < k and start < len(order):
        part = order[start : start + rows]
        items = np.append(items, part[returnable(catalog, part, chosen)])
        start, rows = start + rows, min(2 * rows, ROWS)
    items = items[:k]
    return items, np.log((counts[items] + 1) / (catalog.n_interactions + len(catalog))).astype(np.float32)
