"""A Parquet file's footer and page headers say something about the size of its columns.

They are in Thrift's compact protocol. They are read here, as pyarrow ends the process where some of its fields are
damaged.
"""

import mmap
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octorec.errors import InputError

MAGIC = b"PAR1"
MOST_BYTES = 2**28
DEEPEST = 24  # structs, lists and maps in one another; Parquet's own need 12
BYTES = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8, 6: 8}  # bytes of a value of each physical type; type 7 says its length
TEXT, FIXED = 6, 7


@dataclass(frozen=True)
class Chunk:
    """A Chunk is one leaf column of one row group. path: names from the column down to its leaf. size: bytes that its
    values may take, of text those of the pages and not of what repeats in them. largest_page: bytes, unpacked.
    """

    path: tuple[str, ...]
    size: int
    largest_page: int


def read_chunks(path: Path, columns: Collection[str]) -> list[Chunk]:
    """Read every chunk of `columns`; a file whose footer or page headers are damaged is an InputError."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            about = _Reader(content, _footer_start(path, content)).struct(0)
            widths = [element.get(2, 0) for element in about[2] if element.get(1) is not None]
            groups = about.get(4, [])
            pairs = [(column[3], width) for group in groups for column, width in zip(group[1], widths, strict=True)]
            return [_chunk(content, *pair) for pair in pairs if pair[0][3][0].decode() in columns]
    except InputError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise InputError(str(path), "a damaged footer or page header", "must be a whole .parquet file") from error


def _chunk(content: mmap.mmap, about: dict[int, Any], width: int) -> Chunk:
    kind, names, values = about[1], about[3], about[5]
    if min(values, width) < 0:
        raise ValueError("negative sizes")
    size = values * (width if kind == FIXED else BYTES[kind])
    if len(names) > 1:
        size += values * 8  # offsets of the lists
    pages = list(_pages(content, about))
    if kind == TEXT:
        size += sum(pages)
    return Chunk(tuple(name.decode() for name in names), size, max(pages, default=0))


def _pages(content: mmap.mmap, about: dict[int, Any]) -> Iterator[int]:
    """Yield the bytes of each page, unpacked, as its own header says: what the footer says of them
    could be anything.
    """
    values, at, dictionary = about[5], about[9], about.get(11)
    if dictionary is not None and 0 < dictionary < at:
        at = dictionary
    end = at + about[7]
    while values > 0 and at < end:
        header = _Reader(content, at)
        page = header.struct(0)
        unpacked, packed = page[2], page[3]
        if min(at, unpacked, packed) < 0:
            raise ValueError("negative sizes")
        yield unpacked
        rows = page.get(5) or page.get(8)
        values -= rows[1] if rows else 0
        at = header.at + packed


def _footer_start(path: Path, content: mmap.mmap) -> int:
    length = int.from_bytes(content[-8:-4], "little")
    if content[-4:] != MAGIC or not 0 < length <= len(content) - 12:
        raise InputError(str(path), f"{content[-4:]!r} at its end", "must be a whole .parquet file, unencrypted")
    if length > MOST_BYTES:
        raise InputError(str(path), f"a footer of {length} bytes", f"at most {MOST_BYTES}")
    return len(content) - 8 - length


class _Reader:
    """A _Reader reads Thrift's compact protocol as numbers, bytes, lists, and dictionaries by field number."""

    def __init__(self, content: mmap.mmap, at: int):
        self.content, self.at = content, at
        read: dict[int, Callable[[int], Any]] = {1: self._flag, 2: self._flag, 3: self._byte, 7: self._double}
        read |= dict.fromkeys((4, 5, 6), self._integer)
        self.read = read | {8: self._binary, 9: self._list, 10: self._list, 11: self._map, 12: self.struct}

    def struct(self, depth: int) -> dict[int, Any]:
        self._not_too_deep(depth)
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte(depth):
            number = number + (head >> 4) if head >> 4 else self._integer(depth)
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self.read[kind](depth + 1)
        return fields

    def _not_too_deep(self, depth: int) -> None:
        if depth > DEEPEST:
            raise ValueError("too deep")

    def _byte(self, depth: int) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def _flag(self, depth: int) -> bool:
        return self._byte(depth) == 1

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.content[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _integer(self, depth: int) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _double(self, depth: int) -> float:
        return float(struct.unpack("<d", self._take(8))[0])

    def _binary(self, depth: int) -> bytes:
        return self._take(self._varint())

    def _list(self, depth: int) -> list[Any]:
        self._not_too_deep(depth)
        head = self._byte(depth)
        size = head >> 4 if head >> 4 < 15 else self._varint()
        return self._values(size, head & 15, depth + 1)

    def _map(self, depth: int) -> list[Any]:
        self._not_too_deep(depth)
        size = self._varint()
        kinds = self._byte(depth) if size else 0
        inside = depth + 1
        return [(self.read[kinds >> 4](inside), self.read[kinds & 15](inside)) for _ in range(self._possible(size))]

    def _values(self, size: int, kind: int, depth: int) -> list[Any]:
        read = self.read[kind]
        return [read(depth) for _ in range(self._possible(size))]

    def _possible(self, size: int) -> int:
        """Return a number of values, which is possible if each takes at least a byte."""
        if size > len(self.content) - self.at:
            raise ValueError("more values than bytes")
        return size

    def _take(self, size: int) -> bytes:
        self.at += self._possible(size)
        return self.content[self.at - size : self.at]
