"""A server writes a log of rows beside its answers; the log never delays or fails the caller that hands a row over."""

import contextlib
import errno
import logging
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from octorec.errors import InputError
from octorec.evaluate.online.log_file import LINES, LogFile, make_parquet
from octorec.evaluate.online.log_lines import encoder
from octorec.output.write import OF_THE_DISK
from octorec.reading import reason

EXPOSURES_FOLDER, OUTCOMES_FOLDER = "exposures", "outcomes"  # below an experiment's folder
WAITING_BYTES = 2**24  # most bytes of rows that wait for the disk
FILE_BYTES, FILE_SECONDS = 2**26, 600.0  # a file that is larger or older is made Parquet
MOST_NAMES = 100  # names that are tried for a new file; another process may look at one just then
SAID_EVERY_S = 60.0  # seconds between two warnings

logger = logging.getLogger(__name__)


class RowLog:
    """A RowLog keeps rows of one schema in files of this process's own below a folder.

    Each `flush_s` seconds a thread appends what came and waits until the disk has it: what kills the process takes
    the rows of the last `flush_s` with it, and no others. Rows that find no room, on the disk or among the
    WAITING_BYTES that wait for it, are dropped and counted; the files say how many.

    lost: rows dropped so far. trouble: why, the last time; None where none was.
    """

    def __init__(
        self,
        folder: str | Path,
        schema: pa.Schema,
        on_lost: Callable[[int], None] | None = None,
        flush_s: float = 1.0,
        file_bytes: int = FILE_BYTES,
        file_seconds: float = FILE_SECONDS,
        waiting_bytes: int = WAITING_BYTES,
    ):
        """Begin a file, and make Parquet of those that dead processes left.

        schema: `rows.EXPOSURES` or `rows.OUTCOMES`. on_lost(n) is called from the log's thread when n more rows were
        lost. Raises InputError where nothing can be written into `folder`; a disk without room is no error.
        """
        self.folder, self.flush_s = Path(folder), flush_s
        self.trouble: str | None = None
        self._schema, self._on_lost, self._encode = schema, on_lost, encoder(schema)
        self._file_bytes, self._file_seconds, self._waiting_bytes = file_bytes, file_seconds, waiting_bytes
        host = re.sub(r"[^A-Za-z0-9.]", "-", platform.node())[:60] or "host"
        self._prefix, self._number = f"{host}-{os.getpid()}-{secrets.token_hex(4)}-", 0
        self._lines: list[bytes] = []
        self._waiting = self._lost = self._told = self._noted = 0  # noted: lost rows that files before this one name
        self._lock, self._wake, self._ending = threading.Lock(), threading.Event(), False
        self._said, self._broken = -SAID_EVERY_S, False
        self._file: LogFile | None = None
        self._since = time.monotonic()
        self._begin()
        self._tidier: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="row-log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        return self._lost

    def add(self, row: dict[str, Any]) -> None:
        """Hand over a row: values by the schema's names, a time in seconds since 1970. A row that is none is lost."""
        try:
            line = self._encode(row)
        except Exception as error:
            self.trouble = str(error)
            line = b""
        with self._lock:
            if not line or self._ending or self._waiting + len(line) > self._waiting_bytes:
                self._lost += 1
                return
            self._lines.append(line)
            self._waiting += len(line)
            if self._waiting * 2 > self._waiting_bytes:
                self._wake.set()

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, make Parquet of this process's files, and end the thread; later rows are lost.

        After `timeout_s` seconds it returns in any event; then a next process makes the Parquet.
        """
        with self._lock:
            self._ending = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _begin(self) -> None:
        try:
            self._file = self._new_file()
        except OSError as error:
            if error.errno not in OF_THE_DISK - {errno.EROFS}:
                raise InputError("log", str(self.folder), f"nothing can be written there ({reason(error)})") from error
            self.trouble = reason(error)

    def _run(self) -> None:
        self._tidy()
        while True:
            self._wake.wait(self.flush_s)
            self._wake.clear()
            ending = self._ending
            self._flush()
            if ending:
                return self._end()

    def _flush(self) -> None:
        """Write what came. Nothing gets out of here: the thread lives until the log is closed."""
        with self._lock:
            lines, self._lines, self._waiting = self._lines, [], 0
        written = 0
        try:
            file = self._ready()
            if lines:
                written, error = file.append(lines)
                self._broken = error is not None and error.errno not in OF_THE_DISK
                self.trouble = reason(error) if error else self.trouble
        except Exception as error:
            self.trouble = reason(error)
        with self._lock:
            self._lost += len(lines) - written
            lost = self._lost
        with contextlib.suppress(Exception):  # the next flush tries again
            if self._file is not None:
                self._file.note(lost - self._noted)
        self._tell(lost)

    def _tell(self, lost: int) -> None:
        if lost == self._told:
            return
        more, self._told = lost - self._told, lost
        if time.monotonic() - self._said >= SAID_EVERY_S:
            self._said = time.monotonic()
            logger.warning("%s: %d rows lost so far (%s)", self.folder, lost, self.trouble or "they came too fast")
        try:
            if self._on_lost is not None:
                self._on_lost(more)
        except Exception:
            logger.exception("what is to be done about lost rows failed")

    def _ready(self) -> LogFile:
        """Return the file to go on in: a new one where the last is large, old, broken or was taken away."""
        old = self._file
        if old is not None and old.empty and not old.lost:
            self._since = time.monotonic()
        gone = old is None or self._broken or not old.is_there
        due = old is not None and (old.size >= self._file_bytes or time.monotonic() - self._since >= self._file_seconds)
        if old is not None and not gone and not due:
            return old
        try:
            self._file = self._new_file()
        except OSError as error:
            if gone or old is None:
                raise
            self.trouble = reason(error)  # there is no room for another one
            return old
        self._broken = False
        if old is not None:
            self._close(old, old.lost)
            self._noted += old.lost
            self._tidy()
        return self._file

    def _new_file(self) -> LogFile:
        self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(MOST_NAMES):
            self._number += 1
            with contextlib.suppress(FileExistsError):
                made = LogFile(self.folder, f"{self._prefix}{self._number}", self._schema)
                self._since = time.monotonic()
                return made
        raise OSError(errno.EIO, f"{MOST_NAMES} new files were taken away at once")

    def _tidy(self) -> None:
        """Make Parquet of files that nobody writes, in a thread of its own, as it takes a second for each large one."""
        if self._tidier is None or not self._tidier.is_alive():
            tidier = threading.Thread(target=self._make_parquet, name="row-log-parquet", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread is to be had: the lines stay for the next time
                tidier.start()
                self._tidier = tidier

    def _make_parquet(self, prefix: str = "") -> None:
        for path in sorted(self.folder.glob(f"{prefix}*{LINES}")):
            try:
                make_parquet(path, self._schema)
            except Exception as error:  # the lines stay, and are tried again
                self.trouble = reason(error)
                logger.warning("%s: is not made Parquet (%s)", path, self.trouble)

    def _end(self) -> None:
        if self._file is not None:
            self._close(self._file, self._lost - self._noted)
        if self._tidier is not None:
            self._tidier.join()
        self._make_parquet(self._prefix)

    def _close(self, file: LogFile, lost: int) -> None:
        with contextlib.suppress(Exception):
            file.note(lost, closed=True)
        file.close()
