"""Histories as text: the files of S3-Rec and TIGER."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from octorec.data.interactions import COLUMNS, Interactions
from octorec.errors import InputError


def read_sequences(path: str | Path) -> Interactions:
    """Read the text files of S3-Rec and TIGER: `user item item ...` a line, oldest first; the position is the time."""
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), "no such file", "must be a text file with `user item item ...` on every line")
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(str(path), str(error), "must be UTF-8 text") from error
    _check_sequences(path, lines)
    lines = [line for line in lines if line]
    lengths = np.array([len(line) - 1 for line in lines])
    users = pa.array([line[0] for line in lines]).take(np.repeat(np.arange(len(lines)), lengths))
    items = pa.array([item for line in lines for item in line[1:]])
    positions = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Interactions.from_table(pa.table([users, items, positions], names=list(COLUMNS)), str(path))


def _check_sequences(path: Path, lines: list[list[str]]) -> None:
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if len(line) == 1:
            raise InputError(f"{path}: line {number}", line[0], "a user needs at least one item behind it")
        if line[0] in seen:
            raise InputError(f"{path}: line {number}", line[0], f"a user has one line; line {seen[line[0]]} is its too")
        seen[line[0]] = number
    if not seen:
        raise InputError(str(path), "no lines", "must have `user item item ...` on every line")
