"""Interactions say who met what, and when."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from octorec.data.table_format import INTERACTIONS, OURS, TableFormat
from octorec.data.tables import id_rank, read_table, require_columns, text_column, timestamp_column
from octorec.errors import InputError

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


def read_sequences(path: str | Path) -> Interactions:
    """Read the text files of S3-Rec and TIGER: `user item item ...` a line, oldest first; the position is the time."""
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), "no such file", "must be a text file with `user item item ...` on every line")
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(str(path), str(error), "must be UTF-8 text") from error
    _check_sequences(path, lines)
    lines = [line for line in lines if line]
    lengths = np.array([len(line) - 1 for line in lines])
    users = pa.array([line[0] for line in lines]).take(np.repeat(np.arange(len(lines)), lengths))
    items = pa.array([item for line in lines for item in line[1:]])
    positions = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Interactions.from_table(pa.table([users, items, positions], names=list(COLUMNS)), str(path))


def _check_sequences(path: Path, lines: list[list[str]]) -> None:
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if len(line) == 1:
            raise InputError(f"{path}: line {number}", line[0], "a user needs at least one item behind it")
        if line[0] in seen:
            raise InputError(f"{path}: line {number}", line[0], f"a user has one line; line {seen[line[0]]} is its too")
        seen[line[0]] = number
    if not seen:
        raise InputError(str(path), "no lines", "must have `user item item ...` on every line")
