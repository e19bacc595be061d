"""What a server answers to single requests that should be refused, or should not, and to a log that nobody reads."""

import contextlib
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.attack_server import TOKEN, Served, ports_of, serving
from benchmarks.attackers import ask, status

Answer = Callable[[Path, Path], str]
GOOD = b'{"history": ["i1", "50"], "k": 2}'
REQUESTS, REFUSALS = 1000, 3000


def post(body: bytes = GOOD, headers: str = "", path: str = "/v1/recommend", host: str = "localhost") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
AUTHORIZED = f"Authorization: Bearer {TOKEN}\r\n"


def _asked(requests: dict[str, bytes], admin: bool = False, admin_token: bool = True) -> Answer:
    def answer(checkpoint: Path, scratch: Path) -> str:
        with serving(checkpoint, scratch, admin_token=admin_token) as server:
            port = server.admin_port if admin else server.port
            return ", ".join(f"{name} {status(ask(port, request))}" for name, request in requests.items())

    return answer


def _head(path: str) -> bytes:
    return f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def log_that_nobody_reads(checkpoint: Path, scratch: Path) -> str:
    """Requests that were answered while the server's stderr is a pipe that is full."""
    with serving(checkpoint, scratch, "--port", "0", stderr=subprocess.PIPE) as server:
        assert server.process.stderr is not None
        lines: list[str] = []
        while (ports := ports_of(lines)) is None:
            lines.append(server.process.stderr.readline().decode().strip())
        return _answered(ports["OctoRec"])


def log_on_a_full_disk(checkpoint: Path, scratch: Path) -> str:
    """Requests that were answered while every line fails to be written."""
    port = _free_port()
    with Path("/dev/full").open("wb") as full, serving(checkpoint, scratch, "--port", str(port), stderr=full):
        _until_ready(port)
        return _answered(port)


def log_of_refusals(checkpoint: Path, scratch: Path) -> str:
    """The bytes of log of each refused request, on average, while they come as fast as they can."""
    with serving(checkpoint, scratch) as server:
        before, start = server.log.stat().st_size, time.monotonic()
        for _ in range(REFUSALS):
            ask(server.port, post(b"{}"))
        seconds = time.monotonic() - start
        time.sleep(0.5)
        written = server.log.stat().st_size - before
    return f"{written / REFUSALS:.0f} bytes a refusal at {REFUSALS / seconds:.0f}/s"


def descriptors(checkpoint: Path, scratch: Path) -> str:
    """Whether liveness is answered while more connections are held than the process may have descriptors."""
    with serving(checkpoint, scratch, descriptors=256) as server:
        held = []
        for _ in range(400):
            connection = socket.socket()
            connection.settimeout(0.2)
            held.append(connection)
            with contextlib.suppress(OSError):
                connection.connect(("127.0.0.1", server.port))
        meanwhile = Counter(_live(server) for _ in range(5))
        for connection in held:
            connection.close()
        time.sleep(2.0)
        return f"meanwhile {dict(meanwhile)}, afterwards {_live(server)}"


def _live(server: Served) -> str:
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        return status(ask(server.port, request, 2.0))
    except OSError as error:
        return type(error).__name__


def _answered(port: int) -> str:
    answered = 0
    for _ in range(REQUESTS):
        if status(ask(port, post(headers=""), 3.0)) != "200":
            break
        answered += 1
    return f"{answered} of {REQUESTS} requests answered"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _until_ready(port: int) -> None:
    end = time.monotonic() + 400
    while time.monotonic() < end:
        try:
            if status(ask(port, b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == "200":
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"not ready on port {port}: {os.getpid()}")


ROLLBACK = "/v1/catalog/rollback"
ANSWERS: dict[str, tuple[str, Answer]] = {
    "upgrade": (
        "`Upgrade: h2c`, as JDK clients send it",
        _asked({"with a body": post(headers=UPGRADE), "chunked": (
            b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n" + UPGRADE.encode()
            + b"\r\n%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n")}),
    ),
    "head": (
        "HEAD",
        _asked({path: _head(path) for path in ("/health", "/v2/health/live", "/v2/health/ready", "/metrics")}),
    ),
    "encodings": (
        "bodies in other encodings",
        _asked({
            "gzip": post(headers="Content-Encoding: gzip\r\n"),
            "identity, then gzip": post(headers="Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"),
            "transfer gzip": b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n"
            b"\r\n2\r\n{}\r\n0\r\n\r\n",
            "UTF-16": post(headers="Content-Type: application/json; charset=utf-16\r\n"),
        }),
    ),
    "web_page": (
        "a web page that posts a rollback to the admin port of its reader's machine",
        _asked({
            "foreign Origin": post(b"", "Origin: https://example.com\r\n", ROLLBACK),
            "foreign Host": post(b"", "", ROLLBACK, "example.com"),
            "Origin null": post(b"", "Origin: null\r\n", ROLLBACK),
            "own Origin": post(b"", "Origin: http://localhost\r\n", ROLLBACK),
        }, admin=True, admin_token=False),
    ),
    "log_unread": ("a log that nobody reads", log_that_nobody_reads),
    "log_full": ("a log on a full disk", log_on_a_full_disk),
    "log_refusals": ("refusals as fast as they come", log_of_refusals),
    "descriptors": ("400 connections to a process of 256 descriptors", descriptors),
}  # fmt: skip
