"""Named sets of items, such as a genre or a region, as bits.

Letters: n items, words = ceil(named sets / 64).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.tables import one_array


def distinct_sets(sets: pa.ChunkedArray) -> tuple[str, ...]:
    """All names in a `sets` column, in ascending order."""
    return tuple(sorted(pc.unique(one_array(sets).flatten()).to_pylist()))


def membership(sets: pa.ChunkedArray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which item is in which of `names`: rows and positions in `names`, as long as there are memberships."""
    column = one_array(sets)
    found = pc.index_in(column.flatten(), pa.array(names, pa.string()))
    known = np.asarray(found.is_valid())
    return np.asarray(pc.list_parent_indices(column))[known], np.asarray(found.drop_null()).astype(np.int64)


def set_bits(sets: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray | None:
    """[n, words] int64: bit s % 64 of word s // 64 says that the item is in set s. None when there are no names."""
    if not names:
        return None
    bits = np.zeros((len(sets), -(-len(names) // 64)), np.uint64)
    rows, places = membership(sets, names)
    np.bitwise_or.at(bits, (rows, places // 64), np.uint64(1) << (places % 64).astype(np.uint64))
    return bits.view(np.int64)
