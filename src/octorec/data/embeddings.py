"""A user may bring vectors: a NumPy file with a row for each item, and a file with the items' ids in its order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.items import check_items
from octorec.data.tables import ENDINGS, read_table, unique_text_column
from octorec.errors import InputError

SHAPE = "must be a NumPy file of numbers [items, width], as numpy.save(path, vectors.astype('float32')) writes it"
IDS = f"must be .txt (an id a line), .json (a list), .npy, or a table with item_id ({', '.join(ENDINGS)})"
JSON_BYTES = 2**29  # most bytes of a list of ids: some ten million ids
VALUES = 2**31 - 1  # most numbers in all vectors: an Arrow list column holds no more
NAMED = 5  # ids named in an error


def read_embeddings(vectors: str | Path, ids: str | Path) -> pa.Table:
    """Read a table of item_id and vector (list<float>) from a .npy file [n, D] and the n ids of its rows.

    The file is mapped, never unpickled. Numbers of any width become float32. What is not n unique ids for n rows of
    finite numbers is an InputError that names file and row.
    """
    vectors, ids = Path(vectors), Path(ids)
    numbers = _numbers(vectors)
    names = _ids(ids)
    if len(names) != len(numbers):
        raise InputError(str(ids), f"{len(names):,} ids", f"{vectors} has {len(numbers):,} rows: one id a row")
    rows = np.empty(numbers.shape, np.float32)
    with np.errstate(over="ignore"):  # what float32 does not hold becomes infinity, which is refused
        rows[:] = numbers
    _refuse_rows(~np.all(np.isfinite(rows), axis=1), vectors, names)
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * numbers.shape[1])
    return pa.table({"item_id": names, "vector": pa.ListArray.from_arrays(offsets, pa.array(rows.ravel()))})


def with_embeddings(items: pa.Table | None, embeddings: pa.Table) -> pa.Table:
    """Return `items` (None: what `embeddings` names) with the column vector that `read_embeddings` read.

    An item without a vector and a vector without an item are InputErrors that name and count them.
    """
    if items is None:
        return embeddings
    items = check_items(items)
    if "vector" in items.column_names:
        raise InputError("items: columns", "vector", "embeddings bring the vectors: leave the column or them out")
    rows = pc.index_in(items["item_id"].combine_chunks(), embeddings["item_id"].combine_chunks())
    _refuse_ids(items["item_id"].filter(pc.is_null(rows)), "items without a vector", "every item needs a vector")
    spare = pc.invert(pc.is_in(embeddings["item_id"], items["item_id"].combine_chunks()))
    allowed = "every id must be in --items: take these rows out, or leave --items out"
    _refuse_ids(embeddings["item_id"].filter(spare), "ids that the items lack", allowed)
    return items.append_column("vector", embeddings["vector"].take(rows))


def _refuse_ids(ids: pa.ChunkedArray, what: str, allowed: str) -> None:
    if len(ids):
        some = ", ".join(ids.slice(0, NAMED).to_pylist())
        raise InputError("embeddings", f"{len(ids):,} {what}: {some}", allowed)


def _refuse_rows(bad: np.ndarray, path: Path, names: pa.Array) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        more = f" and {len(rows) - 1:,} more" if len(rows) > 1 else ""
        found = f"NaN, infinity or too large a number in row {rows[0] + 1} (item {names[int(rows[0])]}){more}"
        raise InputError(str(path), found, "must hold finite numbers that float32 holds")


def _numbers(path: Path) -> np.ndarray[tuple[int, int], Any]:
    """Return the array of a .npy file, mapped: [n, D], neither 0, of floats or integers."""
    found = _array(path, SHAPE)
    if found.dtype.kind == "V" and found.dtype.itemsize == 2 and not found.dtype.names:
        raise InputError(str(path), "2 bytes a number, perhaps bfloat16", f"{SHAPE}: NumPy has no bfloat16")
    if found.dtype.kind not in "fiu" or found.ndim != 2 or 0 in found.shape:
        raise InputError(str(path), f"{found.dtype} {list(found.shape)}", SHAPE)
    if found.size > VALUES:
        raise InputError(str(path), f"{found.size:,} numbers", f"at most {VALUES:,} in all: fewer items, or narrower")
    return found


def _array(path: Path, allowed: str) -> np.ndarray:
    _require_file(path, allowed)
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy parses the header as Python: a damaged one ends in any of its errors
        said = "Python objects (pickled)" if "Python objects" in str(error) or "allow_pickle" in str(error) else error
        raise InputError(str(path), str(said) or type(error).__name__, allowed) from error


def _ids(path: Path) -> pa.Array:
    """Return the unique ids in a file, as text."""
    name = path.name.lower()
    if name.endswith(ENDINGS):
        table = read_table(path, ["item_id"], ["item_id"])
    elif name.endswith((".txt", ".json", ".npy")):
        _require_file(path, IDS)
        read = {".txt": _text_ids, ".json": _json_ids, ".npy": _array_ids}[path.suffix.lower()]
        table = pa.table({"item_id": read(path)})
    else:
        raise InputError(str(path), path.suffix or "no ending", IDS)
    if table.num_rows == 0:
        raise InputError(str(path), "no ids", IDS)
    return unique_text_column(table, "item_id", str(path))


def _require_file(path: Path, allowed: str) -> None:
    if not path.is_file():  # a pipe would be waited for
        raise InputError(str(path), "no such file" if not path.exists() else "no regular file", allowed)


def _text(path: Path) -> str:
    if path.stat().st_size > JSON_BYTES:
        raise InputError(str(path), f"{path.stat().st_size:,} bytes", f"at most {JSON_BYTES:,}; .npy may have more")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(str(path), str(error), "must be UTF-8") from error


def _text_ids(path: Path) -> pa.Array:
    text = _text(path).replace("\r\n", "\n")
    return pa.array(text.removesuffix("\n").split("\n") if text else [], pa.string())


def _json_ids(path: Path) -> pa.Array:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), str(error), "must be a JSON list of ids") from error
    if not isinstance(found, list):
        raise InputError(str(path), type(found).__name__, "must be a JSON list of ids, in the order of the vectors")
    odd = next((i for i, value in enumerate(found) if type(value) not in (str, int)), None)
    if odd is not None:
        raise InputError(f"{path}: place {odd + 1}", found[odd], "an id is text or an integer")
    try:
        return pa.array([str(value) for value in found], pa.string())
    except (ValueError, pa.ArrowException) as error:  # half a surrogate; an integer of thousands of digits
        raise InputError(str(path), str(error), "ids must be UTF-8 text or integers") from error


def _array_ids(path: Path) -> pa.Array:
    found = _array(path, IDS)
    if found.ndim != 1 or found.dtype.kind not in "iuU":
        raise InputError(str(path), f"{found.dtype} {list(found.shape)}", "must be a list of integers or of text")
    try:
        return pa.array(np.asarray(found).tolist())
    except (ValueError, pa.ArrowException) as error:
        raise InputError(str(path), str(error), "ids must be UTF-8 text or integers") from error
