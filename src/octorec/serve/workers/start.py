"""Workers are started through the standard library's fork server: a new one is there at once and shares its pages."""

import multiprocessing
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from octorec.serve.config import ServeConfig
from octorec.serve.workers.mapped import write_hashes

WORK = "octorec.serve.workers.preloaded"
SEED = str(1 + secrets.randbelow(2**32 - 1))  # of the hashes of all processes that the fork server makes
LOST = 255  # exit code where the fork server is gone, so that nobody knows


@dataclass(frozen=True)
class Files:
    """Files are the paths below the private folder of a server."""

    folder: Path

    @property
    def board(self) -> Path:
        return self.folder / "board"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics"

    @property
    def log(self) -> Path:
        """Return the file that a process holds while it writes to the log."""
        return self.folder / "log"

    @property
    def address(self) -> str:
        return f"ipc://{self.folder}/engine"

    def catalog(self, number: int) -> Path:
        return self.folder / "catalogs" / str(number)

    def make(self) -> None:
        self.metrics.mkdir()
        (self.folder / "catalogs").mkdir()
        self.log.touch()


@dataclass(eq=False)
class Started:
    """A Started is a process of the fork server. sentinel: a descriptor that can be read once it has ended."""

    process: BaseProcess

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def sentinel(self) -> int:
        return self.process.sentinel

    def exit_code(self) -> int:
        """Return the exit code of a process that has ended; where that is not known, it is ended first."""
        self.process.join()
        code = self.process.exitcode or 0
        if code == LOST:
            self.kill(signal.SIGKILL)
        return code

    def kill(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def start_worker(name: bytes, slot: int, files: Files, config: ServeConfig, sockets: list[Any]) -> Started:
    """Start a worker. name: by which it is known on the wire. sockets: that listen."""
    from octorec.serve.workers.worker import work  # it imports the whole server

    return _started(files, work, (name, slot, files, config, sockets))


def hashed(folder: Path) -> None:
    """Write the hashes of a catalog's ids, by a process of the fork server, as this one's hashes differ from theirs."""
    process = _started(Files(folder.parent.parent), write_hashes, (str(folder),)).process
    process.join()
    if process.exitcode:
        raise OSError(f"a process that hashes ids ended with {process.exitcode}")


def _started(files: Files, run: Callable[..., None], given: tuple[Any, ...]) -> Started:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([WORK])
    process = context.Process(target=run, args=given, daemon=True)
    with _environment(files):
        forkserver.ensure_running()
    process.start()
    return Started(process)


def keep_files_in(folder: Path) -> None:
    """Keep the fork server's socket in a folder, as where it is killed nobody removes it."""
    vars(multiprocessing.current_process())["_config"]["tempdir"] = str(folder)  # as `multiprocessing.util` has it


@contextmanager
def _environment(files: Files) -> Iterator[None]:
    """Run the block, which may start the fork server, with what that has to be told."""
    given = {"PYTHONHASHSEED": SEED, "PROMETHEUS_MULTIPROC_DIR": str(files.metrics)}
    left = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in left.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
