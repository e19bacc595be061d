"""The answers to a block become one file: a row a user, in the order of the table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from octorec.catalog.catalog import Catalog
from octorec.engine.batches import searched_once
from octorec.engine.engine import Engine
from octorec.engine.rank import Ranked
from octorec.engine.request import Request
from octorec.errors import InputError, NonFiniteError
from octorec.offline.ask import Rows
from octorec.output.write import new_file
from octorec.progress import Progress

METADATA = b"octorec"  # key of a file's metadata: what the answers were made with, as JSON
SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "item_ids": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
        "exact": pa.bool_(),
        "source": pa.string(),
    }
)


@dataclass(frozen=True)
class Told:
    """A Told is what a file keeps of one answer. items [n] int64: places in the catalog. scores [n] float32."""

    items: np.ndarray
    scores: np.ndarray
    exact: bool
    source: str


def told(ranked: Ranked) -> Told:
    return Told(ranked.item_indices, ranked.scores, ranked.exact, ranked.request.source)


def answers_to(engine: Engine, rows: Rows, asked: Request, drop: bool, progress: Progress) -> list[Told]:
    """Return the answer to each row. progress: is told how many rows were taken.

    Raises InputError for a row that cannot be asked, and NonFiniteError, both naming the row.
    """
    answers: list[Any] = [None] * len(rows)
    broken: list[int] = []

    def taken() -> Any:
        for row, parsed in rows.parsed(engine, asked, drop):
            progress(row + 1, len(rows))
            yield row, parsed

    again = searched_once(engine, taken(), told, answers, broken)
    while again:
        again = searched_once(engine, again.items(), told, answers, broken)
    if broken:
        where = rows.table.where(rows.block, min(broken))
        raise NonFiniteError(engine.checkpoint, sorted(broken), where)
    return answers


def as_table(users: pa.Array, answers: Sequence[Told], catalog: Catalog, about: Mapping[str, Any]) -> pa.Table:
    """Return a block's file. about: what the answers were made with."""
    ends = np.cumsum([0, *(len(one.items) for one in answers)]).astype(np.int32)
    items = np.concatenate([one.items for one in answers]) if answers else np.zeros(0, np.int64)
    scores = np.concatenate([one.scores for one in answers]) if answers else np.zeros(0, np.float32)
    offsets = pa.array(ends)
    ids = catalog.items.column("item_id").take(pa.array(items)).combine_chunks()
    columns = [
        users,
        pa.ListArray.from_arrays(offsets, ids),
        pa.ListArray.from_arrays(offsets, pa.array(scores, pa.float32())),
        pa.array([one.exact for one in answers], pa.bool_()),
        pa.array([one.source for one in answers], pa.string()),
    ]
    return pa.table(columns, schema=SCHEMA.with_metadata({METADATA: json.dumps(about).encode()}))


def write_block(path: Path, table: pa.Table) -> None:
    """Write a block's file, which appears whole. A file that is there is replaced by one of the same rows."""
    with new_file(path) as scratch:
        pyarrow.parquet.write_table(table, scratch)


def read_answers(folder: str | Path) -> pa.Table:
    """Return all answers of a folder, in the order of the table of users, whole in memory.

    Raises InputError for a folder without answers.
    """
    files = sorted(Path(folder).glob("part-*.parquet"))
    if not files:
        raise InputError("folder", str(folder), "holds no answers of octorec recommend-all")
    return pa.concat_tables(pyarrow.parquet.read_table(file) for file in files)
