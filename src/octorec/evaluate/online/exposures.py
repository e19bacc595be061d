"""Read who was assigned what and when, from the logs of all processes that served an experiment."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.evaluate.online.joined import LOST
from octorec.evaluate.online.keys import firsts, row_codes
from octorec.evaluate.online.log import EXPOSURES_FOLDER
from octorec.evaluate.online.log_folder import LogRows, read_log
from octorec.evaluate.online.rows import ENDED, EXPOSURES

__all__ = ["EXPOSURES_FOLDER", "JOINED", "read_exposures"]

JOINED = ("time", "experiment", "stage", "unit", "variant", "group", "request_id", "ended")  # what `join` reads
BEST_FIRST = ("answered", "short", "by_control", "failed", "refused")
assert set(BEST_FIRST) == set(ENDED)


def read_exposures(folder: str | Path, columns: Collection[str] | None = None) -> tuple[pa.Table, dict[str, int]]:
    """Read the exposures below a folder [n], of which each request of a unit is there once, and what
    was lost or doubled.

    Doubles have unit and request id in common (and experiment, stage, variant and group, so that a unit in two variants
    is seen): of them the row that ended best stays, with the earliest time of all. columns: of `rows.EXPOSURES` that
    come back, JOINED at the least; None: all. Items take most of the memory.

    counts: words -> number, none of them 0; `joined.LOST` among them. Raises InputError, which names the file, for one
    that is broken or no log's.
    """
    wanted = EXPOSURES.names if columns is None else [name for name in EXPOSURES.names if name in {*JOINED, *columns}]
    found = read_log(folder, EXPOSURES, wanted)
    table, broken = _whole(found.table)
    kept, doubled = _without_doubles(table)
    counts = {**log_counts(found, "exposures"), "exposures doubled": doubled}
    counts[LOST] += broken
    return kept, {words: count for words, count in counts.items() if count}


def log_counts(log: LogRows, what: str) -> dict[str, int]:
    """Return what a log says of its losses, in words; some may be 0."""
    killed = f"processes killed while they wrote {what}, each with those of its last second"
    return {f"{what} lost": log.lost + log.torn, killed: log.killed}


def _whole(table: pa.Table) -> tuple[pa.Table, int]:
    """Return the rows that say whose they are, and how many do not."""
    there = np.ones(table.num_rows, bool)
    for name in JOINED:
        if name != "request_id":
            there &= np.asarray(pc.is_valid(table[name]))
    rank = pc.index_in(table["ended"], value_set=pa.array(BEST_FIRST))
    there &= np.asarray(pc.is_valid(rank))
    return (table if there.all() else table.filter(pa.array(there))), int((~there).sum())


def _without_doubles(table: pa.Table) -> tuple[pa.Table, int]:
    times = np.asarray(table["time"].cast(pa.int64())).copy()
    # without a request id only rows of one time are doubles
    when = pa.array(times, mask=np.asarray(pc.is_valid(table["request_id"])))
    same = ("unit", "request_id", "experiment", "stage", "variant", "group")
    codes = row_codes([*map(table.column, same), when])
    rank = np.asarray(pc.index_in(table["ended"], value_set=pa.array(BEST_FIRST)))
    rows, starts = firsts(codes, rank, times)
    if len(starts) == table.num_rows:
        return table, 0
    best = rows[starts]
    times[best] = np.minimum.reduceat(times[rows], starts)
    kept = np.zeros(table.num_rows, bool)
    kept[best] = True
    time = table.schema.field("time")
    table = table.set_column(table.column_names.index("time"), time, pa.array(times, time.type))
    return table.filter(pa.array(kept)), table.num_rows - len(best)
