"""Write so that a reader finds the old or the new as a whole, at every instant and whatever fails."""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from octorec.errors import InputError
from octorec.output.claim import OLD, Claim, claimed_file, claimed_folder, remove
from octorec.output.exchange import exchange, rename_new
from octorec.output.marker import mark
from octorec.output.refuse import refuse_foreign

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
CODE = re.compile(r"\[?(?:os error|[Ee]rrno) (\d+)")  # an error number as Rust and Arrow write it


@contextmanager
def new_folder(path: str | Path, force: bool = False, inputs: Iterable[str | Path] = ()) -> Iterator[Path]:
    """Yield a scratch folder beside `path`, which becomes `path` on success and is removed on an error.

    Raises InputError as `claimed_folder` does, at the beginning and again at the end, and for a full disk.
    """
    with claimed_folder(path, force, inputs) as claim:
        scratch = claim.scratch()
        try:
            with _disk_errors(claim.path, scratch):
                scratch.mkdir()
                yield scratch
                mark(scratch)
                _sync(scratch)
                _put_folder(scratch, claim)
        finally:
            remove(scratch)


@contextmanager
def new_file(
    path: str | Path, inputs: Iterable[str | Path] = (), ours: Callable[[Path], bool] | None = None, field: str = "out"
) -> Iterator[Path]:
    """Yield a scratch name beside `path`, whose file becomes `path` on success and is removed on an error.

    inputs, ours and errors: as of `claimed_file`.
    """
    with claimed_file(path, inputs, ours, field) as claim:
        scratch = claim.scratch()
        try:
            with _disk_errors(claim.path, scratch, field):
                yield scratch
                _sync_one(scratch)
                _put_file(scratch, claim)
        finally:
            remove(scratch)


def remove_folder(path: Path) -> None:
    """Remove the folder `path`, where there is one. Raises InputError when it holds what OctoRec did not write."""
    if os.path.lexists(path):
        with claimed_folder(path, force=True) as claim:
            away = claim.scratch()
            rename_new(claim.path, away)
            remove(away)


def _put_folder(scratch: Path, claim: Claim) -> None:
    """Give `scratch` the claimed name; a folder that had it is then what `scratch` names."""
    claim.check()
    if not os.path.lexists(claim.path):
        _rename_new(scratch, claim.path)
    else:
        exchange(scratch, claim.path, claim.scratch(OLD))
        try:
            refuse_foreign(scratch, claim.path)  # what was written into it since the check
        except InputError:
            exchange(scratch, claim.path, claim.scratch(OLD))
            raise
    claim.wrote()
    _sync_one(claim.path.parent)


def _put_file(scratch: Path, claim: Claim) -> None:
    claim.check()
    if not os.path.lexists(claim.path):
        _rename_new(scratch, claim.path)
    else:
        os.replace(scratch, claim.path)
    _sync_one(claim.path.parent)


def _rename_new(scratch: Path, path: Path) -> None:
    try:
        rename_new(scratch, path)
    except FileExistsError as error:
        raise InputError("out", str(path), "appeared while it was being written: choose another name") from error


def _sync(folder: Path) -> None:
    """Wait until the disk holds all of `folder`."""
    for inside, _, files in os.walk(folder):
        for name in files:
            _sync_one(Path(inside) / name)
        _sync_one(Path(inside))


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # no such call for folders on this file system
            raise
    finally:
        os.close(handle)


@contextmanager
def _disk_errors(path: Path, scratch: Path, field: str = "out") -> Iterator[None]:
    """Raise as InputError what the disk of `path` refuses, whichever library wrote to `scratch`."""
    try:
        yield
    except InputError as error:
        if str(error.value).startswith(str(scratch)):  # the error is about a file that was written within `scratch`
            raise InputError(field, str(path), error.allowed) from error
        raise
    except Exception as error:
        code = _code(error)
        named = str(getattr(error, "filename", None) or "")
        if code in OF_THE_DISK or (code and named.startswith(str(scratch))):
            raise InputError(field, str(path), f"cannot be written ({os.strerror(code)})") from error
        raise


def _code(error: Exception) -> int:
    """Return the system's number of an error, 0 if it has none; safetensors and Arrow have it in their text."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = CODE.search(str(error))
    return int(found[1]) if found else 0
