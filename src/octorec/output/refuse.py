"""Refuse before the work a name that must not be replaced, or where there is no room."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from octorec.errors import InputError
from octorec.output.inputs import refuse_inputs, refuse_places
from octorec.output.marker import foreign, is_marked
from octorec.reading import reason

NAMED = 5  # foreign names in an error


def refuse_folder(path: Path, force: bool, inputs: Iterable[str | Path] = (), field: str = "out") -> None:
    """Raise InputError when what is at `path` must not be replaced by a folder."""
    if path.name in ("", ".."):
        raise InputError(field, str(path), "must name a folder to make")
    if not exists(path, field):
        return
    if not force:
        raise InputError(field, str(path), "it exists already: choose another name, or --force to replace it")
    if path.is_symlink():
        raise InputError(field, str(path), f"is a link to {os.readlink(path)}: name the folder itself")
    if not path.is_dir():
        raise InputError(field, str(path), "is a file, and a folder is to be written there: choose another name")
    refuse_places(path, field)
    refuse_inputs(path, inputs, field)
    refuse_foreign(path, path, field)


def refuse_foreign(folder: Path, path: Path, field: str = "out") -> None:
    """Raise InputError when `folder` holds anything that OctoRec did not write. path: how the error calls it."""
    try:
        names = foreign(folder)
    except OSError as error:
        raise InputError(field, str(path), f"cannot be read ({reason(error)})") from error
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        allowed = "which OctoRec did not write, or which was changed since: move it away, or choose another name"
        raise InputError(field, str(path), f"holds {', '.join(names[:NAMED])}{more}, {allowed}")


def refuse_within(path: Path, field: str = "out") -> None:
    """Raise InputError when `path` lies in a folder that OctoRec wrote: it would change a checkpoint or a catalog."""
    for above in path.absolute().parents:
        if is_marked(above):
            raise InputError(
                field, str(path), f"lies in {above}, which OctoRec wrote as a whole: choose a name outside"
            )


def refuse_file(
    path: Path, inputs: Iterable[str | Path] = (), ours: Callable[[Path], bool] | None = None, field: str = "out"
) -> None:
    """Raise InputError when what is at `path` must not be replaced by a file.

    ours: tells whether a file that is there may be replaced; None: any file may that is no input.
    """
    if path.name in ("", ".."):
        raise InputError(field, str(path), "must name a file to write")
    refuse_within(path, field)
    if not exists(path, field):
        return
    if path.is_symlink():
        raise InputError(field, str(path), f"is a link to {os.readlink(path)}: name the file itself")
    if not path.is_file():
        raise InputError(field, str(path), f"is a {'folder' if path.is_dir() else 'pipe or device'}, and no file")
    refuse_inputs(path, inputs, field)
    if ours is not None and not ours(path):
        raise InputError(field, str(path), "is a file that OctoRec did not write: choose another name")


def refuse_full(path: Path, needed: int, field: str = "out") -> None:
    """Raise InputError when fewer than `needed` bytes are free where `path` is to be."""
    above = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(above).free
    if free < needed:
        raise InputError(field, str(path), f"about {_size(needed)} are to be written, and {_size(free)} are free there")


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def exists(path: Path, field: str) -> bool:
    """Tell whether something, also a broken link, is at `path`. Raises InputError where no file can be so named."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # a name that is too long; a null character
        raise InputError(field, str(path), f"cannot be written ({reason(error)})") from error
    return True
