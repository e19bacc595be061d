"""A client that costs little, so that an overload is the server's: HTTP/1.1 over sockets, requests made before."""

import asyncio
import random
import re
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"connection: close", re.IGNORECASE)


def request(body: bytes, *headers: str) -> bytes:
    """Return a POST to /v1/recommend as it goes over the wire."""
    lines = ["POST /v1/recommend HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


@dataclass(frozen=True)
class Answer:
    """An Answer is what came back, or how the connection ended instead (`reset`, `closed`).

    seconds: since it was due. at: when it came, by time.perf_counter().
    """

    status: str
    seconds: float
    at: float
    head: bytes = b""
    body: bytes = b""

    @property
    def retry_after(self) -> bool:
        return b"retry-after:" in self.head.lower()


class Connection(asyncio.Protocol):
    """A Connection sends one request after the other."""

    def __init__(self) -> None:
        self.closed = False
        self._waits: asyncio.Future[tuple[str, bytes, bytes]] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    async def ask(self, sent: bytes, due: float) -> Answer:
        self._got = bytearray()
        self._waits = asyncio.get_running_loop().create_future()
        self.transport.write(sent)
        status, head, body = await self._waits
        at = time.perf_counter()
        return Answer(status, at - due, at, head, body)

    def data_received(self, data: bytes) -> None:
        if self._waits is None or self._waits.done():
            return
        self._got += data
        at = self._got.find(b"\r\n\r\n")
        if at < 0:
            return
        head = bytes(self._got[:at])
        length = LENGTH.search(head)
        body = bytes(self._got[at + 4 :])
        if length is not None and len(body) >= int(length[1]):
            self.closed = self.closed or CLOSES.search(head) is not None
            self._waits.set_result((head[9:12].decode(), head, body))
            if self.closed:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(("closed" if exc is None else "reset", b"", b""))


class Wire:
    """A Wire has as many connections as there are requests on their way. source: the address that it asks from."""

    def __init__(self, port: int, source: str | None = None):
        self.port, self.source = port, source
        self._free: deque[Connection] = deque()

    async def ask(self, sent: bytes, due: float | None = None) -> Answer:
        """Send a request and return its answer. due: when it should have been sent, by time.perf_counter()."""
        due = time.perf_counter() if due is None else due
        connection = await self._connection()
        answer = await connection.ask(sent, due)
        if not connection.closed:
            self._free.append(connection)
        return answer

    async def _connection(self) -> Connection:
        while self._free:
            if not (connection := self._free.pop()).closed:
                return connection
        local = None if self.source is None else (self.source, 0)
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, "127.0.0.1", self.port, local_addr=local))[1]

    async def load(self, sent: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> list[Answer]:
        """Send requests in turn when they are due (Poisson), `rate` a second; return their answers."""
        chance = random.Random(seed)
        tasks: list[asyncio.Task[Answer]] = []
        due = time.perf_counter()
        end = due + seconds
        while (due := due + chance.expovariate(rate)) < end:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self.ask(sent[len(tasks) % len(sent)], due)))
        return await asyncio.gather(*tasks)

    async def flood(self, sent: Sequence[bytes], at_once: int, seconds: float) -> list[Answer]:
        """Keep `at_once` requests on their way; return the answers."""
        end, answers = time.perf_counter() + seconds, []

        async def one(number: int) -> None:
            while time.perf_counter() < end:
                answers.append(await self.ask(sent[number % len(sent)]))
                number += at_once

        await asyncio.gather(*(one(number) for number in range(at_once)))
        return answers

    def close(self) -> None:
        for connection in self._free:
            connection.transport.close()


def counted(answers: Sequence[Answer]) -> dict[str, int]:
    """Return how many answers there are by status."""
    return dict(Counter(answer.status for answer in answers))
