"""Describe an interactions table in words: how much it holds, and from when to when."""

import datetime

import pyarrow.compute as pc

from octorec.data.interactions import Interactions

NAMES = {"user_id": "users", "item_id": "items"}
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # ticks a second
FIRST, LAST = 10**8, 10**10  # seconds: the years 1973 and 2286


def described(interactions: Interactions) -> str:
    """Return one line such as `1,000,209 interactions, 6,040 users, 3,706 items, from 2000-04-25 to 2003-02-28`."""
    table = interactions.table
    if not len(interactions):
        return "no interactions"
    counts = [f"{pc.count_distinct(table[name]).as_py():,} {what}" for name, what in NAMES.items()]
    start, end = pc.min(table["timestamp"]).as_py(), pc.max(table["timestamp"]).as_py()
    return f"{len(interactions):,} interactions, {', '.join(counts)}, {period(start, end)}"


def time_unit(start: float, end: float) -> str | None:
    """Return the unit of timestamps from `start` to `end`: s, ms, us or ns since 1970 where both give years from 1973
    to 2286; None where they do not, as positions do not.
    """
    fits = (unit for unit, ticks in UNITS.items() if FIRST * ticks <= start <= end < LAST * ticks)
    return next(fits, None)


def period(start: float, end: float) -> str:
    """Return a text such as `from 2000-04-25 to 2003-02-28`, with the unit where it is not seconds; the numbers where
    they are no dates.
    """
    unit = time_unit(start, end)
    if unit is None:
        return f"timestamps {start} to {end}"
    dates = [datetime.datetime.fromtimestamp(time // UNITS[unit], datetime.UTC).date() for time in (start, end)]
    return f"from {dates[0]} to {dates[1]}{'' if unit == 's' else f' (timestamps in {unit})'}"
