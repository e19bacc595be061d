"""Count how often each item was met: these counts answer a request that tells nothing of its user."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.catalog.catalog import Catalog
from octorec.catalog.columns import COUNTS
from octorec.data.interactions import Interactions
from octorec.data.tables import one_array


def with_counts(items: pa.Table, interactions: Interactions) -> pa.Table:
    """Return `items` with the column interactions: how often each is met in `interactions`; a column of
    that name is replaced.
    """
    places = pc.index_in(interactions.table["item_id"], one_array(items["item_id"])).drop_null()
    counts = np.bincount(places.to_numpy(), minlength=items.num_rows)
    if COUNTS in items.column_names:
        items = items.drop_columns([COUNTS])
    return items.append_column(COUNTS, pa.array(counts, pa.int64()))


def counted(catalog: Catalog, interactions: Interactions) -> Catalog:
    """Return a version of `catalog` with counts of `interactions`."""
    return replace(catalog, items=with_counts(catalog.items, interactions).combine_chunks())
