"""A process has its own file of a log, which is locked while the process lives, and is made Parquet after that."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet

from octorec.errors import InputError
from octorec.evaluate.online.log_lines import HEAD, Head, line_chunks, parse_head, parse_lines
from octorec.output.lock import is_at

LINES, PARQUET, SCRATCH = ".jsonl", ".parquet", ".partial"
NOTE = b"octorec.log"  # the key of the head in a Parquet file's metadata


class LogFile:
    """A LogFile is a new file of lines; a file system without locks is written too, but nobody makes Parquet of it."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema):
        """Make, lock and begin the file. Raises OSError; FileExistsError where somebody took the name first."""
        self.path, self._head = folder / (name + LINES), Head(name, tuple(schema.names))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._handle = os.open(self.path, flags, 0o644)
        try:
            if _lock(self._handle, fcntl.LOCK_EX) is False or not is_at(self._handle, self.path):
                raise FileExistsError(f"{self.path} was taken")
            self._write(self._head.line(), 0)
            os.fsync(self._handle)
            _sync_folder(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._handle)
            raise
        self.size = HEAD  # bytes up to the end of the last whole line

    def append(self, lines: list[bytes]) -> tuple[int, OSError | None]:
        """Write lines until the disk has them. Returns how many it has, and why it has no more."""
        data, done, trouble = b"".join(lines), 0, None
        try:
            while done < len(data):
                done += os.pwrite(self._handle, memoryview(data)[done:], self.size + done)
        except OSError as error:
            trouble = error
        whole = data.rfind(b"\n", 0, done) + 1
        try:
            if whole < done:
                os.ftruncate(self._handle, self.size + whole)
            os.fsync(self._handle)
        except OSError as error:
            trouble, whole = error, 0
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self.size)
        self.size += whole
        return data.count(b"\n", 0, whole), trouble

    def note(self, lost: int, closed: bool = False) -> None:
        """Say in the head how many rows were lost; it takes no room that the file has not got. Raises OSError."""
        head = replace(self._head, lost=lost, closed=closed)
        if head != self._head:
            self._write(head.line(), 0)
            self._head = head
            os.fsync(self._handle)

    def close(self) -> None:
        """Leave the file to the process that makes Parquet of it."""
        os.close(self._handle)

    @property
    def is_there(self) -> bool:
        """Tell whether the file still stands under its name; a person may have removed it."""
        return is_at(self._handle, self.path)

    @property
    def empty(self) -> bool:
        return self.size == HEAD

    @property
    def lost(self) -> int:
        """Return how many rows the head says were lost."""
        return self._head.lost

    def _write(self, data: bytes, place: int) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._handle, data[done:], place + done)


def make_parquet(path: Path, schema: pa.Schema) -> None:
    """Make Parquet of a file of lines that no living process writes; one that is written is left alone.

    Raises OSError, ArrowException, or InputError about a file that is no log's.
    """
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file, left(file, path, fcntl.LOCK_EX) as is_left:
        if not is_left:
            return
        target = path.with_suffix(PARQUET)
        head, parts = read_lines(file, path, schema)
        if head is not None and not target.exists():  # it exists where a process ended before it removed the lines
            scratch = path.with_name(f".{path.stem}{PARQUET}{SCRATCH}")
            try:
                if _write_parquet(scratch, schema, head, parts):
                    scratch.rename(target)
                    _sync_folder(path.parent)
            finally:
                scratch.unlink(missing_ok=True)
        path.unlink()


@contextmanager
def left(file: BinaryIO, path: Path, how: int) -> Iterator[bool]:
    """Hold the lock of an open file of lines, by LOCK_EX or LOCK_SH; yields False where its process lives, or nobody
    can say."""
    yield _lock(file.fileno(), how) is True and is_at(file.fileno(), path)


def read_lines(
    file: BinaryIO, path: Path, schema: pa.Schema, growing: bool = False
) -> tuple[Head | None, Iterator[tuple[list[pa.Table], int]]]:
    """Return the head of a file, None of one whose process had not written it yet, and its rows and
    broken lines bit by bit.

    growing: leave out what stands behind the last line end, as its process is writing it.
    """
    head = _read_head(file, path, schema)
    if head is None:
        return None, iter(())
    return head, (parse_lines(one, schema) for one in line_chunks(file) if one.endswith(b"\n") or not growing)


def _read_head(file: BinaryIO, path: Path, schema: pa.Schema) -> Head | None:
    """Return the head, which is looked at again where it was being written just then."""
    for again in (True, True, False):
        file.seek(0)
        first = file.read(HEAD)
        if len(first) < HEAD and b"\n" not in first:
            return None
        try:
            return parse_head(first, str(path), schema)
        except InputError:
            if not again:
                raise
    return None


def _write_parquet(scratch: Path, schema: pa.Schema, head: Head, parts: Iterator[tuple[list[pa.Table], int]]) -> bool:
    """Write and sync; returns whether the file says anything at all."""
    rows = torn = 0
    with scratch.open("wb") as out:
        with pyarrow.parquet.ParquetWriter(out, schema, compression="zstd", write_page_checksum=True) as writer:
            for tables, bad in parts:
                torn += bad
                for table in tables:
                    rows += table.num_rows
                    writer.write_table(table)
            note = json.dumps(asdict(replace(head, torn=torn)))
            writer.add_key_value_metadata({NOTE: note.encode()})
        out.flush()
        os.fsync(out.fileno())
    return rows > 0 or torn > 0 or head.lost > 0 or not head.closed


def _lock(handle: int, how: int) -> bool | None:
    """Tell whether the lock could be had; None on a file system without locks."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
