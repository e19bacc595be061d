"""An answer before the whole body is there reaches its client: the connection says that it closes, and then lingers.

A socket that is closed with unread bytes resets the connection, and the client loses the answer that it has not read.
"""

import asyncio
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LINGER_S = 3.0
LINGER_BYTES = 2**24


class LingeringProtocol(HttpToolsProtocol):
    """A LingeringProtocol says `Connection: close` with an answer that comes before the whole body, half-closes, and
    reads what the client still sends, for `LINGER_S` and `LINGER_BYTES` at most, without a look at it."""

    _lingers: asyncio.TimerHandle | None = None
    _left = LINGER_BYTES

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.transport: Any = _Transport(transport, self)

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.send = partial(_send, self.cycle, self.cycle.send)  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        if self._lingers is None:
            super().data_received(data)
            return
        self._left -= len(data)
        if self._left < 0:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lingers is not None:
            self._lingers.cancel()
        super().connection_lost(exc)

    @property
    def body_is_on_its_way(self) -> bool:
        return self.cycle is not None and self.cycle.more_body

    def linger(self, transport: asyncio.Transport) -> None:
        """Let a connection send no more, and end it when the client does, or at the bounds."""
        self._lingers = self.loop.call_later(LINGER_S, transport.abort)
        self.flow.resume_reading()  # which a large body may have paused
        if transport.can_write_eof():
            transport.write_eof()

    @property
    def lingers(self) -> bool:
        return self._lingers is not None


class _Transport:
    """A _Transport is the connection's, but for how it is closed."""

    def __init__(self, transport: asyncio.Transport, protocol: LingeringProtocol):
        self._transport, self._protocol = transport, protocol
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._protocol.lingers or self._transport.is_closing()

    def close(self) -> None:
        if self._protocol.body_is_on_its_way and not self._protocol.lingers and not self._transport.is_closing():
            self._protocol.linger(self._transport)
        else:
            self._transport.close()


async def _send(cycle: Any, send: Any, message: Any) -> None:
    if message["type"] == "http.response.start" and cycle.more_body:
        message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
    await send(message)
