"""Named sets of items, such as a genre or a region, as bits.

Letters: n items, words = ceil(named sets / 64).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.tables import one_array
from octorec.errors import InputError

BITS_BYTES = 2**31  # most bytes that `set_bits` may take


def distinct_sets(sets: pa.ChunkedArray) -> tuple[str, ...]:
    """Return all names in a `sets` column, in ascending order."""
    return tuple(sorted(pc.unique(one_array(sets).flatten()).to_pylist()))


def membership(sets: pa.ChunkedArray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return which item is in which of `names`: rows and positions in `names`, as long as there are memberships."""
    column = one_array(sets)
    found = pc.index_in(column.flatten(), pa.array(names, pa.string()))
    known = np.asarray(found.is_valid())
    return np.asarray(pc.list_parent_indices(column))[known], np.asarray(found.drop_null()).astype(np.int64)


def set_bits(sets: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray | None:
    """Return [n, words] int64: bit s % 64 of word s // 64 says that the item is in set s. None when there are no names.

    More than BITS_BYTES are an InputError.
    """
    if not names:
        return None
    shape = len(sets), -(-len(names) // 64)
    if 8 * shape[0] * shape[1] > BITS_BYTES:
        most = BITS_BYTES // (8 * len(sets)) * 64
        allowed = f"at most {most:,} of so many items: their bits may take {BITS_BYTES / 2**30:g} GiB"
        raise InputError("items: column sets", f"{len(names):,} named sets of {len(sets):,} items", allowed)
    bits = np.zeros(shape, np.uint64)
    rows, places = membership(sets, names)
    np.bitwise_or.at(bits, (rows, places // 64), np.uint64(1) << (places % 64).astype(np.uint64))
    return bits.view(np.int64)
