"""A manifest says what the answers of a folder were made with, so that a run that goes on makes the same."""

import json
from collections.abc import Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from octorec.errors import InputError
from octorec.files import read_json
from octorec.formats import OFFLINE
from octorec.output.write import new_file

MANIFEST = "_manifest.json"  # readers of a folder of Parquet files leave out what begins with _
KIND = "recommend-all"
DIGITS = 16  # hexadecimal digits of a table's digest


def write_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """Write what the answers are made with. about: plain values by field."""
    with new_file(folder / MANIFEST) as scratch:
        scratch.write_text(json.dumps({**OFFLINE.stamp(), "kind": KIND, **about}, indent=1))


def check_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings, another checkpoint, catalog or table; the InputError names the field."""
    where = str(folder / MANIFEST)
    found = read_json(folder / MANIFEST, "resume")
    OFFLINE.check(where, found)
    for field, value in json.loads(json.dumps({**about})).items():
        if found.get(field) != value:
            allowed = f"{folder} was begun with {found.get(field)!r}: go on with that, or choose another --out"
            raise InputError(field, value, allowed)


def digest_of(files: list[Path]) -> str:
    """Return 16 digits that change with any byte of a table's files."""
    whole = sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(f"{path.name}\0{file_digest(file, 'sha256').hexdigest()}\0".encode())
    return whole.hexdigest()[:DIGITS]
