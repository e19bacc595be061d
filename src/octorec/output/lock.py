"""A lock on a name is a hidden file beside it, which one process holds at a time and whose end unlocks it."""

import contextlib
import errno
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from octorec.errors import InputError
from octorec.reading import reason

LOCK = ".octorec-lock"  # the end of a lock's name
WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
MOST_BYTES = 4096  # most bytes that are read of a lock file


@contextmanager
def locked(path: Path, field: str) -> Iterator[bool]:
    """Hold the lock of `path`; yields False on a file system without locks.

    Raises InputError about `field`: another process holds it, which is named, or nothing can be written beside `path`.
    """
    file = path.with_name(f".{path.name}{LOCK}")
    try:
        handle, exclusive = _take(file)
    except BlockingIOError as error:
        raise InputError(field, str(path), f"is being written by {_holder(file)}: wait for it") from error
    except OSError as error:
        raise InputError(field, str(path), f"nothing can be written in {path.parent} ({reason(error)})") from error
    try:
        yield exclusive
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        os.close(handle)


def _take(file: Path) -> tuple[int, bool]:
    """Open and lock `file`, and write into it who this process is."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            exclusive = _lock(handle)
            if is_at(handle, file):
                me = {"process": os.getpid(), "host": platform.node(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(me).encode(), 0)
                return handle, exclusive
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError:  # a full disk
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            os.close(handle)
            raise
        os.close(handle)  # the process that held it has removed the file meanwhile


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return False
        raise
    return True


def is_at(handle: int, file: Path) -> bool:
    """Return whether the open file `handle` is the one that is at `file` now."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except FileNotFoundError:
        return False


def _holder(file: Path) -> str:
    try:
        with file.open("rb") as handle:
            about = json.loads(handle.read(MOST_BYTES))
        return f"process {about['process']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, LookupError, TypeError):  # the holder is only just starting, or has just ended
        return "another process"
