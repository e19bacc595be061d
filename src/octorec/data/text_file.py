"""A file of UTF-8 text, plain or in gzip, is read in bounded memory; an error says what another kind of file is."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from octorec.data.expanded import limit, refuse_beyond
from octorec.errors import InputError

HEAD = 2**20  # bytes that are looked at first
UTF16, UTF32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
SAVE = "save it as UTF-8 (in Excel: CSV UTF-8)"
OTHERS = {  # first bytes of files of other kinds
    b"PK\3\4": ("a zip or Excel file", "in Excel save it as CSV UTF-8; unpack a zip"),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", "in Excel save it as CSV UTF-8"),
    b"PAR1": ("a Parquet file", "rename it to end in .parquet"),
    b"\x1f\x8b": ("a gzip file", "add .gz to its name"),
    b"BZh": ("a bzip2 file", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("an xz file", "unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("a Zstandard file", "unpack it with unzstd"),
    b"7z\xbc\xaf": ("a 7z file", "unpack it"),
    b"SQLite format 3": ("an SQLite database", "write the table as CSV"),
    b"ARROW1": ("an Arrow (Feather) file", "write it as Parquet"),
    b"ORC": ("an ORC file", "write it as Parquet"),
    b"Obj\1": ("an Avro file", "write it as Parquet"),
    b"\x89HDF": ("an HDF5 file", "write it as Parquet"),
    b"\x80\4\x95": ("a pickle of Python", "write it as Parquet, with DataFrame.to_parquet"),
    b"\x80\5\x95": ("a pickle of Python", "write it as Parquet, with DataFrame.to_parquet"),
    b"%PDF": ("a PDF", "write the table as CSV"),
    b"\x93NUMPY": ("a NumPy array", "write a table with named columns"),
    b"<!DOCTYPE": ("a web page", "maybe the download wants a login; save the table itself"),
    b"<html": ("a web page", "maybe the download wants a login; save the table itself"),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file itself with git lfs pull"),
}


class TextFile:
    """A TextFile is UTF-8 text; a file whose name ends in .gz is read as what it holds."""

    def __init__(self, path: Path):
        """Look at the beginning; what is no text is an InputError."""
        self.path = path
        self._packed = path.suffix.lower() == ".gz"
        self._unpacked: bytes | None = None
        with path.open("rb") as plain:
            raw = plain.read(HEAD)
        if self._packed and raw and not raw.startswith(b"\x1f\x8b"):
            raise InputError(str(path), "no gzip file", "take .gz from its name")
        head = self._unpack(HEAD) if self._packed else raw
        if self._packed and head.startswith(b"\x1f\x8b"):
            raise InputError(str(path), "a gzip file within a gzip file", f"unpack it once: gunzip {path.name}")
        refuse_others(path, head)
        self.whole = len(head) < HEAD
        self.head = self._text(head)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Yield the bytes, which take at most as much memory as a file of this size may."""
        if self._packed and self._unpacked is None:
            self._unpacked = self._unpack(limit(self.path) + 1)
            refuse_beyond(self.path, len(self._unpacked), str(self.path))
        with self.path.open("rb") if self._unpacked is None else io.BytesIO(self._unpacked) as file:
            yield file

    def replace(self, old: bytes, new: bytes) -> None:
        """Read `new` where the file has `old`, from now on."""
        with self.open() as file:
            content = file.read()
        if new in content:
            raise InputError(str(self.path), f"the character {new!r}", f"may not stand in a file separated by {old!r}")
        self._unpacked = content.replace(old, new)
        self.head = self.head.replace(old.decode(), new.decode())

    def _unpack(self, most: int) -> bytes:
        try:
            with gzip.open(self.path) as file:
                return file.read(most)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(str(self.path), str(error), "must be a whole .gz file") from error

    def _text(self, head: bytes) -> str:
        if head.startswith((*UTF16, *UTF32)):
            kind = "UTF-32" if head.startswith(UTF32) else "UTF-16"
            raise InputError(str(self.path), kind, f"{SAVE}, or: iconv -f {kind} -t UTF-8 {self.path.name} > new.csv")
        if b"\0" in head:
            wide = any(not head[start:40:2].strip(b"\0") for start in (0, 1))
            kind = "text, and looks like UTF-16 without a byte order mark" if wide else "text"
            raise InputError(str(self.path), f"NUL bytes, first {head[:40]!r}", f"must be {kind}: {SAVE}")
        text = decode(self.path, head, codecs.getincrementaldecoder("utf-8-sig")(), 0)
        if not text.strip():
            raise InputError(str(self.path), "nothing" if not head else "blank lines", "must hold a table")
        return text


def refuse_others(path: Path, head: bytes) -> None:
    """Raise InputError when `head` begins a file of a known kind that is not what the name says."""
    for magic, (kind, advice) in OTHERS.items():
        if head.startswith(magic):
            raise InputError(str(path), kind, f"its name ends in {''.join(path.suffixes[-2:]) or 'nothing'}: {advice}")


def decode(path: Path, part: bytes, decoder: codecs.IncrementalDecoder, before: int, final: bool = False) -> str:
    """Decode a part of a file, `before` bytes from its start; bytes that are no UTF-8 are an InputError."""
    try:
        return decoder.decode(part, final)
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start : error.start + 1].hex()} near byte {before + error.start} of the file"
        allowed = (
            f"is no UTF-8, maybe Latin-1 (Windows-1252): {SAVE}, or: iconv -f CP1252 -t UTF-8 {path.name} > new.csv"
        )
        raise InputError(str(path), found, allowed) from error
