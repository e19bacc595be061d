"""Items with the codes that another program gave them become a catalog.

Letters: n items, L levels.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.catalog.catalog import Catalog
from octorec.catalog.columns import COUNTS
from octorec.data.tables import refuse_rows
from octorec.errors import InputError, level_name

logger = logging.getLogger(__name__)
OPENONEREC, NONE = ("pid", "iid"), "0"  # its ids, and the one that stands for no item
NAMED = 5  # codes in an error


@dataclass(frozen=True)
class SidRows:
    """SidRows are the rows of a file of semantic IDs; items of one SID lie in the order in which answers give them.

    ids [n] string. codes [n, L] int64, not negative. titles [n] string or None. counts [n] int64: how often each item
    was met; None where the file does not say it. id_field: the name of the id in the file.
    """

    path: Path
    ids: pa.Array
    codes: np.ndarray
    titles: pa.Array | None = None
    counts: np.ndarray | None = None
    id_field: str = "pid"

    def take(self, rows: np.ndarray) -> "SidRows":
        """Return these rows alone, in this order."""
        titles = None if self.titles is None else self.titles.take(pa.array(rows))
        counts = None if self.counts is None else self.counts[rows]
        return SidRows(self.path, self.ids.take(pa.array(rows)), self.codes[rows], titles, counts, self.id_field)


def catalog_of(rows: SidRows, codebook_sizes: Sequence[int] | None) -> Catalog:
    """Return a catalog of `rows`, without a codebook, whose items of one SID keep their order.

    codebook_sizes: the model's; None takes each level's largest code + 1. Rows whose pid or iid is 0 are left out, and
    so is what says the same of an item a second time; a log line counts them.
    Raises InputError for an item with two SIDs, codes that a level lacks, and a file without items.
    """
    where = f"{rows.path}: {rows.id_field}"
    refuse_rows(pc.equal(rows.ids, ""), where, "empty text", "must not be empty")
    if rows.id_field in OPENONEREC:
        rows = _without(
            rows, np.asarray(pc.equal(rows.ids, NONE)), f"rows whose {rows.id_field} is 0, which is no item"
        )
    if not len(rows.codes):
        raise InputError(str(rows.path), "no items", "a catalog needs at least one")
    rows = _without(rows, _repeated(rows, where), "rows that say an item's SID again")
    sizes = tuple(int(code) + 1 for code in rows.codes.max(0)) if codebook_sizes is None else tuple(codebook_sizes)
    check_fitting(rows.codes, sizes, str(rows.path))
    offsets = np.arange(len(rows.codes) + 1, dtype=np.int32) * rows.codes.shape[1]
    columns = {"item_id": rows.ids}
    if rows.titles is not None:
        columns["title"] = rows.titles
    columns["codes"] = pa.ListArray.from_arrays(offsets, pa.array(rows.codes.ravel().astype(np.int32)))
    if rows.counts is not None:
        columns[COUNTS] = pa.array(rows.counts)
    return Catalog.of_items(pa.table(columns), sizes, as_given=True)


def check_fitting(codes: np.ndarray, sizes: Sequence[int], where: str) -> None:
    """Raise InputError unless `codes` [n, L] has a level for each of `sizes` and only codes below them."""
    if codes.shape[1] != len(sizes):
        raise InputError(f"{where}: levels", codes.shape[1], f"the model has {len(sizes)}, of {tuple(sizes)} codes")
    for level, size in enumerate(sizes):
        refuse_codes(where, level, codes[:, level], codes[:, level] >= size, f"the model's level has {size:,} codes")


def refuse_codes(where: str, level: int, codes: np.ndarray, wrong: np.ndarray, allowed: str) -> None:
    """Raise InputError where any of `codes` [n] of a level is `wrong` [n] bool: which codes, and how many."""
    if wrong.any():
        lacking = np.unique(codes[wrong])
        some = ", ".join(map(str, lacking[:NAMED])) + (", ..." if len(lacking) > NAMED else "")
        found = f"{len(lacking):,} codes that the level lacks ({some}), of {int(wrong.sum()):,} items"
        raise InputError(f"{where}: codes of level {level_name(level)}", found, allowed)


def _without(rows: SidRows, left: np.ndarray, what: str) -> SidRows:
    if not left.any():
        return rows
    logger.warning("%s: left out %s %s", rows.path, f"{int(left.sum()):,}", what)
    return rows.take(np.flatnonzero(~left))


def _repeated(rows: SidRows, where: str) -> np.ndarray:
    """Return [n] bool: rows of an item that stands before; an InputError where its SID differs."""
    repeated = np.zeros(len(rows.codes), bool)
    if pc.count_distinct(rows.ids).as_py() == len(repeated):
        return repeated
    encoded = rows.ids.dictionary_encode()
    number = np.asarray(encoded.indices)
    _, first = np.unique(number, return_index=True)  # of each item, as dictionaries are numbered by appearance
    repeated[:] = True
    repeated[first] = False
    unlike = np.flatnonzero((rows.codes != rows.codes[first[number]]).any(1))
    if len(unlike):
        row = unlike[0]
        sids = f"{rows.codes[first[number[row]]].tolist()} and {rows.codes[row].tolist()}"
        more = f"; so have {len(unlike) - 1:,} more rows" if len(unlike) > 1 else ""
        raise InputError(f"{where} {rows.ids[int(row)].as_py()[:40]!r}", f"the SIDs {sids}{more}", "one SID an item")
    return repeated
