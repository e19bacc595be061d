"""Tell whether two catalogs have codes of one codebook: by their fingerprints, or by the items that both have."""

import numpy as np
import pyarrow.compute as pc

from octorec.catalog.catalog import Catalog
from octorec.data.tables import one_array

COMMON = 10  # items that must be in both, or half of the smaller catalog where that is fewer


def difference(catalog: Catalog, known: Catalog) -> str | None:
    """Return why the codes of `catalog` and of `known` are not of one codebook, in words; None where they are.

    Equal fingerprints say that they are; two codebooks with other fingerprints are not one. Of an imported catalog no
    codebook is
    known: every item that both catalogs have must then have the same codes, and enough items must be in both.
    """
    sizes = catalog.codebook_sizes, known.codebook_sizes
    if sizes[0] != sizes[1]:
        return f"its codebook_sizes are {sizes[0]}, not {sizes[1]}"
    if catalog.fingerprint == known.fingerprint:
        return None
    if catalog.codebook and known.codebook:
        return "it has another codebook"
    rows = pc.index_in(one_array(catalog.items["item_id"]), one_array(known.items["item_id"]))
    here = np.flatnonzero(np.asarray(rows.is_valid()))
    there = np.asarray(rows.drop_null()).astype(np.int64)
    needed = min(COMMON, -(-min(len(catalog), len(known)) // 2))
    moved = np.flatnonzero((catalog.codes[here] != known.codes[there]).any(1))
    if len(moved):
        at = moved[0]
        item, codes = catalog.item_ids[here[at]], catalog.codes[here[at]].tolist()
        more = f" (and {len(moved) - 1} more)" if len(moved) > 1 else ""
        return f"item {item[:40]!r}{more} has the codes {codes} in it, and had {known.codes[there[at]].tolist()}"
    if len(here) < needed:
        return f"only {len(here)} of its items were known, and at least {needed} with the codes they had are needed"
    return None
