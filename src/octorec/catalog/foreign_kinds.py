"""Files of semantic IDs that other programs write are told apart by what they begin with, not by their names."""

import json
import re
from pathlib import Path
from typing import Literal

from octorec.catalog.sid_pattern import SID
from octorec.data.text_file import UTF16, UTF32, refuse_others
from octorec.errors import InputError
from octorec.reading import reason, require_file

Kind = Literal["sid2pid", "index", "lines", "info", "parquet"]
HEAD = 2**16  # bytes of a file that are looked at
ALLOWED = (
    "must begin as one of: sid2pid.json, an object of SIDs with lists of items; .index.json, an object of items with "
    "lists of tokens; JSON lines with item_id and token_ids; lines of SID, title and item_id with tabs; Parquet with "
    "the columns pid and sid, or pid and codes"
)
OBJECT = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\[\s*(.)', re.DOTALL)


def kind_of(path: str | Path, field: str = "catalog") -> Kind:
    """Return which kind of file of semantic IDs `path` is; an InputError about `field` for any other."""
    size = require_file(path, field)
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise InputError(field, str(path), f"cannot be read ({reason(error)})") from error
    if size == 0:
        raise InputError(field, str(path), f"is empty; {ALLOWED}")
    if head.startswith(b"PAR1"):
        return "parquet"
    refuse_others(Path(path), head)
    if head.startswith((*UTF16, *UTF32)):
        kind = "UTF-32" if head.startswith(UTF32) else "UTF-16"
        raise InputError(field, str(path), f"is {kind} and must be UTF-8: iconv -f {kind} -t UTF-8 OLD > NEW")
    text = head.decode("utf-8-sig", "replace")
    if _is_line(text):
        return "lines"
    if found := OBJECT.match(text):
        if found[1] == '"':
            return "index"
        if found[1] in "{]":
            return "sid2pid"
    first = text.lstrip("\n").partition("\n")[0].split("\t")
    if len(first) >= 3 and SID.fullmatch(first[0].strip()):
        return "info"
    if re.fullmatch(r"\s*\{\s*\}\s*", text):
        raise InputError(field, str(path), "has no items: a catalog needs at least one")
    raise InputError(field, str(path), ALLOWED)


def _is_line(text: str) -> bool:
    """Tell whether the first line is an object with token ids of one item."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return '"token_ids"' in line and not OBJECT.match(line)  # damaged, or longer than what was looked at
    return isinstance(found, dict) and "token_ids" in found
