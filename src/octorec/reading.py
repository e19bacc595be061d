"""Read small files that a person wrote, and tell what a path names. For JSON see `files`.

What cannot be read is an InputError about `field`, the name under which the user gave the path. Nothing here waits for
a pipe, reads more than its limit, or takes the last of two values for one key.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from octorec.errors import InputError, one_line, shown

MOST_TEXT = 2**24  # bytes of a text file
MOST_YAML = 2**18  # bytes of a YAML file: PyYAML reads 100 KB a second at worst
NAMES_SHOWN, LONGEST_NAME = 5, 60  # names of a folder in an error, characters of each


def require_file(path: str | Path, field: str) -> int:
    """Return the size in bytes of a regular file that can be looked at; refuse everything else."""
    found = require_there(path, field)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
        raise InputError(field, str(path), f"must be a file, and is {kind}")
    return found.st_size


def require_there(path: str | Path, field: str) -> os.stat_result:
    """Return what the system says of a file or folder; refuse a path that names none."""
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise InputError(field, path, "must be a path")
    try:
        return Path(path).stat()
    except FileNotFoundError as error:
        link = "is a link to what is not there" if Path(path).is_symlink() else "there is no such file or folder"
        raise InputError(field, str(path), link) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise InputError(field, str(path), f"cannot be read ({reason(error)})") from error


def require_folder(path: str | Path, field: str, holding: str) -> list[str]:
    """Return the names in a folder, ascending; refuse what is no folder, and a folder without the file `holding`.

    The error says what was found: which folders inside have such a file, or else some of the names.
    """
    names = folder_names(path, field, f"must be a folder that holds {holding}")
    if holding not in names:
        within = [name for name in names if os.path.lexists(Path(path, name, holding))]
        raise InputError(field, str(path), f"must be a folder that holds {holding}; {_found(names, within)}")
    return names


def folder_names(path: str | Path, field: str, allowed: str) -> list[str]:
    """Return the names in a folder, ascending. allowed: what the error says of a path that is no folder."""
    if not stat.S_ISDIR(require_there(path, field).st_mode):
        raise InputError(field, str(path), f"{allowed}, and is a file")
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        raise InputError(field, str(path), f"cannot be read ({reason(error)})") from error


def _found(names: list[str], within: list[str]) -> str:
    if within:
        return f"it lies in its folder{'s' if len(within) > 1 else ''} {listed(within)}: give one of these"
    return f"this one holds {listed(names)}" if names else "this one is empty"


def listed(names: list[str], most: int = NAMES_SHOWN) -> str:
    """Return the first of `names` with commas, each cut to a length that a line holds, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(one_line(name, LONGEST_NAME) for name in names[:most]) + more


def read_text(path: str | Path, field: str, most: int = MOST_TEXT) -> str:
    """Return the UTF-8 text of a file of at most `most` bytes, without a byte order mark."""
    size = require_file(path, field)
    if size > most:
        raise InputError(field, str(path), f"has {size} bytes; at most {most}")
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(field, str(path), f"cannot be read ({reason(error)})") from error


def read_yaml(path: str | Path, field: str) -> Any:
    """Return the value of a YAML file of plain data. Aliases are read, merge keys (`<<`), which multiply, are not."""
    text = read_text(path, field, MOST_YAML)
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise InputError(field, str(path), "is nested too deeply") from error
    except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError) as error:
        # ValueError: 2026-99-99, an integer of 5,000 digits; the last two: a tag whose value is none, such as !!bool x
        raise InputError(field, str(path), f"is no YAML ({reason(error)})") from error


def reason(error: Exception) -> str:
    """Return a library's error as one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:  # YAML: where it is, instead of the lines around it
        said = filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))
        return f"line {mark.line + 1}, column {mark.column + 1}: {' '.join(said)}"
    return " ".join((getattr(error, "strerror", None) or str(error)).split())


class _Loader(yaml.SafeLoader):
    """A _Loader refuses a key that stands twice, and merge keys."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if any(key.tag == "tag:yaml.org,2002:merge" for key in keys):
            raise yaml.constructor.ConstructorError(None, None, "merge keys (<<) are not read", node.start_mark)
        if twice := _twice(key.value for key in keys):
            raise yaml.constructor.ConstructorError(None, None, f"key {shown(twice[0])} stands twice", node.start_mark)


def _twice(keys: Iterable[str]) -> list[str]:
    return [key for key, times in Counter(keys).items() if times > 1]
