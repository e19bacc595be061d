"""The claim on a name to write: what must not be replaced is refused before the work; nobody else writes it then."""

import contextlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from octorec.errors import InputError
from octorec.output.lock import locked
from octorec.output.refuse import refuse_file, refuse_folder, refuse_full
from octorec.reading import reason

NEW, OLD = "new", "old"  # scratch on its way to the name, and what had the name before

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Claim:
    """A Claim is a name that one thread of this process writes.

    refuse: raises InputError where it must not be replaced now; it is told whether the claim wrote there already, as a
    training does that saves its state again and again. within: the claim on the same name that this one lies in.
    """

    path: Path
    thread: int
    refuse: Callable[[bool], None]
    within: "Claim | None" = None
    written: bool = False

    def check(self) -> None:
        """Raise InputError where the name must not be replaced now."""
        if self.within is not None:
            self.within.check()
        self.refuse(self.written)

    def wrote(self) -> None:
        """Remember that what has the name now was written under this claim."""
        self.written = True
        if self.within is not None:
            self.within.wrote()

    def scratch(self, kind: str = NEW) -> Path:
        """Return a free name beside `path`; that of a file keeps its suffix."""
        path = self.path
        return path.with_name(f".{path.name}.octorec-{kind}-{os.urandom(4).hex()}{path.suffix}")


_claims: dict[Path, Claim] = {}  # the claims of this process


@contextmanager
def claimed_folder(
    path: str | Path, force: bool = False, inputs: Iterable[str | Path] = (), needed: int = 0, field: str = "out"
) -> Iterator[Claim]:
    """Hold the right to write the folder `path`, within which `new_folder` writes it; call it before long work.

    inputs: what the work reads, which is never replaced. needed: bytes to be written, where they are known. Folders
    above `path` that are missing are made.
    Raises InputError about `field`: `path` exists and `force` is off, or holds what OctoRec did not write, or is an
    input, holds one or lies in one; another process writes it; nothing can be written there, or not so much.
    """
    path, read = Path(path), tuple(inputs)
    with _claimed(path, lambda written: refuse_folder(path, force or written, read, field), field) as claim:
        refuse_full(claim.path, needed, field)
        yield claim


@contextmanager
def claimed_file(
    path: str | Path, inputs: Iterable[str | Path] = (), ours: Callable[[Path], bool] | None = None, field: str = "out"
) -> Iterator[Claim]:
    """Hold the right to write the file `path`, as `claimed_folder` does for folders.

    ours: tells whether a file that is there may be replaced; None: any file may that is no input.
    """
    path, read = Path(path), tuple(inputs)
    with _claimed(path, lambda _: refuse_file(path, read, ours, field), field) as claim:
        yield claim


@contextmanager
def _claimed(path: Path, refuse: Callable[[bool], None], field: str) -> Iterator[Claim]:
    refuse(False)
    with ExitStack() as stack:
        try:
            stack.enter_context(_folders_above(path))
            target = path.parent.resolve() / path.name
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            raise InputError(field, str(path), f"cannot be written ({reason(error)})") from error
        outer = _claims.get(target)
        if outer is not None and outer.thread == threading.get_ident():
            outer.check()
            yield Claim(target, outer.thread, refuse, outer)
            return
        exclusive = stack.enter_context(locked(target, field))
        _clean_up(target, exclusive)
        refuse(False)
        _claims[target] = Claim(target, threading.get_ident(), refuse)
        try:
            yield _claims[target]
        finally:
            del _claims[target]


def _clean_up(path: Path, exclusive: bool) -> None:
    """Clean up what killed processes left beside `path`.

    What had the name is put back where nothing has it now, and the rest is removed. Where another process may still be
    writing, for there are no locks, it is only named.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.octorec-({NEW}|{OLD})-[0-9a-f]{{8}}{re.escape(path.suffix)}")
    for found in filter(None, map(pattern.fullmatch, _names(path.parent))):
        left = path.with_name(found[0])
        if not exclusive:
            log.warning("%s was left by a run that was killed, unless one is writing now: remove it", left)
        elif found[1] == OLD and not os.path.lexists(path):
            os.rename(left, path)
            log.warning("put %s back, which a run that was killed had moved away", path)
        else:
            remove(left)
            log.warning("removed %s, which a run that was killed had left", left)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # a folder may be written and not be listed
        return []


def remove(path: Path) -> None:
    """Remove a folder or file as far as that is possible."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@contextmanager
def _folders_above(path: Path) -> Iterator[None]:
    """Make the folders above `path` that are missing; those in which nothing is at the end are removed again."""
    missing = [parent for parent in path.absolute().parents if not os.path.lexists(parent)]
    made: list[Path] = []
    try:
        for parent in reversed(missing):
            with contextlib.suppress(FileExistsError):
                parent.mkdir()
                made.append(parent)
        yield
    finally:
        for parent in reversed(made):
            with contextlib.suppress(OSError):
                parent.rmdir()
