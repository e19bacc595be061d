"""A table of users is read block by block: rows of histories or prompts, or interactions that become histories."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.chosen import chosen_columns
from octorec.data.interactions import read_interactions
from octorec.data.parquet_file import ParquetFile, count_rows, read_parts
from octorec.data.plain import is_list
from octorec.data.table_format import INTERACTIONS, OURS, TableFormat
from octorec.data.tables import as_text, kind_of, one_array, part_files, read_table, readable, table_names
from octorec.errors import InputError

HISTORY, PROMPTS = "history", ("text", "input_ids")
LISTS = (HISTORY, "exclude")  # columns of item ids
FORMS = (
    "needs user_id and one of: history (a list of item ids a row), text or input_ids (a whole prompt a row); or the "
    "columns of interactions, user_id, item_id and timestamp"
)


@dataclass(frozen=True)
class Block:
    """A Block is some users that are answered together, in one file of answers.

    file: of the table. first: the row of its first user, from 0. count: its users.
    """

    number: int
    file: Path
    first: int
    count: int

    @property
    def name(self) -> str:
        return f"part-{self.number:06d}.parquet"


@dataclass(frozen=True)
class UserTable:
    """A UserTable holds a row for each user: user_id, and what is told of them. Make one with `open_users`.

    columns: our name of each column that is read -> the file's name. fields: names of user fields and of features among
    them. whole: the table in memory; None for Parquet files of rows, of which a block at a time is read.
    of_interactions: whether histories were made of interactions, so that rows have no place in the file.
    """

    blocks: Sequence[Block]
    columns: Mapping[str, str]
    fields: Collection[str]
    whole: pa.Table | None = None
    of_interactions: bool = False
    users: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(block.count for block in self.blocks)

    def read(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, pa.Table]]:
        """Yield the rows of some blocks, in their order, under our names."""
        if self.whole is not None:
            yield from ((block, self.whole.slice(block.first, block.count)) for block in blocks)
            return
        yield from self._read(blocks, self.columns)

    def user_ids(self) -> Iterator[tuple[Block, pa.Array]]:
        """Yield each block's user ids as they stand in the file."""
        only = {"user_id": self.columns["user_id"]}
        parts = self.read(self.blocks) if self.whole is not None else self._read(self.blocks, only)
        yield from ((block, one_array(table.column("user_id"))) for block, table in parts)

    def where(self, block: Block, row: int) -> str:
        """Name a row of a block for an error: its file and its number there, from 1."""
        if self.of_interactions:
            assert self.whole is not None
            user = self.whole.column("user_id")[block.first + row].as_py()
            return f"{block.file}: user {user[:40]}"
        return f"{block.file}: row {block.first + row + 1}"

    def _read(self, blocks: Sequence[Block], columns: Mapping[str, str]) -> Iterator[tuple[Block, pa.Table]]:
        for file, inside in groupby(blocks, lambda block: block.file):
            own = [*inside]
            with readable(file):
                parts = read_parts(file, [*columns.values()], [(block.first, block.count) for block in own])
                for block, part in zip(own, parts, strict=True):
                    yield block, part.select([*columns.values()]).rename_columns([*columns])


def open_users(path: Path, size: int, fields: Collection[str] = (), form: TableFormat = OURS) -> UserTable:
    """Open a table of users in blocks of `size`; of Parquet files of rows nothing but the footers is read.

    fields: names of user fields and of features, whose columns are read where the table has them.
    Raises InputError for a table without the columns that it needs.
    """
    with readable(path):
        names = {*table_names(path, form)}
    ours = {name for name in (HISTORY, *PROMPTS) if str(form.columns.get(name, name)) in names}
    if not ours:
        if str(form.columns.get("item_id", "item_id")) not in names:
            raise InputError(f"{path}: columns", sorted(names), FORMS)
        return _of_interactions(path, size, form)
    if len(ours) > 1:
        raise InputError(f"{path}: columns", sorted(ours), "give one of them: each is what a user is asked for")
    known = ["user_id", *LISTS, *PROMPTS, *fields]
    if kind_of(path, form) != "Parquet":
        table = read_table(path, ["user_id"], known, inferred=fields, form=form).combine_chunks()
        told = [name for name in fields if name in table.column_names]
        return UserTable(_blocks(path, len(table), size), {name: name for name in table.column_names}, told, table)
    return _of_rows(path, size, fields, known, form)


def _of_rows(path: Path, size: int, fields: Collection[str], known: Collection[str], form: TableFormat) -> UserTable:
    blocks: list[Block] = []
    columns: dict[str, str] = {}
    for file in part_files(path, form):
        with readable(file):
            found = chosen_columns(ParquetFile(file), ["user_id"], known, form)
            if columns and columns != found:
                raise InputError(f"{file}: columns", sorted(found), f"all files must have {', '.join(columns)}")
            columns = found
            blocks += _blocks(file, count_rows(file), size, len(blocks))
    if not blocks:
        raise InputError(str(path), "no rows", "must have at least one row")
    return UserTable(blocks, columns, [name for name in fields if name in columns])


def _of_interactions(path: Path, size: int, form: TableFormat) -> UserTable:
    interactions = read_interactions(path, form)
    starts, table = interactions.user_starts(), interactions.table
    histories = pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), one_array(table.column("item_id")))
    whole = pa.table({"user_id": table.column("user_id").take(starts[:-1]), HISTORY: histories})
    columns = {name: str(form.columns.get(name, name)) for name in INTERACTIONS}
    return UserTable(_blocks(path, len(whole), size), columns, (), whole, of_interactions=True)


def _blocks(file: Path, rows: int, size: int, before: int = 0) -> list[Block]:
    starts = range(0, rows, size)
    return [Block(before + number, file, first, min(size, rows - first)) for number, first in enumerate(starts)]


def check_user_ids(table: UserTable) -> None:
    """Refuse a user id that is missing or stands twice; it takes 8 bytes of memory a user."""
    hashes = np.empty(len(table), np.int64)
    done = 0
    for block, column in table.user_ids():
        ids = id_column(column, f"{block.file}: column user_id")
        refuse_row(table, block, pc.fill_null(pc.equal(ids, ""), True), "user_id", "no id")
        hashes[done : done + len(ids)] = np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids))
        done += len(ids)
    hashes.sort()
    twice = {*hashes[1:][hashes[1:] == hashes[:-1]].tolist()}
    seen: dict[str, str] = {}
    for block, column in table.user_ids() if twice else ():
        for row, user in enumerate(id_column(column, f"{block.file}: column user_id").to_pylist()):
            if hash(user) in twice:
                if user in seen:
                    allowed = f"stands more than once, first in {seen[user]}; each user has one row"
                    raise InputError(f"{table.where(block, row)}: user_id", user, allowed)
                seen[user] = table.where(block, row)


def refuse_row(table: UserTable, block: Block, bad: pa.Array, field: str, found: str) -> None:
    """Raise InputError for the first row of a block that is set in `bad`."""
    rows = np.flatnonzero(np.asarray(bad))
    if len(rows):
        raise InputError(f"{table.where(block, int(rows[0]))}: {field}", found, "must have a value in every row")


def id_column(column: pa.Array, where: str) -> pa.Array:
    """Return ids as text; null where there is none. Raises InputError for a type that holds no ids."""
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    if pa.types.is_floating(column.type):
        raise InputError(where, str(column.type), "must hold text or integers")
    return as_text(column, where)


def list_column(column: pa.Array, where: str) -> tuple[np.ndarray, pa.Array]:
    """Return where each row's list begins, and one more for the end, and all ids as text; a null is an empty list."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column) + 1, np.int64), pa.array([], pa.string())
    if not is_list(column.type):
        raise InputError(where, str(column.type), "must hold lists of item ids, in Parquet or JSON lines")
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0)).astype(np.int64)
    return np.concatenate([[0], lengths.cumsum()]), id_column(column.flatten(), where)
