"""A look leads from an experiment's folder to its report: rows are read, joined and judged, and a look that was due is
recorded.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.table_format import TableFormat
from octorec.errors import InputError
from octorec.evaluate.online.experiment import Experiment
from octorec.evaluate.online.exposures import EXPOSURES_FOLDER, JOINED, read_exposures
from octorec.evaluate.online.join import OLD, join
from octorec.evaluate.online.joined import Joined
from octorec.evaluate.online.judge import judge
from octorec.evaluate.online.outcomes import OUTCOMES_FOLDER, read_outcomes
from octorec.evaluate.online.record import Record, add_look, effective, note_ratio, read_record
from octorec.evaluate.online.results import AbReport
from octorec.evaluate.online.words import moment

MOST_UNSEEN = 0.1  # share of a look's units that may have entered after an event's last outcome
MOST_BEYOND = 0.1  # share of a look's units whose windows may end after the last outcome


def look(
    folder: str | Path,
    files: Sequence[str | Path] = (),
    form: TableFormat | None = None,
    *,
    now: float,
    final: bool = False,
    empty: bool = False,
) -> tuple[AbReport, Record]:
    """Return the report of an experiment's folder at the time `now`, in seconds since 1970, and its
    record as it is then.

    files: outcomes besides those of the folder; form: how they are written. final: this look
    is the last, wherever the plan is. empty: a metric's rows may end before now. A look that is due is recorded;
    of two at once one is made.
    Raises InputError: no record, exposures or outcomes are there or can be read, `now` is before the last look, or one
    is due and a metric has no row.
    """
    folder = Path(folder)
    record = read_record(folder)
    _check_time(record, now)
    experiment = effective(record)
    if not files and not experiment.guard.outcomes:
        raise InputError("outcomes", "none", "guard.outcomes is false: they come as files, so give them by --outcomes")
    exposures, counts = _exposures(folder / EXPOSURES_FOLDER)
    given = [*([own] if (own := folder / OUTCOMES_FOLDER).is_dir() else []), *map(Path, files)]
    outcomes, more = read_outcomes(given, experiment, form)
    if not outcomes.num_rows:
        allowed = "there are no outcomes yet: send them to POST /v1/outcomes, or give files by --outcomes"
        raise InputError("outcomes", ", ".join(map(str, given)) or str(own), allowed)
    joined = join(experiment, record.stages, exposures, outcomes, now, {**counts, **more})
    started = record.stages[0].since
    while True:
        ratio_p = record.lowest_ratio_p
        report = judge(experiment, joined, record.stages, record.looks, ratio_p, now, started, final)
        if len(report.looks) == len(record.looks):
            return report, note_ratio(folder, report.sample_ratio.p)
        if not empty:
            _check_rows(experiment, joined, outcomes, started, now)
            _check_reach(joined, report.looks[-1].units)
        record = add_look(folder, report.looks[-1])  # or the look of this number that another process made first


def _exposures(folder: Path) -> tuple[pa.Table, dict[str, int]]:
    found, counts = read_exposures(folder, JOINED) if folder.is_dir() else (None, {})
    if found is None or not found.num_rows:
        allowed = "holds no exposures yet: octorec serve writes them as requests come; is the experiment being served?"
        raise InputError("exposures", str(folder), allowed)
    return found, counts


def _check_rows(experiment: Experiment, joined: Joined, outcomes: pa.Table, started: float, now: float) -> None:
    """Refuse a look while the rows of a metric are missing, all of them or the newest, unless there really are none: a
    look is made once.

    Those of the past, which are given as covariate, do not count.
    """
    times = np.asarray(outcomes["time"].cast(pa.int64())) / 1e6
    here = (times >= started) & (times <= now)
    entered = joined.first[np.all([column.mature for column in joined.columns.values()], axis=0)]
    for metric in experiment.metrics.values():
        for event in filter(None, (metric.event, metric.per)):
            last = times[here & np.asarray(pc.equal(outcomes["event"], event))].max(initial=-np.inf)
            unseen = float((entered > last).mean())
            if unseen > MOST_UNSEEN:
                said = f"its last outcome is of {moment(last)}, after which {unseen:.0%} of the units came"
                said = said if last > 0 else "no outcome since the start has it"
                allowed = f"so that no look is made: give the rows of metric {metric.name}, or --empty"
                raise InputError("outcomes: event", event, f"{said}, {allowed} where it never happened")


def _check_reach(joined: Joined, units: int) -> None:
    """Refuse a look at outcomes that end before the windows of many units: what is not there yet would count as 0."""
    beyond = joined.counts.get(OLD, 0)
    if beyond > MOST_BEYOND * units:
        given = f"none are as late as the windows of {beyond:,} of {units:,} units"
        raise InputError("outcomes", given, "no look is made: give those up to now, or --empty where nothing happened")


def _check_time(record: Record, now: float) -> None:
    """Refuse a look before one that was made, or before the start: clocks are apart, or a time is mistyped."""
    last = max([record.stages[0].since, *(one.time for one in record.looks)])
    if now < last:
        what = "its last look" if record.looks else "its start"
        raise InputError("now", moment(now), f"must not be before {what} at {moment(last)}: is a clock wrong?")
