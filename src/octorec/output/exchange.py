"""Rename without replacing anything, and swap two names, in one call of the system where it has one."""

import ctypes
import errno
import os
from pathlib import Path

AT_FDCWD = -100  # a relative path starts from the current folder
NOREPLACE, EXCHANGE = 1, 2  # flags of Linux' renameat2
UNSUPPORTED = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
}  # errors that say that the file system or the system lacks the call


def rename_new(source: Path, target: Path) -> None:
    """Rename `source` to `target`, which must not exist: a FileExistsError where something is there.

    Where the system lacks the call, what appears at `target` in the same instant is replaced if it is a file or an
    empty folder.
    """
    if renameat2(source, target, NOREPLACE):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)


def exchange(first: Path, second: Path, spare: Path) -> None:
    """Swap what `first` and `second` name, two folders of one parent.

    spare: a free name beside them. Where the system lacks the call, `second` has no name but `spare` for an instant.
    """
    if renameat2(first, second, EXCHANGE):
        return
    os.rename(second, spare)
    try:
        os.rename(first, second)
    except BaseException:
        os.rename(spare, second)
        raise
    os.rename(spare, first)


def renameat2(source: Path, target: Path, flag: int) -> bool:
    """Call renameat2 of the C library. Returns False, and has done nothing, where the call or the flag is unknown."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), ctypes.c_uint(flag)) == 0:
        return True
    code = ctypes.get_errno()
    if code in UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))
