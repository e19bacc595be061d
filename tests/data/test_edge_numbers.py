"""Numbers at the end of what a type tells apart: ids and times are read exactly, or refused."""

from decimal import Decimal

import pyarrow as pa
import pytest

from octorec.data.interactions import Interactions
from octorec.errors import InputError


def read(**columns: pa.Array) -> list[dict]:
    one = {"user_id": ["u"] * 2, "item_id": ["a", "b"], "timestamp": [1, 2]}
    return Interactions.from_table(pa.table({**one, **columns})).table.to_pylist()


@pytest.mark.parametrize(("kind", "exact"), [(pa.float16(), 2**11), (pa.float32(), 2**24), (pa.float64(), 2**53)])
def test_a_float_that_stands_for_two_whole_numbers_is_no_id(kind: pa.DataType, exact: int) -> None:
    below = pa.array([exact - 1, exact - 2], pa.int64()).cast(kind)
    assert [row["item_id"] for row in read(item_id=below)] == [str(exact - 1), str(exact - 2)]
    with pytest.raises(InputError, match="in row 1'; must hold text or integers"):
        read(item_id=pa.array([exact + 1, 5], pa.int64()).cast(kind, safe=False))


def test_decimal_times_that_are_whole_keep_their_order() -> None:
    nanoseconds = pa.array([Decimal("1700000000123456789.00"), Decimal("1700000000123456788.00")])
    assert [row["item_id"] for row in read(timestamp=nanoseconds)] == ["b", "a"]
    assert read(timestamp=nanoseconds)[0]["timestamp"] == 1700000000123456788
    parts = pa.array([Decimal("1.50"), Decimal("1.25")])
    assert [row["timestamp"] for row in read(timestamp=parts)] == [1.25, 1.5]
    with pytest.raises(InputError, match="must fit 64-bit signed integers"):
        read(timestamp=pa.array([Decimal("99999999999999999999.0")] * 2))
