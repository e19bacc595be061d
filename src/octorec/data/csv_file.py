"""The encoding, separator and quotes of a CSV file are checked, so that what is read is what was written."""

import codecs
import csv
import io
import sys
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from octorec.data.text_file import HEAD, TextFile, decode
from octorec.errors import InputError

DELIMITERS = ",;\t|"
UNIT = "\x1f"  # ASCII's own separator, which stands for a separator of two characters
LINES, BEGIN = 20, 2**16  # lines and characters that are looked at where the header is not ours
MOST_COLUMNS = 10_000
PART = 2**20  # bytes looked at together
BLOCKS = (2**20, 2**24, 2**28, 2**30)  # bytes parsed together: one of them must hold the longest row


class CsvFile:
    """A CsvFile is a CSV whose names are known: those of its header as they stand there, or the places
    "0", "1" without a header.

    lines: its first LINES. first: the values of the first one. delimiter: the one of , ; tab and | that this line has
    most of, if it was not given.
    """

    def __init__(self, path: Path, sep: str | None = None, header: bool = True):
        """Read the first line; what is no text, or no CSV, is an InputError."""
        self.path, self.header = path, header
        self._text = TextFile(path)
        if sep and len(sep) > 1:
            self._text.replace(sep.encode(), UNIT.encode())
            sep = UNIT
        self.lines = self._text.head.lstrip("\r\n")[:BEGIN].replace("\r", "\n").split("\n")[:LINES]
        self.delimiter = sep or max(DELIMITERS, key=self.lines[0].count)
        self.first = _first_row(path, self._text, self.delimiter)
        if len(self.first) > MOST_COLUMNS:
            raise InputError(f"{path}: columns", len(self.first), f"at most {MOST_COLUMNS}")
        places = [str(place) for place in range(len(self.first))]
        self.header = header or self.first == places
        self.names = self.first if self.header else places

    def read(self, columns: Collection[str], inferred: Collection[str] = ()) -> pa.Table:
        """Return the `columns` as text, an empty value as ""; those of `inferred` as numbers, booleans, dates or
        timestamps where all their values are, an empty value as null.

        Every row has as many values as the first.
        """
        if self._survey():
            self._check_quotes()
        types = {name: pa.string() for name in columns if name not in inferred}
        convert = pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(columns))
        table = self._parse(convert)
        for name in types:
            if pc.any(pc.match_substring(table.column(name), "\0")).as_py():
                raise InputError(f"{self.path}: column {name}", "NUL bytes", "must be text")
        return table

    def _survey(self) -> bool:
        """Tell whether the file has quotes; bytes that are no UTF-8 are an InputError with their place."""
        decoder, quotes, before = codecs.getincrementaldecoder("utf-8")(), False, 0
        with self._text.open() as file:
            while part := file.read(PART):
                quotes = quotes or b'"' in part
                decode(self.path, part, decoder, before)
                before += len(part)
        decode(self.path, b"", decoder, before, final=True)
        return quotes

    def _check_quotes(self) -> None:
        """Refuse quotes that do not pair up, which would swallow rows, and rows of unlike length."""
        before = csv.field_size_limit(sys.maxsize)
        try:
            with self._text.open() as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
                rows = csv.reader(text, delimiter=self.delimiter, strict=True)
                for row in rows:
                    if row and len(row) != len(self.names):
                        first = f"{len(self.names)} in the {'header' if self.header else 'first line'}"
                        raise InputError(f"{self.path}: line {rows.line_num}", f"{len(row)} values", first)
        except csv.Error as error:
            allowed = "a value with quotes stands in quotes, and each quote in it twice (Spark: the option escape)"
            raise InputError(f"{self.path}: line {rows.line_num}", str(error), allowed) from error
        finally:
            csv.field_size_limit(before)

    def _parse(self, convert: pyarrow.csv.ConvertOptions) -> pa.Table:
        parse = pyarrow.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        names = None if self.header else self.names
        for size in BLOCKS:
            read = pyarrow.csv.ReadOptions(block_size=size, column_names=names)
            try:
                with self._text.open() as file:
                    return pyarrow.csv.read_csv(file, read, parse, convert)
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error):  # a header without a line end
                    raise InputError(str(self.path), "no rows", "must have at least one row") from error
                if "straddling" not in str(error):
                    raise
        raise InputError(str(self.path), f"a row above {BLOCKS[-1]} bytes", "a row must be shorter")


def _first_row(path: Path, file: TextFile, delimiter: str) -> list[str]:
    text = file.head.lstrip("\r\n")
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        names = next(rows)
    except csv.Error as error:
        raise InputError(f"{path}: header", text[:80], f"must be column names ({error})") from error
    if not file.whole and lines.tell() == len(text):
        raise InputError(f"{path}: header", f"{text[:80]} ...", f"must end within {HEAD} bytes")
    return names
