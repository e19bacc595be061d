"""An interactions table in one line."""

import pyarrow as pa
import pytest

from octorec.data.described import described
from octorec.data.interactions import Interactions


def table(times):
    rows = {"user_id": ["u", "u", "v"], "item_id": ["x", "y", "x"], "timestamp": times}
    return Interactions.from_table(pa.table(rows))


@pytest.mark.parametrize(
    ("times", "period"),
    [
        ([956_703_932, 1_046_454_590, 1_046_368_190], "from 2000-04-25 to 2003-02-28"),
        ([956_703_932_500, 1_046_454_590_000, 10**12], "from 2000-04-25 to 2003-02-28 (timestamps in ms)"),
        ([956_703_932.5, 1_046_454_590.0, 1e9], "from 2000-04-25 to 2003-02-28"),
        ([10**18, 10**18 + 1, 10**18], "from 2001-09-09 to 2001-09-09 (timestamps in ns)"),
        ([0, 1, 17], "timestamps 0 to 17"),
        ([10**9, 10**12, 10**9], "timestamps 1000000000 to 1000000000000"),
    ],
)
def test_a_table_is_described_with_its_dates(times, period):
    assert described(table(times)) == f"3 interactions, 2 users, 2 items, {period}"


def test_an_empty_table_is_described():
    assert described(Interactions(table([1, 2, 3]).table.slice(0, 0))) == "no interactions"
