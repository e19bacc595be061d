"""Writing so that a reader never meets half a file or half a folder."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from octorec.errors import InputError


@contextmanager
def new_folder(path: str | Path, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it becomes `path`, on error it is removed.

    An existing `path` is an InputError unless `force`, which replaces it as a whole at the very end.
    """
    path = Path(path)
    refuse_existing(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
        if path.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.replace(path, retired / path.name)
            os.replace(scratch, path)
            shutil.rmtree(retired)
        else:
            os.replace(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is renamed to `path`, on error it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    scratch = Path(name)
    scratch.chmod(0o644)
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def refuse_existing(path: str | Path, force: bool) -> None:
    """Raise InputError when `path` exists and `force` is off, or when it cannot be made. Call it before long work."""
    if Path(path).name in ("", ".."):
        raise InputError("out", str(path), "must name a folder to make")
    if _there(Path(path), "out") and not force:
        raise InputError("out", str(path), "it exists already: choose another name, or --force to replace it")
    _refuse_above(Path(path), "out")


def refuse_unwritable(path: str | Path, field: str) -> None:
    """Raise InputError when no file can be written at `path`. Call it before long work."""
    if _there(Path(path), field) and Path(path).is_dir():
        raise InputError(field, str(path), "is a folder")
    _refuse_above(Path(path), field)


def _refuse_above(path: Path, field: str) -> None:
    above = next(parent for parent in path.absolute().parents if _there(parent, field))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(field, str(path), f"nothing can be written below {above}")


def _there(path: Path, field: str) -> bool:
    """Whether something, also a broken link, is at `path`."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # a name that is too long; a null character
        raise InputError(field, str(path), f"cannot be written ({getattr(error, 'strerror', error)})") from error
    return True
