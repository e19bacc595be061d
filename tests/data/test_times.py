"""Timestamps as text: the forms that are known, and the flag that an unknown one asks for."""

import datetime

import pyarrow as pa
import pytest

from octorec.data.interactions import read_interactions
from octorec.data.table_format import TableFormat
from octorec.data.times import looks_like, times_of_text
from octorec.errors import InputError

MOMENT = datetime.datetime(2024, 1, 5, 13, 7, 9)


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (["2", "10", "-1"], [2, 0, 1]),
        (["1.5", "1e1", "-1"], [2, 0, 1]),
        (["2024-01-05 10:00", "2024-01-05", "2023-12-31T23:59:59.123456789"], [2, 1, 0]),
        (["2024-01-05T10:00:00Z", "2024-01-05 10:00:00+02:00", "2024-01-05T12:00:00-0100"], [1, 0, 2]),
        ([" 2024-01-05 ", "2024-01-04", "2024-01-06"], [1, 0, 2]),
    ],
)
def test_numbers_and_iso_8601_are_known(texts, order):
    found = times_of_text(pa.array(texts), "here").cast(pa.int64(), safe=False).to_pylist()
    assert sorted(range(3), key=found.__getitem__) == order


@pytest.mark.parametrize(
    "time_format",
    ["%d.%m.%Y", "%d.%m.%Y %H:%M", "%Y/%m/%d %H:%M:%S", "%Y.%m.%d", "%d %b %Y", "%b %d, %Y", "%d.%m.%Y, %H:%M",
     "%Y-%m-%d %H:%M:%S UTC", "%Y/%m/%d %I:%M %p", "%d-%b-%Y"],
)  # fmt: skip
def test_the_format_of_a_date_is_guessed_and_reads_it(time_format):
    texts = [MOMENT.strftime(time_format), MOMENT.replace(day=31).strftime(time_format)]
    with pytest.raises(InputError) as caught:
        times_of_text(pa.array(texts), "here")
    assert f"row 1: got {texts[0]!r}" in str(caught.value)
    assert caught.value.allowed.endswith(f"--time-format '{time_format}'")
    found = times_of_text(pa.array(texts), "here", time_format)
    assert found[0].as_py() == datetime.datetime.strptime(texts[0], time_format)


@pytest.mark.parametrize(
    ("texts", "advice"),
    [
        (["01/05/2024", "01/25/2024"], "--time-format '%m/%d/%Y'"),
        (["01/05/2024 10:00", "25/01/2024 10:00"], "--time-format '%d/%m/%Y %H:%M'"),
        (["01-05-2024"], "'%d-%m-%Y' (the day first) or '%m-%d-%Y' (the month first)"),
        (["soon"], "(of strptime, such as"),
    ],
)
def test_a_day_and_a_month_are_told_apart_where_they_can_be(texts, advice):
    assert advice in looks_like(texts)


@pytest.mark.parametrize(
    ("texts", "time_format", "message"),
    [
        (["5", "6", "soon"], None, "row 3: got 'soon'; known: numbers"),
        (["2024-01-05", "5", "2024-01-06"], None, "row 2: got '5'; known: numbers, and ISO 8601"),
        (["2024-01-05", "05.01.2024"], None, "1 of 2 rows are written in another way than the others"),
        (["2024-01-05T10:00Z", "2024-01-05T10:00"], None, "all with a zone or all without"),
        (["2024-01-05T10:00Z", "2024-01-05"], None, "row 2: got '2024-01-05'; known: numbers"),
        (["2024-02-31"], None, "2024-02-31"),
        (["05.01.2024", "2024-01-05"], "%d.%m.%Y", "row 2: got '2024-01-05'; is not written as %d.%m.%Y"),
        (["31.02.2024"], "%d.%m.%Y", "got '31.02.2024'; is no day of the calendar"),
    ],
)
def test_what_is_no_time_is_refused_with_its_row(texts, time_format, message):
    with pytest.raises(InputError) as caught:
        times_of_text(pa.array(texts), "here", time_format)
    assert message in str(caught.value)


def test_a_csv_is_read_by_the_format_that_is_told(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\na,x,05.02.2024\na,y,31.01.2024\n")
    form = TableFormat(time_format="%d.%m.%Y")
    assert read_interactions(tmp_path / "log.csv", form).histories() == {"a": ["y", "x"]}
