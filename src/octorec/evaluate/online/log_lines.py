"""The rows of a log are written as lines of JSON, and read back as Arrow tables.

A file begins with a head, which says whose rows follow and how many were lost. It always has HEAD bytes, so that it can
be written again in its place where the disk has no room for anything else. Then comes an object a line; a time in it is
an integer, microseconds since 1970. All is UTF-8.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.json

from octorec.errors import InputError

HEAD = 512  # bytes
LONGEST = 2**20  # bytes of a line
CHUNK_BYTES = 2**23  # bytes of lines that are parsed together
ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True)
class Head:
    """A Head says what a log's file is.

    name: of the file, without its ending. lost: rows that could not be written while it was open. closed: whether
    its process ended it itself. torn: lines that could not be read when it was made Parquet.
    """

    name: str
    columns: tuple[str, ...]
    lost: int = 0
    closed: bool = False
    torn: int = 0

    def line(self) -> bytes:
        """Return HEAD bytes, a line end among them."""
        return ENCODE(dataclasses.asdict(self)).encode().ljust(HEAD - 1) + b"\n"


def parse_head(raw: bytes, where: str, schema: pa.Schema) -> Head:
    """Read the head that `Head.line` or a Parquet file's metadata has; anything else is an InputError about `where`."""
    try:
        head = Head(**json.loads(raw))
        known = isinstance(head.name, str) and tuple(head.columns) == tuple(schema.names)
        known = known and type(head.lost) is type(head.torn) is int and isinstance(head.closed, bool)
    except (ValueError, TypeError, RecursionError):
        known = False
    if not known:
        raise InputError(where, raw[:80], f"must begin as a log of {', '.join(schema.names)}: it is another file")
    return head


def encoder(schema: pa.Schema) -> Callable[[dict[str, Any]], bytes]:
    """Return a function that makes a line of a row. Its time is a number, seconds since 1970; what it lacks is null.

    The function raises ValueError for unknown names, values of other types, NaN, and lines longer than LONGEST.
    """
    checks = {field.name: _check_of(field.type) for field in schema}

    def encode(row: dict[str, Any]) -> bytes:
        made = {}
        for name, value in row.items():
            if name not in checks:
                raise ValueError(f"a row has {name!r}, which its log has not")
            try:
                made[name] = None if value is None else checks[name](value)
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"a row's {name} is of another type: {type(value).__name__}") from error
        line = ENCODE(made).encode() + b"\n"
        if len(line) > LONGEST:
            raise ValueError(f"a row of {len(line):,} bytes; at most {LONGEST:,}")
        return line

    return encode


def _check_of(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_timestamp(kind):
        return _microseconds
    if pa.types.is_list(kind):
        return lambda value: [_of(str, one) for one in value]
    if pa.types.is_integer(kind):
        return lambda value: _of(int, value)
    return _finite if pa.types.is_floating(kind) else lambda value: _of(str, value)


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError
    return value


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _microseconds(value: Any) -> int:
    return round(_finite(value) * 1e6)


def line_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of a file, some whole lines at a time; what stands behind the last line end comes last."""
    rest = b""
    while part := file.read(CHUNK_BYTES):
        whole, end, last = part.rpartition(b"\n")
        if end:
            yield rest + whole + end
            rest = last
        else:
            rest += part
    if rest:
        yield rest


def parse_lines(lines: bytes, schema: pa.Schema) -> tuple[list[pa.Table], int]:
    """Return the rows of some lines, in order, and how many lines are no rows."""
    wire = pa.schema([(one.name, pa.int64() if pa.types.is_timestamp(one.type) else one.type) for one in schema])
    return _parse(lines, wire, schema)


def _parse(lines: bytes, wire: pa.Schema, schema: pa.Schema) -> tuple[list[pa.Table], int]:
    if not lines.strip():
        return [], 0
    read = pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 64)
    parse = pyarrow.json.ParseOptions(explicit_schema=wire, unexpected_field_behavior="error")
    try:
        table = pyarrow.json.read_json(pa.BufferReader(lines), read, parse).cast(schema)
        table.validate(full=True)  # text that is no UTF-8
        return [table], 0
    except pa.ArrowInvalid:
        middle = lines.find(b"\n", len(lines) // 2) + 1
        if middle in (0, len(lines)):  # the second half is one line
            middle = lines.rfind(b"\n", 0, len(lines) - 1) + 1
        if middle == 0:
            return [], 1
    (before, bad), (after, worse) = (_parse(half, wire, schema) for half in (lines[:middle], lines[middle:]))
    return before + after, bad + worse
