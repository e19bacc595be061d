"""Every Arrow type in every column: read alike from memory and from a file, or refused with an InputError."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.data.interactions import COLUMNS, Interactions, read_interactions
from octorec.data.items import COLUMNS as ITEM_COLUMNS
from octorec.data.items import check_items, read_items
from octorec.data.users import read_users
from octorec.errors import InputError

NUMBERS = [pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.decimal128(5, -2), pa.decimal256(70, 3)]
TIMES = [pa.date32(), pa.timestamp("s"), pa.timestamp("ns", "UTC"), pa.time32("s"), pa.time64("ns"), pa.duration("ms")]
TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.binary_view(), pa.binary(1), pa.json_()]
LISTS = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda kind: pa.list_(kind, 1)]
ARRAYS = [
    *(pa.array([0, 0], kind) for kind in (*NUMBERS, *TIMES)),
    *(pa.array(["1", "2"], kind) for kind in TEXTS),
    *(pa.array([[0], [0]], form(kind)) for form in LISTS for kind in (pa.int16(), pa.float16(), pa.timestamp("s"))),
    *(pa.array([["1"], ["2"]], form(kind)) for form in LISTS for kind in (pa.string_view(), pa.large_binary())),
    *(pa.array(values).dictionary_encode() for values in (["a", "b"], [1, 2], [1.5, 2.5])),
    pa.array(["a", "b"], pa.string_view()).dictionary_encode(),
    pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.uint64()), pa.array(["a", None])),
    pa.array([True, False]),
    pa.nulls(2),
    pa.array([[None], [None]]),
    pa.array([[], []], pa.list_(pa.int32())),
    pa.array([[], []], pa.list_(pa.int32(), 0)),
    pa.array([[[1]], [[2]]]),
    pa.array([[Decimal(1)], [Decimal(2)]]),
    pa.array([{"a": 1}, {"a": 2}]),
    pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
    pa.array([(1, 2, 3), (1, 2, 3)], pa.month_day_nano_interval()),
    pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["a", "b"])),
    pa.array([b"a" * 16, b"b" * 16], pa.uuid()),
    pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 2))),
    pa.array([float("nan"), float("inf")]),
    pa.array([1e300, -1e300]),
]


def outcome(read: Callable[[], Any]) -> Any:
    """What was read, or None where it was refused."""
    try:
        return read()
    except InputError:
        return None


def written(table: pa.Table, path: Path) -> bool:
    try:
        pyarrow.parquet.write_table(table, path)
    except (pa.ArrowException, OSError):  # Parquet has no such type
        return False
    return True


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.type))
def test_a_column_of_any_type_is_read_or_refused(array: pa.Array, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for name in COLUMNS:
        table = pa.table({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2]} | {name: array})
        found = outcome(lambda table=table: Interactions.from_table(table).table)
        if written(table, path):
            assert outcome(lambda: read_interactions(path).table) == found
    for name in ITEM_COLUMNS:
        table = pa.table({"item_id": ["x", "y"]} | {name: array})
        found = outcome(lambda table=table: check_items(table))
        if written(table, path):
            assert outcome(lambda: read_items(path)) == found
    if written(pa.table({"user_id": ["x", "y"], "f": array}), path):
        for kinds in ({}, {"f": "category"}, {"f": "number"}):
            fields = [value for user in (outcome(lambda k=kinds: read_users(path, k)) or {}).values() for value in user]
            assert set(fields) <= {"f"}
