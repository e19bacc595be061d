"""The rows of a block become requests that are checked and looked up, column by column where that is faster.

Ids are looked up by Arrow, which keeps no other thread of Python waiting: 2 million in a quarter of a second.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.catalog.catalog import Catalog
from octorec.engine.batch import LookedUp, ParsedRequest
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.offline.table import HISTORY, PROMPTS, Block, UserTable, id_column, list_column, refuse_row


class Ids(Sequence[str]):
    """Ids are the item ids of one history, of which a text is made where somebody asks for it."""

    def __init__(self, values: pa.Array, start: int, end: int):
        self.values, self.start, self.end = values, start, end

    def __len__(self) -> int:
        return self.end - self.start

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: Any) -> Any:
        found = self.values.slice(self.start, len(self))[at]
        return found.to_pylist() if isinstance(at, slice) else found.as_py()


@dataclass(frozen=True)
class Rows:
    """Rows are the users of a block. users: their ids. starts [n + 1], ids, places: all histories, concatenated.

    own: by field of `Request`, a value a row. unknown: ids of histories that the catalog lacks.
    """

    table: UserTable
    block: Block
    users: pa.Array
    starts: Sequence[int]
    ids: pa.Array
    places: np.ndarray
    own: Sequence[Mapping[str, Any]]
    unknown: int

    def __len__(self) -> int:
        return self.block.count

    def looked_up(self, row: int) -> LookedUp:
        start, end = self.starts[row], self.starts[row + 1]
        return Ids(self.ids, start, end), self.places[start:end]

    def parsed(self, engine: Engine, asked: Request, drop: bool) -> Iterator[tuple[int, ParsedRequest]]:
        """Yield each row's request by its number. asked: what all rows ask for. drop: leave out unknown items.

        What is wrong with a row is an InputError that names file, row and field.
        """
        for row in range(len(self)):
            try:
                request = replace(asked, **self.own[row]) if self.own else asked
                parsed = engine.parse(request, drop, self.looked_up(row))
            except InputError as error:
                where = f"{self.table.where(self.block, row)}: {error.field}"
                raise InputError(where, error.value, error.allowed) from error
            yield row, parsed


def rows_of(table: UserTable, block: Block, part: pa.Table, catalog: Catalog, engine: Engine) -> Rows:
    """Return the rows of a block, their histories looked up in `catalog`. Raises InputError for a null among items."""
    users = id_column(_column(part, "user_id"), f"{block.file}: column user_id")
    count = len(part)
    starts, ids = np.zeros(count + 1, np.int64), pa.array([], pa.string())
    if HISTORY in part.column_names:
        starts, ids = list_column(_column(part, HISTORY), f"{block.file}: column {HISTORY}")
    if ids.null_count:
        rows = np.searchsorted(starts, np.flatnonzero(np.asarray(ids.is_null())), "right") - 1
        refuse_row(table, block, pa.array(np.isin(np.arange(count), rows)), HISTORY, "null among its items")
    found = pc.fill_null(pc.index_in(ids, value_set=_item_ids(catalog)), -1)
    places = np.asarray(found).astype(np.int64)
    own = _own(table, block, part, users, engine)
    return Rows(table, block, users, starts.tolist(), ids, places, own, int((places < 0).sum()))


def _own(table: UserTable, block: Block, part: pa.Table, users: pa.Array, engine: Engine) -> list[dict[str, Any]]:
    """Return what each row asks for beside its history; nothing where no row can."""
    features, columns = engine.features, {}
    for name in ("exclude", *PROMPTS):
        if name in part.column_names:
            columns[name] = _values(_column(part, name), name, block)
    of_user = {name: _values(_column(part, name), name, block) for name in table.fields if name not in features}
    given = {name: _values(_column(part, name), name, block) for name in table.fields if name in features}
    if not (columns or of_user or given or table.users):
        return []
    own: list[dict[str, Any]] = []
    for row, user in enumerate(users.to_pylist()):
        about = {name: values[row] for name, values in columns.items() if values[row] is not None}
        about["user"] = {**table.users.get(user, {}), **_present(of_user, row)}
        about["features"] = _present(given, row)
        own.append(about)
    return own


def _present(columns: Mapping[str, Sequence[Any]], row: int) -> dict[str, Any]:
    return {name: values[row] for name, values in columns.items() if values[row] is not None}


def _values(column: pa.Array, name: str, block: Block) -> list[Any]:
    if name == "exclude":
        starts, ids = list_column(column, f"{block.file}: column {name}")
        every = ids.to_pylist()
        return [every[start:end] for start, end in pairwise(starts)]
    return column.to_pylist()


def _column(part: pa.Table, name: str) -> pa.Array:
    column = part.column(name)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _item_ids(catalog: Catalog) -> pa.Array:
    return _column(catalog.items, "item_id")
