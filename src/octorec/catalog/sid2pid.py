"""Read the `sid2pid.json` files of OpenOneRec and OneReason, which name the items of each semantic ID.

    {"137443": [{"pid": 71, "count": 12, "count_after_downsample": 3}, ...], ...}

A key is a * 8192^2 + b * 8192 + c, whatever a level's size. `sid2iid.json` has iid in the place of pid.
"""

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.catalog.sid_rows import SidRows
from octorec.data.tables import is_text
from octorec.errors import InputError
from octorec.reading import read_text

BITS = 13  # of a level's code in a key: the stride is 8192
LEVELS = 3
MOST_BYTES = 2**31
IDS = ("pid", "iid")
COUNT, DOWNSAMPLED = "count", "count_after_downsample"
ENTRY = 'must be [{"pid" or "iid": 71, "count": 12, "count_after_downsample": 3}, ...]'
KEY = f"must be a * 8192^2 + b * 8192 + c as digits, below {2 ** (BITS * LEVELS)}"
READ = type("Entry", (), {"__repr__": lambda _: "an object"})()  # stands for an entry whose values were kept


def read_sid2pid(path: str | Path) -> SidRows:
    """Return the items of a file: by count after downsampling, the most first, equal ones in the file's order.

    `counts` are those before downsampling (`count`). Raises InputError for what is not of this form, by key.
    """
    with _unwatched():
        return _read(Path(path))


def _read(path: Path) -> SidRows:
    values, found, id_field = _parsed(path)
    keys, lists = [key for key, _ in found], [items for _, items in found]
    packed = _packed(path, keys)
    _check_lists(path, keys, lists, len(values) // 3)
    if not values:
        raise InputError(str(path), "no items", "a catalog needs at least one")
    sizes = np.fromiter(map(len, lists), np.int64, len(lists))
    ids, counts, downsampled = _columns(path, values, keys, sizes, id_field)
    order = np.argsort(-downsampled, kind="stable")
    codes = unpacked(np.repeat(packed, sizes))
    return SidRows(path, ids, codes, None, counts, id_field).take(order)


def _parsed(path: Path) -> tuple[list[Any], list[tuple[str, Any]], str]:
    """Return the id and both counts of all entries in one list; the keys with their lists of READ; the id's name.

    Of an object only its values are kept as it is read: millions of dictionaries would take gigabytes.
    """
    values: list[Any] = []

    def taken(pairs: list[tuple[str, Any]]) -> Any:
        if len(pairs) == 3:
            (name, item), (second, count), (third, downsampled) = pairs
            if name in IDS and second == COUNT and third == DOWNSAMPLED:  # as nearly all are
                names.add(name)
                keep((item, count, downsampled))
                return READ
        if not pairs or isinstance(pairs[0][1], list):
            return pairs  # the outer object, or what `_check_lists` refuses
        entry = dict(pairs)
        if len(entry) < len(pairs):
            raise ValueError(f"a key stands twice in one object: {entry}"[:200])
        name = "pid" if "pid" in entry else "iid"
        names.add(name)
        keep((entry.get(name), entry.get(COUNT), entry.get(DOWNSAMPLED)))
        return READ

    names: set[str] = set()
    keep = values.extend
    try:
        found = json.loads(read_text(path, "catalog", MOST_BYTES), object_pairs_hook=taken)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), str(error), "must be a readable JSON file") from error
    if not isinstance(found, list):  # a single entry, or no object
        raise InputError(str(path), "no object of SIDs", f'must be {{"SID": [...], ...}}, where a list {ENTRY}')
    if len(names) > 1:
        raise InputError(str(path), "entries with pid and entries with iid", "must have one of the two")
    return values, found, next(iter(names), "pid")


@contextmanager
def _unwatched() -> Iterator[None]:
    """Let no garbage collection look at millions of lists again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def unpacked(packed: np.ndarray) -> np.ndarray:
    """Return the codes [n, 3] int64 of packed SIDs [n]."""
    return packed.astype(np.int64)[:, None] >> BITS * np.arange(LEVELS)[::-1] & 2**BITS - 1


def _packed(path: Path, keys: Sequence[str]) -> np.ndarray:
    """Return the packed codes [SIDs] int64."""
    try:
        column = pa.array(keys, pa.string())
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise InputError(f"{path}: key", error.object, KEY) from error
    fits = np.asarray(pc.match_substring_regex(column, r"^(0|[1-9][0-9]{0,11})$"))
    if not fits.all():
        raise InputError(f"{path}: key", keys[int(np.flatnonzero(~fits)[0])], KEY)
    packed = np.asarray(column.cast(pa.int64()))
    beyond = np.flatnonzero(packed >= 2 ** (BITS * LEVELS))
    if len(beyond):
        raise InputError(f"{path}: key", keys[beyond[0]], KEY)
    ascending = np.sort(packed)
    twice = np.flatnonzero(ascending[1:] == ascending[:-1])
    if len(twice):
        raise InputError(f"{path}: key", str(ascending[twice[0]]), "stands twice; each SID may stand once")
    return packed


def _check_lists(path: Path, keys: Sequence[str], lists: Sequence[Any], entries: int) -> None:
    """Refuse a value that is no list of entries."""
    whole = set(map(type, lists)) == {list}
    if whole and sum(map(list.count, lists, repeat(READ))) == entries == sum(map(len, lists)):
        return
    for key, items in zip(keys, lists, strict=True):
        if not isinstance(items, list):
            raise InputError(f"{path}: key {key}", "an object" if items is READ else items, ENTRY)
        if wrong := [item for item in items if item is not READ]:
            raise InputError(f"{path}: key {key}", wrong[0], ENTRY)
    raise InputError(str(path), "an object within an entry", ENTRY)


def _columns(
    path: Path, values: list[Any], keys: Sequence[str], sizes: np.ndarray, id_field: str
) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Return ids [n] string, and both counts [n] int64."""
    ends = sizes.cumsum()

    def column(place: int, name: str, text: bool = False) -> pa.Array:
        allowed = f"{name} must be an integer of 0 or more{' or text' if text else ''}"
        found = values[place::3]
        try:
            array = pa.array(found)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            array = None
        if array is not None and not array.null_count:
            if text and is_text(array.type):
                return array
            if array.type == pa.int64() and (not len(array) or pc.min(array).as_py() >= 0):
                return array
        row = next((row for row, value in enumerate(found) if not _fits(value, text)), None)
        if row is None:
            raise InputError(f"{path}: {name}", "integers and text", "must be all integers, or all text in UTF-8")
        key = keys[int(ends.searchsorted(row, "right"))]
        raise InputError(f"{path}: key {key}: {name}", found[row], allowed)

    ids = column(0, id_field, text=True)
    return ids.cast(pa.string()), *(np.asarray(column(n, name)) for n, name in ((1, COUNT), (2, DOWNSAMPLED)))


def _fits(value: Any, text: bool) -> bool:
    return (type(value) is int and 0 <= value < 2**63) or (text and isinstance(value, str))
