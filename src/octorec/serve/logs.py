"""Logs as JSON lines on stderr. No line is waited for: a thread writes them, and what is too much is lost."""

import fcntl
import json
import logging
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from octorec.errors import CONTROL

LOG_RECORD_FIELDS = {*vars(logging.makeLogRecord({})), "message", "taskName", "color_message"}  # all others are `extra`
MOST_WAITING = 2**22  # bytes of lines that were not written yet
LONGEST_LINE = 2**16  # bytes
FLUSH_S = 1.0  # at the end
KIND_LINES, KIND_S = 20, 1.0  # lines of one kind, of refusals and errors, in one period of that length in seconds
MOST_KINDS = 1000


class JsonFormatter(logging.Formatter):
    """A JsonFormatter writes time (UTC), level, message, all that came as `extra`, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "message": record.getMessage()}
        more = {name: value for name, value in vars(record).items() if name not in LOG_RECORD_FIELDS}
        line |= {name: value for name, value in more.items() if not name.startswith("_")}  # Ray adds some of its own
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)[-LONGEST_LINE // 4 :]
        text = orjson.dumps(line, default=str).decode()
        return CONTROL.sub(lambda found: json.dumps(found[0])[1:-1], text)  # what JSON allows and a terminal obeys


class Sampled(logging.Filter):
    """A Sampled lets through `KIND_LINES` lines of one kind a second, and has the next one say how many it left out.

    A kind is a logger's message, of requests with their outcome. Lines of what was answered are never left out here.
    """

    def __init__(self, lose: Callable[[str], None]):
        super().__init__()
        self._lose = lose
        self._kinds: dict[Any, tuple[float, int]] = {}  # when its period began, lines since

    def filter(self, record: logging.LogRecord) -> bool:
        outcome = getattr(record, "outcome", None)
        if outcome == "ok" or (record.levelno < logging.WARNING and outcome is None):
            return True
        kind, now = (record.name, record.msg, outcome), record.created
        if len(self._kinds) >= MOST_KINDS:
            self._kinds.clear()
        since, lines = self._kinds.get(kind, (now, 0))
        if now >= since + KIND_S:
            if lines > KIND_LINES:
                record.left_out = lines - KIND_LINES
            since, lines = now, 0
        self._kinds[kind] = since, lines + 1
        if lines >= KIND_LINES:
            self._lose("sampled")
        return lines < KIND_LINES


class Lines(logging.Handler):
    """A Lines writes to a descriptor from a thread of its own. Where that is slower than lines come, or fails, lines
    are lost and counted, and nobody waits.

    lost: lines that were not written, by why: `full`, `failed` or `sampled`. waiting: bytes to be written.
    """

    def __init__(self, descriptor: int):
        super().__init__()
        self._lock_file: int | None = None
        self.lost: Counter[str] = Counter()
        self.waiting = 0
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._changed = threading.Condition()
        self.addFilter(Sampled(self._lose))
        self.setFormatter(JsonFormatter())
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode() + b"\n"
        except Exception:  # a line that cannot be made is no reason to fail
            self._lose("failed")
            return
        with self._changed:
            if len(line) > LONGEST_LINE or self.waiting + len(line) > MOST_WAITING:
                self._lose("full")
                return
            self._lines.append(line)
            self.waiting += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, a moment at most: stderr may be a pipe that nobody reads."""
        with self._changed:
            self._changed.wait_for(lambda: not self.waiting, FLUSH_S)

    def _lose(self, why: str) -> None:
        self.lost[why] += 1

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                lines = [self._lines.popleft() for _ in range(min(len(self._lines), 100))]
            left = memoryview(text := b"".join(lines))
            try:
                self._hold(fcntl.LOCK_EX)
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError:  # a full disk, a reader that is gone
                self.lost["failed"] += len(lines)
            self._hold(fcntl.LOCK_UN)
            with self._changed:
                self.waiting -= len(text)
                self._changed.notify_all()

    def share(self, lock: Path) -> None:
        """Write beside other processes from now on, each while it holds `lock`, so that every line stays whole."""
        self._lock_file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)

    def _hold(self, how: int) -> None:
        if self._lock_file is not None:
            fcntl.flock(self._lock_file, how)


def log_as_json() -> Lines:
    """Send every logger's lines of this process to stderr as JSON."""
    lines = Lines(sys.stderr.fileno())
    logging.basicConfig(level=logging.INFO, handlers=[lines], force=True)
    logging.captureWarnings(True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it says on each start what `run` says better
    return lines


def end_now(code: int) -> None:
    """End the process without its clean-up, once the log is written or a moment has passed."""
    logging.shutdown()
    os._exit(code)
