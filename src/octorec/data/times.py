"""Timestamps may be written as text: numbers, ISO 8601, or a format that is told."""

import datetime
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.errors import InputError

WHOLE, NUMBER = r"^[+-]?[0-9]{1,18}$", r"^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"
ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
ISO = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}([ T][0-9]{{2}}(:[0-9]{{2}}(:[0-9]{{2}}(\.[0-9]{{1,9}})?)?)?)?{ZONE}?$"
KNOWN = "known: numbers, and ISO 8601 such as 2024-01-05 10:00:00, all with a zone or all without"
ADVICE = "say how times are written: --time-format"
DATES = {  # how a date may be written, without its time
    r"\d{1,2}\.\d{1,2}\.\d{4}": "%d.%m.%Y",
    r"\d{1,2}\.\d{1,2}\.\d{2}": "%d.%m.%y",
    r"\d{4}/\d{1,2}/\d{1,2}": "%Y/%m/%d",
    r"\d{4}\.\d{1,2}\.\d{1,2}": "%Y.%m.%d",
    r"\d{4}-\d{1,2}-\d{1,2}": "%Y-%m-%d",
    r"\d{1,2} [A-Za-z]{3,9} \d{4}": "%d %b %Y",
    r"\d{1,2}-[A-Za-z]{3} ?-\d{4}": "%d-%b-%Y",
    r"[A-Za-z]{3,9} \d{1,2}, \d{4}": "%b %d, %Y",
    r"[A-Za-z]{3}, \d{1,2} [A-Za-z]{3} \d{4}": "%a, %d %b %Y",
}
SLASHED = {
    "-": ("%d-%m-%Y", "%m-%d-%Y"),
    "/": ("%d/%m/%Y", "%m/%d/%Y"),
}  # the country decides which of the two is meant
CLOCKS = {
    r"": "",
    r" \d{1,2}:\d{2}": " %H:%M",
    r" \d{1,2}:\d{2}:\d{2}": " %H:%M:%S",
    r" \d{1,2}:\d{2}:\d{2} UTC": " %H:%M:%S UTC",
    r"T\d{1,2}:\d{2}:\d{2}": "T%H:%M:%S",
    r", \d{1,2}:\d{2}": ", %H:%M",
    r", \d{1,2}:\d{2}:\d{2}": ", %H:%M:%S",
    r" \d{1,2}:\d{2} [AaPp][Mm]": " %I:%M %p",
    r" \d{1,2}:\d{2}:\d{2} [AaPp][Mm]": " %I:%M:%S %p",
}


def times_of_text(column: pa.Array, where: str, time_format: str | None = None) -> pa.Array:
    """Read a column of text [n] without null as int64, float64 or timestamps; what is no time is an InputError.

    time_format: as strptime has it. None: all are numbers, or all are ISO 8601, a date alone being midnight.
    """
    column = pc.utf8_trim_whitespace(column)
    if time_format is not None:
        return _by_format(column, where, time_format)
    if _all_match(column, WHOLE):
        return column.cast(pa.int64())
    if _all_match(column, NUMBER):
        return column.cast(pa.float64())
    numbers, dates = (np.asarray(pc.match_substring_regex(column, pattern)) for pattern in (NUMBER, ISO))
    odd = np.flatnonzero(~(numbers if numbers.sum() > dates.sum() else dates))
    if len(odd):
        texts = column.take(odd[:1000]).to_pylist()
        mixed = f"{len(odd):,} of {len(column):,} rows are written in another way than the others: write all alike"
        todo = looks_like(texts) if len(odd) == len(column) else mixed
        raise InputError(f"{where}, row {odd[0] + 1}", texts[0], f"{KNOWN}; {todo}")
    zoned = np.asarray(pc.match_substring_regex(column, rf"[ T].*{ZONE}$"))
    odd = np.flatnonzero(zoned != zoned[0]) if len(zoned) else zoned
    if len(odd):
        first = "has a zone" if zoned[0] else "has none"
        raise InputError(f"{where}, row {odd[0] + 1}", column[int(odd[0])].as_py(), f"{KNOWN}; row 1 {first}")
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC"):
            try:
                return column.cast(pa.timestamp(unit, zone))
            except pa.ArrowInvalid as error:
                said = str(error)
    raise InputError(where, said, KNOWN)


def _by_format(column: pa.Array, where: str, time_format: str) -> pa.Array:
    times = pc.strptime(column, time_format, "s", error_is_null=True)
    odd = np.flatnonzero(np.asarray(times.is_null()))
    if len(odd):
        texts = column.take(odd[:1000]).to_pylist()
        allowed = f"is not written as {time_format}, and {len(odd) - 1} more; {looks_like(texts)}"
        raise InputError(f"{where}, row {odd[0] + 1}", texts[0], allowed)
    early = np.flatnonzero(np.asarray(pc.less_equal(pc.day(times), 3)))  # 31.02. is taken for 02.03.
    for text in pc.unique(column.take(early)).to_pylist():
        try:
            datetime.datetime.strptime(text, time_format)
        except ValueError as error:
            if "day" in str(error) and "range" in str(error):
                raise InputError(where, text, f"is no day of the calendar ({error})") from error
    return times


def looks_like(texts: list[str]) -> str:
    """Return what to do about texts that are no time, by how they are written."""
    for clock, clock_format in CLOCKS.items():
        for date, date_format in DATES.items():
            if all(re.fullmatch(date + clock, text) for text in texts):
                return f"{ADVICE} '{date_format}{clock_format}'"
        found = [re.fullmatch(rf"(\d{{1,2}})([/-])(\d{{1,2}})\2\d{{4}}{clock}", text) for text in texts]
        if all(found):
            day_first, month_first = (f"'{date}{clock_format}'" for date in SLASHED[found[0][2]])  # type: ignore[index]
            if any(int(match[1]) > 12 for match in found if match):
                return f"{ADVICE} {day_first}"
            if any(int(match[3]) > 12 for match in found if match):
                return f"{ADVICE} {month_first}"
            return f"{ADVICE} {day_first} (the day first) or {month_first} (the month first)"
    return f"{ADVICE} (of strptime, such as '%d.%m.%Y %H:%M') where all are written alike"


def _all_match(column: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, pattern)).as_py())
