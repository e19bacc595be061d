"""One private folder holds all files that the processes of a server share. Nothing of it outlasts them for long."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from octorec.errors import InputError
from octorec.reading import reason

PREFIX = "octorec-serve-"
LOCK = "lock"
LONGEST_PATH = 60  # characters, as an address of a socket has 107 with all that follows


class PrivateFolder:
    """A PrivateFolder is there for its owner alone, while the process that made it lives.

    Making one removes those of processes that were killed. Raises InputError where none can be made.
    """

    def __init__(self) -> None:
        root = Path(tempfile.gettempdir())
        for left in root.glob(f"{PREFIX}*"):
            _remove_if_left(left)
        if len(str(root)) > LONGEST_PATH:
            raise InputError("TMPDIR", str(root), f"at most {LONGEST_PATH} characters, for sockets of http_workers")
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            allowed = f"http_workers needs a folder for sockets and catalogs ({reason(error)}): set TMPDIR"
            raise InputError("TMPDIR", str(root), allowed) from error

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder of this user's whose process has ended."""
    try:
        if folder.stat().st_uid != os.getuid():
            return
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # it lives
        pass
    finally:
        os.close(lock)
