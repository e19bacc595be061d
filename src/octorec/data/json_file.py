"""A file of JSON lines has an object a line, whose keys are the columns."""

import json
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from octorec.data.expanded import refuse_beyond
from octorec.data.text_file import TextFile
from octorec.errors import InputError

LONGEST = 2**24  # bytes of a line
ROWS = 2**14  # made into columns together
SEEN = 1000  # lines whose keys name the columns before the file is read
VALUE = 8  # bytes that a value takes at least while it is a Python object of a list
MOST_COLUMNS = 10_000


class JsonFile:
    """A JsonFile holds JSON lines whose columns are known: the keys of the first SEEN lines, or of `every` line."""

    def __init__(self, path: Path, every: bool = False):
        """Read these lines; what is no object is an InputError with its line."""
        self.path = path
        self._text = TextFile(path)
        if self._text.head.lstrip()[:1] == "[":
            allowed = "must be JSON lines, an object a line; with jq: jq -c '.[]' old.json > new.jsonl"
            raise InputError(str(path), "a JSON array", allowed)
        self.names: list[str] = list(
            dict.fromkeys(name for row in islice(self.rows(), None if every else SEEN) for name in row)
        )
        if len(self.names) > MOST_COLUMNS:
            raise InputError(f"{path}: columns", len(self.names), f"at most {MOST_COLUMNS}")

    def read(self, columns: Collection[str]) -> pa.Table:
        """Return the `columns`, null where a row lacks them."""
        parts, size = [], 0
        rows = self.rows()
        while some := list(islice(rows, ROWS)):
            size += VALUE * len(some) * len(columns)
            refuse_beyond(self.path, size, f"{self.path}: its rows and columns")
            parts.append(pa.table({name: self._column([row.get(name) for row in some], name) for name in columns}))
            size += parts[-1].nbytes
            refuse_beyond(self.path, size, str(self.path))
        return self._joined(parts)

    def _column(self, values: list[Any], name: str) -> pa.Array:
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
            kinds = sorted({NAMES[type(value)] for value in values})
            found = " and ".join(kinds) if len(kinds) > 1 else str(error)
            raise InputError(f"{self.path}: column {name}", found, "must hold values of one kind") from error

    def _joined(self, parts: list[pa.Table]) -> pa.Table:
        try:
            return pa.concat_tables(parts, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(str(self.path), str(error), "a column must hold values of one kind") from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the object of each line that is not blank; what is none is an InputError with its line."""
        with self._text.open() as file:
            number = 0
            while line := file.readline(LONGEST + 1):
                number += 1
                where = f"{self.path}: line {number}"
                if len(line) > LONGEST:
                    raise InputError(where, f"more than {LONGEST} bytes", "a line must be shorter")
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield _object(line, where)


NAMES = {
    str: "text", int: "integers", float: "numbers", bool: "booleans", list: "lists", dict: "objects",
    type(None): "null",
}  # fmt: skip


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_without_doubles)


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = DECODER.decode(line.decode("utf-8"))
    except RecursionError as error:
        raise InputError(where, line[:40].decode("utf-8", "replace"), "is nested too deeply") from error
    except ValueError as error:  # among them an integer of 5,000 digits, and UnicodeDecodeError
        allowed = f"is no JSON ({error}); of JSON lines each line is an object, and a CSV's name ends in .csv"
        raise InputError(where, line[:80].decode("utf-8", "replace"), allowed) from error
    if not isinstance(found, dict):
        raise InputError(where, found, 'must be an object, such as {"user_id": "u1", "item_id": "i1"}')
    return found
