"""A catalog of a million items: the real ones, and made-up neighbours of theirs.

A neighbour has the codes of a real item but for the last one, or the last two: so a model's probabilities are spread
over more items below the prefixes that it knows.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from octorec.catalog.catalog import Catalog

BLOCK = 2**18  # neighbours that are drawn at a time


def with_neighbours(catalog: Catalog, size: int, seed: int = 0) -> Catalog:
    """Return a catalog of `size` items, each with a tuple of its own. Real items keep ids and codes, made-up ones are
    called `~0`, `~1` and so on: half of them differ from a real item in the last code, half in the last two."""
    assert catalog.n_sharing == 0, "a tuple has to be an item"
    sizes = catalog.codebook_sizes
    taken = _numbers(catalog.codes, sizes)
    rng = np.random.default_rng(seed)
    made = np.zeros(0, np.int64)
    while (missing := size - len(taken) - len(made)) > 0:
        codes = catalog.codes[rng.integers(len(catalog), size=min(BLOCK, 2 * missing))].astype(np.int64)
        codes[:, -1] = rng.integers(sizes[-1], size=len(codes))
        two = rng.random(len(codes)) < 0.5
        codes[two, -2] = rng.integers(sizes[-2], size=int(two.sum()))
        new = np.setdiff1d(_numbers(codes, sizes), np.concatenate([taken, made]))
        made = np.concatenate([made, rng.permutation(new)[:missing]])
    codes = np.stack(np.unravel_index(made, sizes), 1).astype(np.int32)
    ids = [*catalog.item_ids, *(f"~{number}" for number in range(len(made)))]
    every = np.concatenate([catalog.codes, codes])
    offsets = np.arange(len(every) + 1, dtype=np.int32) * every.shape[1]
    items = pa.table({"item_id": ids, "codes": pa.ListArray.from_arrays(offsets, every.ravel())})
    return Catalog.of_items(items, sizes, catalog.codebook, unique=True)


def _numbers(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """A number for each tuple [n, L]: [n] int64."""
    return np.ravel_multi_index(tuple(codes.T.astype(np.int64)), tuple(sizes))
