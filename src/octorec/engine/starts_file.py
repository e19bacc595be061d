"""The file beside a checkpoint that says how wide `auto` begins: NAME.widths.json beside the folder NAME."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from octorec.engine.policy import BeamStarts
from octorec.engine.widths import read_width
from octorec.errors import InputError
from octorec.files import json_text, read_json
from octorec.formats import WIDTHS
from octorec.output.claim import Claim, claimed_file
from octorec.output.write import new_file

SUFFIX = ".widths.json"
FIELD = "widths"  # how errors call the file


def starts_file(checkpoint: str | Path) -> Path:
    """Return where the table of a checkpoint folder lies, whether it is there or not."""
    folder = Path(os.path.abspath(checkpoint))  # `..` has a name then
    return folder.with_name(folder.name + SUFFIX)


def read_starts(checkpoint: str | Path) -> BeamStarts:
    """Return the table beside a checkpoint folder; an empty one where there is none.

    A table that was measured on other weights only begins too narrow or too wide: no answer is called exact by it.
    Raises InputError that names the file and the key for what is no table.
    """
    path = starts_file(checkpoint)
    if not path.exists():
        return BeamStarts()
    found = read_json(path, FIELD)
    WIDTHS.check(str(path), found)
    starts = found.get("starts")
    if not isinstance(starts, dict):
        raise InputError(f"{path}: starts", starts, "must be an object of k and beam width")
    return BeamStarts({_k(path, k): _width(f"{path}: starts.{k}", width) for k, width in starts.items()})


def claimed_starts(checkpoint: str | Path) -> AbstractContextManager[Claim]:
    """Hold the right to write the table of a checkpoint folder, until the context ends; call it before long work.

    Raises InputError where nothing can be written there, or where what is there is no table.
    """
    read_starts(checkpoint)
    return claimed_file(starts_file(checkpoint), field=FIELD)


def write_starts(checkpoint: str | Path, starts: BeamStarts, measured: dict[str, Any]) -> Path:
    """Write the table beside a checkpoint folder, replacing one that is there. measured: what it was made from."""
    path = starts_file(checkpoint)
    with new_file(path, field=FIELD) as scratch:
        table = {str(k): width for k, width in sorted(starts.widths.items())}
        scratch.write_text(json_text({**WIDTHS.stamp(), **measured, "starts": table}, indent=1) + "\n")
    return path


def _k(path: Path, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 7 or int(text) < 1:
        raise InputError(f"{path}: starts", text, "its keys are numbers of items, such as 10")
    return int(text)


def _width(where: str, value: Any) -> int:
    width = read_width(where, value)
    if not isinstance(value, int) or not isinstance(width, int):
        raise InputError(where, value, "must be an integer, the beam width to begin with")
    return width
