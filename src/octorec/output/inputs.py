"""Refuse to replace what is being read, and the folders that a person is in or lives in."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from octorec.errors import InputError

MOST_LINKS = 40  # links that Linux follows in a row

Identity = tuple[int, int]  # device and inode


def refuse_inputs(out: Path, inputs: Iterable[str | Path], field: str) -> None:
    """Raise InputError about `field` when `out`, which exists, is one of `inputs`, holds one or lies in one.

    Compared by device and inode, so that links and other ways to write a path change nothing. An input that does not
    exist is left out, for the code that reads it will say so.
    """
    found = _identity(out)
    above = set(filter(None, map(_identity, out.resolve().parents)))
    for path in map(Path, inputs):
        read = _identity(path)
        if read is None:
            continue
        if found == read:
            raise InputError(field, str(out), f"is what is read ({path}): choose another name")
        if found in holders(path):
            raise InputError(field, str(out), f"holds what is read ({path}): choose another name")
        if read in above:
            raise InputError(field, str(out), f"lies in what is read ({path}): choose a name outside of it")


def refuse_places(out: Path, field: str) -> None:
    """Raise InputError about `field` when `out`, which exists, is or holds the current folder, home or another disk."""
    found = _identity(out)
    for place, name in ((Path.cwd(), "the current folder"), (Path("~").expanduser(), "your home folder")):
        if found in holders(place):
            raise InputError(field, str(out), f"is or holds {name} ({place}): choose another name")
    if os.path.ismount(out):
        raise InputError(field, str(out), "is a mount point, which cannot be replaced: name a folder inside it")


def holders(path: Path) -> set[Identity]:
    """Return `path` and all folders above it: as it is written, where each link on its way leads, and, of a folder,
    where the links within it lead (in a Hugging Face cache all files of a snapshot are links).
    """
    found = {identity for each in _ways(path) for identity in map(_identity, (each, *each.parents)) if identity}
    for link in _links_within(path):
        found |= {identity for identity in map(_identity, link.resolve().parents) if identity}
    return found


def _ways(path: Path) -> Iterator[Path]:
    for _ in range(MOST_LINKS):
        path = Path(os.path.abspath(path))
        yield path
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    yield path.resolve()


def _links_within(folder: Path) -> Iterator[Path]:
    """Yield the links among a folder's entries, and among those of the folders directly in it."""
    for entry in _entries(folder):
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.is_dir():
            yield from (Path(inner.path) for inner in _entries(Path(entry.path)) if inner.is_symlink())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
