"""Rows that are the same are found by integers instead of by Python's objects."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def encoded(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Return a column's distinct values, null among them, and the place of each row's value in them [n] int64."""
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    made = chunked.dictionary_encode(null_encoding="encode")
    if not made.num_chunks:
        return np.empty(0, np.int64), pa.array([], chunked.type)
    codes = np.concatenate([np.asarray(chunk.indices) for chunk in made.chunks]).astype(np.int64)
    return codes, made.chunk(made.num_chunks - 1).dictionary


def row_codes(columns: Sequence[pa.Array | pa.ChunkedArray]) -> np.ndarray:
    """Return an integer for each row [n] int64, equal where all `columns` are; null equals null."""
    codes, size = encoded(columns[0])[0], 2**31
    for column in columns[1:]:
        more, values = encoded(column)
        if size * (len(values) + 1) >= 2**62:
            codes = np.unique(codes, return_inverse=True)[1]
            size = int(codes.max(initial=0)) + 1
        codes, size = codes * (len(values) + 1) + more, size * (len(values) + 1)
    return codes


def firsts(codes: np.ndarray, *order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows [n] sorted by code, those of one code by `order`, then as they come; and where
    each code begins in it.

    So `rows[starts]` is each code's first row.
    """
    rows = np.lexsort((*reversed(order), codes))
    return rows, np.flatnonzero(np.diff(codes[rows], prepend=codes[rows[:1]] - 1))
