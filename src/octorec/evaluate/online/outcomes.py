"""Read what units did: from the log of `POST /v1/outcomes`, and from tables that a company has anyway."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.table_format import TableFormat
from octorec.errors import InputError
from octorec.evaluate.online.design import Experiment
from octorec.evaluate.online.exposures import log_counts
from octorec.evaluate.online.keys import firsts, row_codes
from octorec.evaluate.online.log import OUTCOMES_FOLDER
from octorec.evaluate.online.log_folder import is_log, read_log
from octorec.evaluate.online.outcome_table import LARGEST, read_outcome_table
from octorec.evaluate.online.rows import OUTCOMES
from octorec.reading import listed

__all__ = ["OUTCOMES_FOLDER", "events_of", "read_outcomes"]

FOREIGN = "outcomes of events that no metric uses"
NAMELESS = "outcomes without unit and request id"
UNREADABLE = "outcomes without time or event, or with a value that is no number"
DOUBLED, DIFFERENT = "outcomes doubled", "outcomes doubled by their id alone: the earliest of each is kept"


def read_outcomes(
    files: str | Path | Sequence[str | Path],
    experiment: Experiment,
    form: TableFormat | None = None,
    every_event: bool = False,
) -> tuple[pa.Table, dict[str, int]]:
    """Read the outcomes [n] in `rows.OUTCOMES` of events that a metric uses, each once, and what was left out.

    files: a folder that `log.RowLog` wrote, Parquet, CSV or JSON lines tables, or several of these. form: how
    the tables are written. every_event: rows of other events stay too, as `past_of` counts their units. Two rows of
    one id are one; of rows without ids, those that are equal in everything.

    counts: words -> number, none of them 0; a metric whose event no row has is named there. Raises InputError, which
    names the file, for what cannot be read, and where there are rows but none of any metric's event.
    """
    counts: Counter[str] = Counter()
    events = pa.array(events_of(experiment))
    tables, foreign = [OUTCOMES.empty_table()], Counter[str]()
    for path in [files] if isinstance(files, str | Path) else files:
        table = _checked_log(path, counts) if is_log(Path(path)) else read_outcome_table(path, form)
        if every_event:
            tables.append(table)
            continue
        ours = pc.is_in(table["event"], value_set=events)
        found = pc.value_counts(pc.filter(table["event"], pc.invert(ours)))
        foreign.update({one["values"]: one["counts"] for one in found.to_pylist()[:1000]})
        counts[FOREIGN] += table.num_rows - pc.sum(ours).as_py() if table.num_rows else 0
        tables.append(table.filter(ours))
    table = pa.concat_tables(tables)
    _name_missing(experiment, table, foreign, counts)
    named = pc.or_(pc.is_valid(table["unit"]), pc.is_valid(table["request_id"]))
    counts[NAMELESS] += table.num_rows - (pc.sum(named).as_py() or 0)
    return _without_doubles(table.filter(named), counts), {words: count for words, count in counts.items() if count}


def events_of(experiment: Experiment) -> list[str]:
    """Return the events that the experiment's metrics count, each once."""
    metrics = experiment.metrics.values()
    return list(dict.fromkeys(event for metric in metrics for event in (metric.event, metric.per) if event))


def _checked_log(folder: str | Path, counts: Counter[str]) -> pa.Table:
    """Return a log's rows; a value that is not given is 1, and what a table of a company is refused for is left out."""
    found = read_log(folder, OUTCOMES)
    counts.update(log_counts(found, "outcomes"))
    table = found.table
    value = pc.fill_null(table["value"], 1.0)
    table = table.set_column(table.column_names.index("value"), OUTCOMES.field("value"), value)
    there = pc.and_(pc.is_valid(table["time"]), pc.is_valid(table["event"]))
    there = pc.and_(there, pc.less_equal(pc.abs(value), LARGEST))
    table = table.filter(there)
    counts[UNREADABLE] += found.table.num_rows - table.num_rows
    return table


def _name_missing(experiment: Experiment, table: pa.Table, foreign: Counter[str], counts: Counter[str]) -> None:
    """Count each metric that has no rows; if none has, though there are rows, their events have other names."""
    there = set(pc.unique(table["event"]).to_pylist())
    if foreign and not there:
        found = ", ".join(f"{event} ({count:,})" for event, count in foreign.most_common(5))
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        wanted = listed(events_of(experiment), 20)
        raise InputError("outcomes: event", found + more, f"no row is of an event that a metric uses: {wanted}")
    for metric in experiment.metrics.values():
        for event in filter(None, (metric.event, metric.per)):
            if event not in there:
                counts[f"metric without a row: {metric.name} (event {event})"] = 1


def _without_doubles(table: pa.Table, counts: Counter[str]) -> pa.Table:
    """Return the earliest row of each id, and of rows without ids each once, in the order in which they came."""
    has_id = np.asarray(pc.is_valid(table["id"]))
    whole = row_codes([table[name] for name in OUTCOMES.names])
    ids = row_codes([table["id"]])
    codes = np.where(has_id, 2 * ids, 2 * np.unique(whole, return_inverse=True)[1] + 1)
    times = np.asarray(table["time"].cast(pa.int64()))
    rows, starts = firsts(codes, times, whole)
    if len(starts) == len(codes):
        return table
    kept = np.zeros(len(codes), bool)
    kept[rows[starts]] = True
    first = np.repeat(rows[starts], np.diff(starts, append=len(rows)))  # the row whose double each row in `rows` is
    differ = int((whole[rows] != whole[first]).sum())
    counts[DIFFERENT] += differ
    counts[DOUBLED] += len(codes) - len(starts) - differ
    return table.filter(pa.array(kept))
