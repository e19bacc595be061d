"""Attackers on this machine, and a prober that asks meanwhile whether the server is live, from a process of its own."""

import errno
import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.attack_cases import Case

EVERY_S = 0.02  # between two probes
PATIENCE_S = 5.0  # of a probe
PROBE = f"""
import http.client, json, sys, time
times, failed, end = [], 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    start = time.monotonic()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout={PATIENCE_S})
        connection.request("GET", "/v2/health/live")
        failed += connection.getresponse().status != 200
        connection.close()
    except (OSError, http.client.HTTPException):
        failed += 1
    times.append((time.monotonic() - start) * 1e3)
    time.sleep({EVERY_S})
print(json.dumps([times, failed]))
"""


@dataclass
class Liveness:
    """Liveness is how long the probes of one attack took, in milliseconds, and how many were not answered by 200."""

    times: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def worst(self) -> float:
        return max(self.times)

    @property
    def p99(self) -> float:
        return sorted(self.times)[int(0.99 * (len(self.times) - 1))]


@contextmanager
def probed(port: int, seconds: float) -> Iterator[Liveness]:
    """Ask for liveness beside the block, for `seconds` at least; each time on a new connection."""
    found = Liveness()
    command = [sys.executable, "-S", "-c", PROBE, str(port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as prober:
        try:
            yield found
        except BaseException:
            prober.kill()
            raise
        assert prober.stdout is not None
        found.times, found.failed = json.loads(prober.stdout.read())


@dataclass
class Attacker:
    """An Attacker is one connection of a case. ended: when the server closed it, None while it has not."""

    case: Case
    connection: socket.socket
    unsent: memoryview
    due: float
    sent: int = 0  # pieces
    said: bytes = b""
    ended: float | None = None

    def go(self, now: float) -> None:
        """Read what was said and send what is due, as far as either is possible at once."""
        try:
            if self.case.reads and not self._read(now):
                return
            if not self.unsent and now >= self.due and self._more():
                self.unsent, self.sent, self.due = memoryview(self.case.piece), self.sent + 1, now + self.case.every_s
            if self.unsent:
                self.unsent = self.unsent[self.connection.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.ended = now

    def _more(self) -> bool:
        return bool(self.case.piece) and (self.case.most is None or self.sent < self.case.most)

    def _read(self, now: float) -> bool:
        try:
            got = self.connection.recv(65536)
        except BlockingIOError:
            return True
        self.said = (self.said + got)[:2000]
        if not got:
            self.ended = now
        return bool(got)

    @property
    def waits_for(self) -> int:
        return (select.POLLIN if self.case.reads else 0) | (select.POLLOUT if self.unsent else 0)

    @property
    def result(self) -> str:
        """What came of it: the last status, or how it ended."""
        words = self.said.split(b"HTTP/1.1 ")
        return words[1][:3].decode() if len(words) > 1 else "open" if self.ended is None else "closed"


@dataclass
class Thrown:
    """Thrown says what came of an attack: results, connections that the server left open, and when it ended others."""

    said: Counter[str]
    still_open: int
    last_s: float  # when the last connection was ended, of those that were


def throw(case: Case, port: int, seconds: float, until_answered: bool = False) -> Thrown:
    """Attack for `seconds`, or until the server has ended every connection (or, if asked for, answered each)."""
    start = time.monotonic()
    attackers = [attacker for _ in range(case.connections) if (attacker := _connect(case, port)) is not None]
    try:
        while (now := time.monotonic()) < start + seconds:
            going = [attacker for attacker in attackers if attacker.ended is None]
            if not going or (until_answered and all(attacker.said for attacker in going)):
                break
            for attacker in going:
                attacker.go(now)
            waiting = select.poll()
            for attacker in going:
                waiting.register(attacker.connection, attacker.waits_for)
            cut = {fd for fd, event in waiting.poll(50) if event & (select.POLLERR | select.POLLHUP)}
            for attacker in going:
                if not case.reads and attacker.connection.fileno() in cut:
                    attacker.ended = time.monotonic()
        ended = [attacker.ended - start for attacker in attackers if attacker.ended is not None]
        said = Counter(attacker.result for attacker in attackers)
        said["refused"] += case.connections - len(attackers)
        return Thrown(+said, sum(attacker.ended is None for attacker in attackers), max(ended, default=0.0))
    finally:
        for attacker in attackers:
            attacker.connection.close()


def _connect(case: Case, port: int) -> Attacker | None:
    connection = socket.socket()
    connection.settimeout(1.0)
    if not case.reads:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        connection.connect(("127.0.0.1", port))
    except OSError as error:
        connection.close()
        if error.errno == errno.EMFILE:
            raise
        return None
    connection.setblocking(False)
    return Attacker(case, connection, memoryview(case.head), time.monotonic() + case.every_s)


def ask(port: int, request: bytes, seconds: float = 10.0) -> bytes:
    """What the server says to `request`, until it closes, `seconds` are over, or one answer with its body is there."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(request)
        try:
            while not _whole(said) and (got := connection.recv(65536)):
                said += got
        except OSError:
            pass
    return said


def _whole(said: bytes) -> bool:
    head, end, rest = said.partition(b"\r\n\r\n")
    if not end or head.startswith(b"HTTP/1.1 100"):
        return False
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(lengths) and len(rest) >= int(lengths[0])


def status(said: bytes) -> str:
    return said[9:12].decode() or "closed"


def get(port: int, path: str) -> Any:
    """The body of an answer, decoded where it is JSON."""
    said = ask(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return said.partition(b"\r\n\r\n")[2]
