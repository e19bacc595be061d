"""Whose each outcome is: by its unit, or by the request that it names."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.evaluate.online.keys import encoded, firsts

HELD_OUT, IN_TWO = -1, -2  # places of units that are not counted

AHEAD = "outcomes later than now: clocks are apart"
NEVER = "outcomes of units that were never exposed"
UNKNOWN = "outcomes of requests that are in no exposure"
SHARED = "outcomes of a request id that two units have"
OTHERS = "outcomes whose request is another unit's"
OF_HELD_OUT = "outcomes of hold-out units and testers"
OF_TWO = "outcomes of units seen in two variants"


@dataclass(frozen=True)
class Attributed:
    """Attributed are the outcomes of counted units [n].

    place: of the unit. time: microseconds. value. event: place in `events`.

    last: time of the last outcome of anybody, None where there is none.
    """

    place: np.ndarray
    time: np.ndarray
    value: np.ndarray
    event: np.ndarray
    events: list[str]
    last: int | None

    def of(self, event: str) -> np.ndarray:
        """Tell which outcomes are of an event [n]."""
        number = self.events.index(event) if event in self.events else -1
        return self.event == number


def attribute(
    outcomes: pa.Table,
    request_ids: pa.ChunkedArray,
    codes: np.ndarray,
    names: pa.Array,
    places: np.ndarray,
    end: int,
    counts: Counter[str],
) -> Attributed:
    """Find each outcome's unit; those of no counted unit, and those after `end`, are counted by name in `counts`.

    request_ids, codes: of the exposures, with their units' places in `names`. places: of `names` among counted units,
    or HELD_OUT or IN_TWO.
    """
    times = np.asarray(outcomes["time"].cast(pa.int64()))
    counts[AHEAD] += int((times > end).sum())
    outcomes = outcomes.filter(pa.array(times <= end))
    has_unit = np.asarray(pc.is_valid(outcomes["unit"]))
    by_unit = _place(outcomes["unit"], names)
    by_request = _by_request(outcomes["request_id"], request_ids, codes)
    has_request = np.asarray(pc.is_valid(outcomes["request_id"]))
    other = has_unit & (by_request >= 0) & (by_request != by_unit)
    counts[OTHERS] += int(other.sum())
    counts[NEVER] += int((has_unit & (by_unit < 0) & ~other).sum())
    counts[UNKNOWN] += int((~has_unit & has_request & (by_request == NOWHERE)).sum())
    counts[SHARED] += int((~has_unit & (by_request == MANY)).sum())
    unit = np.where(has_unit, by_unit, by_request)
    unit[other] = NOWHERE
    place = np.where(unit >= 0, places[unit] if len(places) else NOWHERE, NOWHERE)
    known = unit >= 0
    counts[OF_HELD_OUT] += int((known & (place == HELD_OUT)).sum())
    counts[OF_TWO] += int((known & (place == IN_TWO)).sum())
    counted = known & (place >= 0)
    event, events = encoded(outcomes["event"])
    value = np.asarray(outcomes["value"])
    times = times[times <= end]
    last = int(times.max()) if len(times) else None
    return Attributed(place[counted], times[counted], value[counted], event[counted], events.to_pylist(), last)


NOWHERE, MANY = -1, -2  # instead of a unit's code


def _place(column: pa.ChunkedArray, names: pa.Array) -> np.ndarray:
    """Return the place of each value in `names` [n] int64, NOWHERE for null and for what is not in it."""
    return np.asarray(pc.fill_null(pc.index_in(column, value_set=names, skip_nulls=True), NOWHERE)).astype(np.int64)


def _by_request(wanted: pa.ChunkedArray, request_ids: pa.ChunkedArray, codes: np.ndarray) -> np.ndarray:
    """Return the code of the unit of each wanted request [n] int64, MANY where more than one unit has that id."""
    if wanted.null_count == len(wanted) or not len(codes):
        return np.full(len(wanted), NOWHERE)
    requests, ids = encoded(request_ids)
    rows, starts = firsts(requests)
    lowest, highest = (each.reduceat(codes[rows], starts) for each in (np.minimum, np.maximum))
    units = np.where(lowest == highest, lowest, MANY)  # in the order of `ids`, as each of them is there
    place = _place(wanted, ids)
    return np.where(place >= 0, units[place], NOWHERE)
