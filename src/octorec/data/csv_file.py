"""One CSV file: its encoding, delimiter and quotes are checked, so that what is read is what was written."""

import codecs
import csv
import gzip
import io
import sys
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from octorec.data.expanded import limit, refuse_beyond
from octorec.errors import InputError

DELIMITERS = ",;\t|"
HEAD = 2**20  # bytes that must hold the header
MOST_COLUMNS = 10_000
PART = 2**20  # bytes looked at together
BLOCKS = (2**20, 2**24, 2**28, 2**30)  # bytes parsed together: one of them must hold the longest row
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SAVE = "save it as UTF-8 (in Excel: CSV UTF-8)"


class CsvFile:
    """A CSV whose header is known: names as they stand there, and the delimiter, which is the header's , ; tab or |."""

    def __init__(self, path: Path):
        """Read the header; what is no text, or no CSV, is an InputError."""
        self.path = path
        self._unpacked = _unpack(path) if path.suffix.lower() == ".gz" else None
        with self._open() as file:
            head = file.read(HEAD)
        text = _text(path, head)
        line = text.lstrip("\r\n").replace("\r", "\n").split("\n", 1)[0]
        self.delimiter = next((mark for mark in DELIMITERS if mark in line), ",")
        self.names = _header(path, text, self.delimiter, whole=len(head) < HEAD)
        if len(self.names) > MOST_COLUMNS:
            raise InputError(f"{path}: columns", len(self.names), f"at most {MOST_COLUMNS}")

    def read(self, columns: Collection[str], inferred: Collection[str] = ()) -> pa.Table:
        """The `columns` as text, an empty value as ""; those of `inferred` as numbers, booleans, dates or timestamps
        where all their values are, an empty value as null. Every row has as many values as the header."""
        if self._survey():
            self._check_quotes()
        types = {name: pa.string() for name in columns if name not in inferred}
        convert = pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(columns))
        table = self._parse(convert)
        for name in types:
            if pc.any(pc.match_substring(table.column(name), "\0")).as_py():
                raise InputError(f"{self.path}: column {name}", "NUL bytes", "must be text")
        return table

    def _open(self) -> BinaryIO:
        return self.path.open("rb") if self._unpacked is None else io.BytesIO(self._unpacked)

    def _survey(self) -> bool:
        """Whether the file has quotes; bytes that are no UTF-8 are an InputError with their place."""
        decoder, quotes, before = codecs.getincrementaldecoder("utf-8")(), False, 0
        with self._open() as file:
            while part := file.read(PART):
                quotes = quotes or b'"' in part
                _decode(self.path, part, decoder, before)
                before += len(part)
        _decode(self.path, b"", decoder, before, final=True)
        return quotes

    def _check_quotes(self) -> None:
        """Refuse quotes that do not pair up, which would swallow rows, and rows of unlike length."""
        before = csv.field_size_limit(sys.maxsize)
        try:
            with io.TextIOWrapper(self._open(), encoding="utf-8-sig", newline="") as text:
                rows = csv.reader(text, delimiter=self.delimiter, strict=True)
                for row in rows:
                    if row and len(row) != len(self.names):
                        found = f"{len(row)} values"
                        raise InputError(
                            f"{self.path}: line {rows.line_num}", found, f"{len(self.names)} in the header"
                        )
        except csv.Error as error:
            allowed = "a value with quotes stands in quotes, and each quote in it twice (Spark: the option escape)"
            raise InputError(f"{self.path}: line {rows.line_num}", str(error), allowed) from error
        finally:
            csv.field_size_limit(before)

    def _parse(self, convert: pyarrow.csv.ConvertOptions) -> pa.Table:
        parse = pyarrow.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        for size in BLOCKS:
            read = pyarrow.csv.ReadOptions(block_size=size)
            try:
                with self._open() as file:
                    return pyarrow.csv.read_csv(file, read, parse, convert)
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error):  # a header without a line end
                    raise InputError(str(self.path), "no rows", "must have at least one row") from error
                if "straddling" not in str(error):
                    raise
        raise InputError(str(self.path), f"a row above {BLOCKS[-1]} bytes", "a row must be shorter")


def _unpack(path: Path) -> bytes:
    """What a gzip file holds, at most as much as one of its size may."""
    try:
        with gzip.open(path) as file:
            content = file.read(limit(path) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(str(path), str(error), "must be a whole .gz file") from error
    refuse_beyond(path, len(content), str(path))
    return content


def _text(path: Path, head: bytes) -> str:
    if head.startswith(UTF16):
        raise InputError(str(path), "UTF-16", SAVE)
    if b"\0" in head:
        raise InputError(str(path), f"NUL bytes, first {head[:40]!r}", f"must be text: {SAVE}")
    text = _decode(path, head, codecs.getincrementaldecoder("utf-8-sig")(), 0)
    if not text.strip():
        raise InputError(str(path), "nothing" if not head else "blank lines", "must have a header and rows")
    return text


def _decode(path: Path, part: bytes, decoder: codecs.IncrementalDecoder, before: int, final: bool = False) -> str:
    try:
        return decoder.decode(part, final)
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start : error.start + 1].hex()} near byte {before + error.start} of the file"
        raise InputError(str(path), found, f"is no UTF-8, maybe Latin-1 (Windows-1252): {SAVE}") from error


def _header(path: Path, text: str, delimiter: str, whole: bool) -> list[str]:
    text = text.lstrip("\r\n")
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        names = next(rows)
    except csv.Error as error:
        raise InputError(f"{path}: header", text[:80], f"must be column names ({error})") from error
    if not whole and lines.tell() == len(text):
        raise InputError(f"{path}: header", f"{text[:80]} ...", f"must end within {HEAD} bytes")
    return names
