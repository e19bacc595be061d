"""Interactions say who met what, and when."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from octorec.data.table_format import INTERACTIONS, OURS, TableFormat
from octorec.data.tables import id_rank, read_table, require_columns, text_column, timestamp_column

COLUMNS = INTERACTIONS


@dataclass(frozen=True)
class Interactions:
    """Interactions are in order: users as they first appeared, each user's from the oldest to the newest.

    table: user_id string, item_id string, timestamp int64 or float64 (any unit), one chunk a column. A tie in time goes
    by item_id: as integers where all ids of the table are integers, else as text. Make one with `from_table`.
    held_out: the newest interactions of each user that were taken out of the table, see `splits`.
    """

    table: pa.Table
    held_out: int = 0

    def __len__(self) -> int:
        return self.table.num_rows

    @classmethod
    def from_table(
        cls, table: pa.Table, source: str = "interactions", time_format: str | None = None
    ) -> "Interactions":
        """Check and order a table with at least the columns user_id, item_id, timestamp; `source` names it in errors.

        Ids are text or integers (or floats and decimals that are all whole). Timestamps are numbers, times, or text as
        `data.times` reads it, by `time_format`. Further columns are left out; equal rows are kept.
        """
        require_columns(table, COLUMNS, source)
        users, items = (text_column(table, name, source) for name in COLUMNS[:2])
        timestamps = timestamp_column(table, "timestamp", source, time_format)
        first_seen = np.asarray(users.dictionary_encode().indices)
        order = np.lexsort((id_rank(items), np.asarray(timestamps), first_seen))
        return cls(pa.table([users, items, timestamps], names=list(COLUMNS)).take(order).combine_chunks())

    def user_starts(self) -> np.ndarray:
        """Return the row at which each user begins, and the number of rows: [users + 1] int64."""
        index = np.asarray(self.table.column("user_id").combine_chunks().dictionary_encode().indices)
        return np.concatenate([[0], np.flatnonzero(np.diff(index)) + 1, [len(index)]])

    def histories(self) -> dict[str, list[str]]:
        """Return each user's item ids, oldest first."""
        starts = self.user_starts()
        users = self.table.column("user_id").take(starts[:-1]).to_pylist()
        items = self.table.column("item_id").to_pylist()
        return {user: items[a:b] for user, a, b in zip(users, starts[:-1], starts[1:], strict=True)}


def read_interactions(path: str | Path, form: TableFormat = OURS) -> Interactions:
    """Read a Parquet, CSV or JSON lines table (see `data.tables.read_table`) with user_id, item_id and timestamp.

    form: where its columns have other names, or its times or separator are others. Further columns are left out.
    """
    table = read_table(path, COLUMNS, COLUMNS, inferred=["timestamp"], form=form)
    return Interactions.from_table(table, str(path), form.time_format)
