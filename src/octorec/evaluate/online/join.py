"""Join exposures and outcomes: a row a unit, its outcomes counted from its first exposure for each metric's window.

A unit enters with its first request that was assigned, whatever became of that request, so that a variant which fails
or refuses its units keeps them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.errors import InputError
from octorec.evaluate.online.attribute import HELD_OUT, Attributed, attribute
from octorec.evaluate.online.attribute import IN_TWO as SEEN_IN_TWO
from octorec.evaluate.online.design import Experiment, Metric
from octorec.evaluate.online.joined import IN_TWO, Column, Joined
from octorec.evaluate.online.keys import encoded, firsts
from octorec.evaluate.online.moved import Stage, moved

OTHER = "exposures of another experiment"
NO_STAGE = "exposures of a stage that the record lacks"
AHEAD = "exposures later than now: clocks are apart"
BOTH = "units of the experiment that were held out or testers as well"
MOVED = "units that a change of shares gave to another variant, seen again or not"
BEFORE = "outcomes before the unit's first exposure"
COVARIATE = "outcomes before the unit's first exposure, used as covariate"
LATE = "outcomes after the window"
OLD = "units whose window ends after the last outcome: do the outcomes reach up to now?"
NONE_ABOVE = "outcomes of value 0 or less, which are none for a proportion"


def join(
    experiment: Experiment,
    stages: Sequence[Stage],
    exposures: pa.Table,
    outcomes: pa.Table,
    now: float,
    counts: Mapping[str, int] | None = None,
) -> Joined:
    """Count each unit's outcomes at the time `now`, in seconds since 1970.

    stages: of the experiment's record. exposures, outcomes: of `read_exposures` and `read_outcomes`. counts: of both;
    they come back with those of the join.
    An outcome counts for a metric where first exposure <= time < first exposure + window. A proportion's unit is 1
    where one of these has a value above 0. Hold-out and testers never enter. Raises InputError for an exposure of a
    variant or a group that the experiment lacks.
    """
    found = Counter(dict(counts or {}))
    end = int(np.floor(now * 1e6))
    exposures = _known(experiment, stages, exposures, end, found)
    codes, names = encoded(exposures["unit"])
    counted = np.asarray(pc.equal(exposures["group"], "experiment"))
    variants = _places(exposures["variant"], list(experiment.variants), "variant")
    numbers = _places(exposures["stage"], [stage.number for stage in stages], "stage")
    times = _microseconds(exposures["time"])
    chosen = np.flatnonzero(counted)
    rows, starts = firsts(codes[chosen], times[chosen], variants[chosen])
    rows = chosen[rows]
    entered = rows[starts] if len(rows) else rows  # each unit's first row
    shape = (len(stages), len(experiment.variants))
    assigned = np.bincount(numbers[entered] * shape[1] + variants[entered], minlength=shape[0] * shape[1]).reshape(
        shape
    )
    ids = names.take(pa.array(codes[entered])).to_pylist() if len(stages) > 1 else []
    gone = moved(experiment, stages, ids, numbers[entered], times[entered]) if ids else np.zeros(len(entered), bool)
    window = round(experiment.longest_window_s * 1e6)
    alone = _in_one(variants[rows], times[rows], starts, window) & ~gone
    found[MOVED] += int(gone.sum())
    found[IN_TWO] += int((~alone & ~gone).sum())
    places = np.full(len(names), HELD_OUT)
    places[codes[entered]] = SEEN_IN_TWO
    found[BOTH] += int((places[np.unique(codes[~counted])] == SEEN_IN_TWO).sum())
    entered = entered[alone]
    places[codes[entered]] = np.arange(len(entered))
    first = times[entered]
    given = attribute(outcomes, exposures["request_id"], codes, names, places, end, found)
    columns = {name: _column(metric, given, first, end) for name, metric in experiment.metrics.items()}
    _count_odd(experiment, given, first, found)
    found[OLD] += _beyond(experiment, first, given.last, end)
    return Joined(
        unit=names.take(pa.array(codes[entered])).to_numpy(zero_copy_only=False),
        variant=variants[entered],
        stage=numbers[entered],
        first=first / 1e6,
        columns=columns,
        assigned=assigned,
        counts={words: count for words, count in found.items() if count},
        ended=_ended(experiment, variants[chosen], exposures["ended"].filter(pa.array(counted))),
        outcomes=outcomes.num_rows,
    )


def _known(
    experiment: Experiment, stages: Sequence[Stage], exposures: pa.Table, end: int, counts: Counter[str]
) -> pa.Table:
    """Return the exposures of this experiment up to `end`; the others are counted by name."""
    ours = np.asarray(pc.equal(exposures["experiment"], experiment.name))
    known = np.isin(np.asarray(exposures["stage"]), [stage.number for stage in stages])
    ahead = _microseconds(exposures["time"]) > end
    counts[OTHER] += int((~ours).sum())
    counts[NO_STAGE] += int((ours & ~known).sum())
    counts[AHEAD] += int((ours & known & ahead).sum())
    kept = ours & known & ~ahead
    table = exposures if kept.all() else exposures.filter(pa.array(kept))
    groups = np.asarray(pc.is_in(table["group"], value_set=pa.array(["experiment", "hold_out", "tester"])))
    if not groups.all():
        odd = table["group"][int(np.flatnonzero(~groups)[0])].as_py()
        raise InputError("exposures: group", odd, "allowed: experiment, hold_out, tester")
    return table


def _places(column: pa.ChunkedArray, known: list[str] | list[int], name: str) -> np.ndarray:
    """Return the place of each row's value among those that are known [n] int64."""
    place = pc.index_in(column, value_set=pa.array(known, column.type))
    if place.null_count:
        odd = column.filter(pc.is_null(place))[0].as_py()
        raise InputError(f"exposures: {name}", odd, f"the experiment has {', '.join(map(str, known))}")
    return np.asarray(place).astype(np.int64)


def _microseconds(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.cast(pa.int64()))


def _in_one(variants: np.ndarray, times: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    """Tell whether each unit, whose rows begin at `starts`, was seen in one variant only until its
    `window` had passed.
    """
    if not len(starts):
        return np.empty(0, bool)
    own = np.repeat(starts, np.diff(starts, append=len(variants)))
    variants = np.where(times - times[own] < window, variants, variants[own])
    return np.minimum.reduceat(variants, starts) == np.maximum.reduceat(variants, starts)


def _column(metric: Metric, outcomes: Attributed, first: np.ndarray, end: int) -> Column:
    """Return a metric's numbers of all units."""
    window = round(metric.window_s * 1e6)
    after = outcomes.time - first[outcomes.place]
    within = (after >= 0) & (after < window)
    made = Column(
        y=_sums(metric, metric.event, outcomes, within, len(first)),
        mature=first + window <= end,
        per=_sums(metric, metric.per, outcomes, within, len(first)) if metric.per is not None else None,
        x=None,
    )
    if metric.covariate_s is None:
        return made
    before = (after < 0) & (after >= -round(metric.covariate_s * 1e6))
    return replace(made, x=_sums(metric, metric.event, outcomes, before, len(first)))


def _sums(metric: Metric, event: str, outcomes: Attributed, chosen: np.ndarray, units: int) -> np.ndarray:
    """Return each unit's values of an event, where `chosen` [n]: their sum, or whether one is above 0
    for a proportion.
    """
    chosen = chosen & outcomes.of(event)
    sums = metric.kind != "proportion"
    weights = outcomes.value[chosen] if sums else (outcomes.value[chosen] > 0).astype(float)
    totals = np.bincount(outcomes.place[chosen], weights=weights, minlength=units)
    return totals if sums else (totals > 0).astype(float)


def _count_odd(experiment: Experiment, outcomes: Attributed, first: np.ndarray, counts: Counter[str]) -> None:
    """Name the outcomes of counted units that no metric's window holds."""
    after = outcomes.time - first[outcomes.place]
    past, late = np.zeros((2, len(after)), bool)
    late |= after >= 0
    for metric in experiment.metrics.values():
        for event in filter(None, (metric.event, metric.per)):
            mine = outcomes.of(event)
            late &= ~(mine & (after < round(metric.window_s * 1e6)))
            if metric.covariate_s is not None:
                past |= mine & (after < 0) & (after >= -round(metric.covariate_s * 1e6))
    of_proportions = [
        outcomes.of(metric.event) for metric in experiment.metrics.values() if metric.kind == "proportion"
    ]
    counts[COVARIATE] += int(past.sum())
    counts[BEFORE] += int(((after < 0) & ~past).sum())
    counts[LATE] += int(late.sum())
    counts[NONE_ABOVE] += int((np.any(of_proportions, axis=0) & (outcomes.value <= 0)).sum()) if of_proportions else 0


def _beyond(experiment: Experiment, first: np.ndarray, last: int | None, end: int) -> int:
    """Return how many units have matured for a metric though there is no outcome, of anybody, as late
    as their windows.
    """
    ends = first + round(experiment.longest_window_s * 1e6)
    return 0 if last is None else int(((ends > last) & (ends <= end)).sum())


def _ended(experiment: Experiment, variants: np.ndarray, ended: pa.ChunkedArray) -> dict[str, dict[str, int]]:
    """Return how many requests of counted units came to which end, by variant."""
    places, words = encoded(ended)
    table = np.bincount(variants * len(words) + places, minlength=len(experiment.variants) * len(words))
    table = table.reshape(len(experiment.variants), -1) if len(words) else np.zeros((len(experiment.variants), 0), int)
    return {
        name: {word: int(count) for word, count in zip(words.to_pylist(), row, strict=True) if count}
        for name, row in zip(experiment.variants, table, strict=True)
    }
