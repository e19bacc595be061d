"""Read files of folders that strangers made. For what OctoRec writes see `output`."""

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

from octorec.errors import InputError

JSON_BYTES = 2**23  # the largest JSON file that is read; Python's objects for it take some 100 MB
JSON_PARTS = 1_500_000  # objects, lists and keys in one file: text of two bytes takes 64 bytes of memory and more


def is_own_file(path: Path) -> bool:
    """Tell whether `path` is a regular file of its folder: no folder, no pipe, no link that leads out of the folder.

    In a Hugging Face cache `snapshots/REVISION/NAME` is a link into the `blobs` beside `snapshots`: that is a file too.
    """
    try:
        folder, target = path.parent.resolve(), path.resolve(strict=True)
    except (OSError, RuntimeError):  # missing, or links in a circle
        return False
    snapshots = next((above for above in folder.parents if above.name == "snapshots"), None)
    in_cache = snapshots is not None and target.parent == snapshots.parent / "blobs"
    return target.is_file() and (target.is_relative_to(folder) or in_cache)


def json_text(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON in which null stands for what is not finite: JSON has no NaN and no infinity."""
    return json.dumps(_without_nan(value), indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    return [_without_nan(part) for part in value] if isinstance(value, list | tuple) else value


def read_json(path: Path, field: str, most: int = JSON_BYTES, infinite: bool = False) -> dict[str, Any]:
    """Return the object in a JSON file of at most `most` bytes.

    Raises InputError about `field` for what is missing, a pipe or a link out of its folder, no UTF-8, no JSON, nested
    too deeply, or no object, for a key that stands twice in one object, and for NaN and Infinity unless `infinite`:
    Python writes them, and so they stand in config.json of some models.
    """
    if not os.path.lexists(path):
        raise InputError(field, str(path), "is missing")
    if not is_own_file(path):
        raise InputError(field, str(path), "must be a regular file of its folder; no link out of it is followed")
    try:
        if path.stat().st_size > most:
            raise InputError(field, str(path), f"has {path.stat().st_size:,} bytes; at most {most:,} are read")
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(field, str(path), f"cannot be read ({error.strerror})") from error
    return parse_json(raw, field, str(path), infinite)


def parse_json(raw: bytes, field: str, where: str, infinite: bool = False) -> dict[str, Any]:
    """Return the object that `raw` holds, as strictly as `read_json`; `where` is what an error shows."""
    if sum(map(raw.count, (b"{", b"[", b":"))) > JSON_PARTS:
        raise InputError(field, where, f"holds more than {JSON_PARTS:,} objects, lists and keys")
    try:
        found = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=without_doubles,
            parse_constant=float if infinite else _no_number,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise InputError(field, where, "is nested too deeply") from error
    except ValueError as error:  # among them JSONDecodeError and UnicodeDecodeError
        raise InputError(field, where, f"is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(field, where, "must hold an object")
    return found


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs; raise ValueError where a key stands twice.

    It is an `object_pairs_hook` of json.loads.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys: set[str] = set()
        twice = next(key for key, _ in pairs if key in keys or keys.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:100]!r} stands twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:100]} is too large a number")
    return number
