"""The values of an item table's column are read as Python objects, and as the JSON that a catalog's version is hashed
from.
"""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

ROWS = 4096  # read in about a millisecond


def values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column as Python values."""
    return [value for part in _parts(column) for value in part]


def as_json(column: pa.ChunkedArray) -> bytes:
    """Return the json.dumps of `values`."""
    return f"[{', '.join(json.dumps(part)[1:-1] for part in _parts(column))}]".encode()


def _parts(column: pa.ChunkedArray) -> Iterator[list[Any]]:
    """Yield some rows at a time, so that other threads (a server's) go on while millions are read."""
    for start in range(0, len(column), ROWS):
        yield column.slice(start, ROWS).to_pylist()
