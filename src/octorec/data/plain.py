"""Columns get plain types: the same values have one type, whichever program wrote them."""

import uuid

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.errors import InputError


def plain_column(column: pa.Array | pa.ChunkedArray, where: str) -> pa.Array | pa.ChunkedArray:
    """Return `column` without what only its writer chose; `where` names it in errors.

    Text is string, whether it was large, a view, binary or a UUID; lists are list, whether they were large, views or of
    fixed size; categories and extension types are their values; times with a zone are in UTC. Other types stay.
    """
    try:
        if isinstance(column, pa.ChunkedArray):
            chunks = [_plain(chunk) for chunk in column.chunks] or [_plain(pa.array([], column.type))]
            return pa.chunked_array(chunks)
        return _plain(column)
    except (pa.ArrowException, ValueError) as error:
        allowed = "text must be UTF-8, and text or lists below 2^31 bytes or values"
        raise InputError(where, f"{column.type} ({error})", allowed) from error


def is_list(kind: pa.DataType) -> bool:
    """Tell whether a type holds lists of any form."""
    types = pa.types
    some = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return any(check(kind) for check in some)


def _plain(column: pa.Array) -> pa.Array:
    kind = column.type
    if isinstance(kind, pa.UuidType):
        names = [None if value is None else str(uuid.UUID(bytes=value)) for value in column.storage.to_pylist()]
        return pa.array(names, pa.string())
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(column.storage)
    if pa.types.is_dictionary(kind):
        values = _plain(column.dictionary)
        return pa.DictionaryArray.from_arrays(column.indices, values).dictionary_decode()
    if is_list(kind):
        return _list(column)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return column.cast(pa.timestamp(kind.unit, "UTC"))
    return column.cast(pa.string()) if _is_any_text(kind) else column


def _list(column: pa.Array) -> pa.Array:
    """Return a column of any list type as list; a cast of list views would lose values (pyarrow 26)."""
    lengths = np.asarray(pc.list_value_length(column).fill_null(0)).astype(np.int64)
    ends = lengths.cumsum()
    if len(ends) and ends[-1] >= 2**31:
        raise ValueError(f"{ends[-1]} values")
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    mask = column.is_null() if column.null_count else None
    return pa.ListArray.from_arrays(offsets, _plain(column.flatten()), mask=mask)


def _is_any_text(kind: pa.DataType) -> bool:
    types = pa.types
    text = (types.is_string, types.is_large_string, types.is_string_view)
    return any(check(kind) for check in (*text, types.is_binary, types.is_large_binary, types.is_binary_view))
