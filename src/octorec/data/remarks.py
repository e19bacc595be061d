"""Tell in a line each what a user should know of an interactions table before anything is learned from it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octorec.data.described import UNITS, time_unit
from octorec.data.interactions import Interactions
from octorec.data.tables import one_array

DAY = 86400  # seconds that clocks and zones may differ by
VALUES = {  # names of columns that say how much an interaction is worth, which nothing here reads
    "rating": "rating ratings rate stars score overall reviewscore userrating preference",
    "kind": "event eventtype action actiontype behavior behaviour behaviortype interactiontype type",
    "weight": "weight count plays playcount quantity watchtime dwelltime duration watchratio",
}


@dataclass(frozen=True)
class Repeats:
    """Repeats count how often rows say the same. duplicates: rows whose user, item and time an earlier row has. again:
    rows whose user and item an earlier one has at another time. ties: rows with the user and the time of an earlier one
    and another item.
    """

    duplicates: int
    again: int
    ties: int


def repeats(interactions: Interactions) -> Repeats:
    """Count the repeats of a table, which is in order: a duplicate stands behind its equal."""
    table = interactions.table
    if not len(interactions):
        return Repeats(0, 0, 0)
    items = np.asarray(one_array(table["item_id"]).dictionary_encode().indices).astype(np.int64)
    starts = interactions.user_starts()
    users = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    times = table["timestamp"].to_numpy()
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    duplicate = same & (items[1:] == items[:-1])
    pairs = np.sort(users * (items.max() + 1) + items)
    duplicates = int(duplicate.sum())
    return Repeats(duplicates, int((pairs[1:] == pairs[:-1]).sum()) - duplicates, int(same.sum()) - duplicates)


def remarks(interactions: Interactions, unread: Sequence[str] = (), found: Repeats | None = None) -> list[str]:
    """Return what is remarkable, a line each: duplicates, times that tie or lie in the future, ratings
    that are not read.

    unread: names of the file's other columns. found: the table's repeats, where they are counted already.
    """
    found = found or repeats(interactions)
    counted = {
        "rows that repeat an earlier one (user, item and time)": (found.duplicates, "each counts"),
        "rows in which a user meets an item again": (found.again, "each counts"),
        "rows with the time of another row of their user": (found.ties, "the order of such rows is that of item ids"),
    }
    lines = [f"{what}: {count:,}; {so}" for what, (count, so) in counted.items() if count]
    return lines + _of_times(interactions) + _of_values(unread)


def _of_times(interactions: Interactions) -> list[str]:
    times = interactions.table["timestamp"].to_numpy()
    if not len(times):
        return []
    if times.min() == times.max() and len(times) > 1:
        return ["all timestamps are the same, so that nothing says which interaction is the newest"]
    unit = time_unit(times.min(), times.max())
    if unit is None:
        mixed = all(time_unit(time, time) for time in (times.min(), times.max()))
        return ["timestamps are in several units (such as s and ms): their order is wrong"] if mixed else []
    ahead = int((times > (time.time() + DAY) * UNITS[unit]).sum())
    return [f"timestamps in the future: {ahead:,}"] if ahead else []


def _of_values(unread: Sequence[str]) -> list[str]:
    return [
        f"column {name} is not read: each row counts alike, whatever its {what}"
        for name, what in values(unread).items()
    ]


def values(names: Sequence[str]) -> dict[str, str]:
    """Return those of `names` that seem to say how much an interaction is worth, and what they hold:
    rating, kind, weight.
    """
    plain = {name: "".join(filter(str.isalnum, name.split(":")[0].lower())) for name in names}
    return {name: what for name in names for what, known in VALUES.items() if plain[name] in known.split()}
