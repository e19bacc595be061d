"""HTTP on a connection, as uvicorn has it, within limits: no client holds memory, time or a connection beyond them."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from octorec.serve.config import HttpOptions
from octorec.serve.connections import Connections
from octorec.serve.refusal import Refusal

HEAD_BYTES = 2**16  # of a request without its body: address, header lines, trailers, framing of chunks
HEAD_LINES = 100
PIPELINED = 16  # requests that may wait behind one on a connection
LINGER_S = 2.0  # that a client has to read its refusal while it still sends
LINGER_BYTES = 2**25  # that are read then and thrown away
CHUNK = 5  # bytes around a chunk, at least
AT_ONCE = struct.pack("ii", 1, 0)  # reset: what is unsent is not kept for a client that does not read
TOO_LARGE = f"a request's head, trailers and framing have at most {HEAD_BYTES} bytes and {HEAD_LINES} lines"
App = Callable[..., Awaitable[Any]]


class Beyond(Exception):
    """A Beyond stops the parser: a limit was passed. Its text is the word that the end is counted by."""


class Bounded(HttpToolsProtocol):
    """A Bounded is one connection. What of a request is no body is bounded in bytes and lines, heads in time, waiting
    requests in number; what the client does not read is bounded in time.

    The address and the header lines are counted as the parser tells them, and what it keeps to itself (a line that
    does not end, a chunk's extension) by the bytes that it was fed.
    """

    def __init__(self, *given: Any, options: HttpOptions, open_ones: Connections, **named: Any):
        super().__init__(*given, **named)
        self.options, self.open_ones = options, open_ones
        self.raw: Any = None  # the transport that does as it is told
        self.deaf = False  # nothing more is parsed
        self.thrown_away = 0  # bytes since then
        self.ending = False  # nothing more is answered
        self.in_message = self.in_head = False
        self.began = False  # a message, in what is being parsed
        self.lines = self.told = self.around = self.chunks = self.body_bytes = 0
        self.resuming = False  # framing of a message whose head is known
        self.running: RequestResponseCycle | None = None
        self.timers: dict[str, asyncio.TimerHandle] = {}

    # Connection
    def connection_made(self, transport: Any) -> None:
        self.raw = transport
        super().connection_made(Closing(transport, self))  # type: ignore[arg-type]
        self.flow = Waiting(self)
        self._within("head", self.options.head_timeout_s, self.head_is_late)
        self.open_ones.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        for name in [*self.timers]:
            self._cancel(name)
        self.deaf = self.ending = True
        self.open_ones.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            self._throw_away(data)
            return
        self._unset_keepalive_if_required()
        behind, before, self.began = self.in_message, self.body_bytes, False
        try:
            self._feed(data)
            unfinished = self.in_message or not (behind or self.began)
            if unfinished and not (self.began and behind):  # else the first bytes are of the message before
                self._count_around(len(data) - self.body_bytes + (0 if self.began else before))
        except (Beyond, httptools.HttpParserError) as error:
            self._stop_parsing(error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error)
            return
        if unfinished and (self.in_head or not self.in_message):
            self._within("head", self.options.head_timeout_s, self.head_is_late)

    def _count_around(self, n: int) -> None:
        self.around += n
        if self.around > HEAD_BYTES + self.body_bytes:
            raise Beyond("too_large")

    def _stop_parsing(self, error: BaseException | None) -> None:
        if isinstance(error, Beyond):
            self.refuse(str(error), Refusal("head_too_large", TOO_LARGE))
        else:
            self.refuse("malformed", Refusal("malformed", "the bytes are no HTTP request"))

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # to a protocol that nobody here speaks: it is ignored
            self._resume()
            if rest := data[upgrade.args[0] :]:
                self._feed(rest)  # as often as requests may wait

    def _resume(self) -> None:
        """Let another parser go on behind the head; the one that saw `Upgrade` takes what follows for no HTTP."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        framing = [b": ".join(line) for line in self.headers if line[0] in (b"content-length", b"transfer-encoding")]
        self.resuming = True
        try:
            self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))
        finally:
            self.resuming = False

    # What the parser tells
    def on_message_begin(self) -> None:
        if self.resuming:
            return
        super().on_message_begin()
        self.in_message = self.in_head = self.began = True
        self.lines = self.told = self.around = self.chunks = self.body_bytes = 0

    def on_url(self, url: bytes) -> None:
        if not self.resuming:
            self._count(url, b"")
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.resuming:
            return
        self.lines += 1
        self._count(name, value)
        if self.in_head:  # a trailer is no header
            super().on_header(name, value)

    def _count(self, name: bytes, value: bytes) -> None:
        self.told += len(name) + len(value)
        if self.told > HEAD_BYTES or self.lines > HEAD_LINES:
            raise Beyond("too_large")

    def on_headers_complete(self) -> None:
        if self.resuming:
            return
        if len(self.pipeline) >= PIPELINED:
            raise Beyond("pipelined")
        super().on_headers_complete()
        self.in_head = False
        self._cancel("head")

    def on_chunk_header(self) -> None:
        self.chunks += 1
        if self.chunks * CHUNK > HEAD_BYTES + self.body_bytes:
            raise Beyond("too_large")

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the next parser says so
        self.in_message, self.around = False, 0
        super().on_message_complete()
        self.open_ones.has_request(self)

    # Answers
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, partial(_answer, cycle, app))  # type: ignore[arg-type]

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.ending and self.running is not None and self.running.response_complete:
            self.open_ones.is_idle(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._within("answer", self.options.answer_timeout_s, partial(self.drop, "unread"))

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel("answer")

    # The end
    def head_is_late(self) -> None:
        """End a connection on which no whole head came in time; without a word where none began."""
        if self.around:
            self.refuse("head_timeout", Refusal("timeout", "the request's head did not arrive in time"))
        else:
            self.open_ones.ended("silent")
            self.end()

    def refuse(self, why: str, refusal: Refusal) -> None:
        """Answer what is owed, then, if nothing is, with the refusal, and close. why: for the count."""
        self.open_ones.ended(why)
        if self.cycle is not None and self.in_message and not self.in_head:  # the body of the newest request is refused
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
        owed = self.pipeline[0][0] if self.pipeline else self.running
        if owed is not None and not owed.response_complete and not owed.disconnected:
            owed.keep_alive = False
            self.deaf = True
            self.flow.pause_reading()
            return
        if owed is None or not owed.response_started or owed.response_complete:
            body = orjson.dumps(refusal.body())
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[refusal.status] + head + body)
        self.end()

    def end(self) -> None:
        """End the connection once what was said is sent. A client that still sends is heard a little longer, as it
        would lose the answer to a reset."""
        if self.ending:
            return
        self.deaf = self.ending = True
        transport = self.raw
        unsent = transport.get_write_buffer_size()
        self._within("end", self.options.answer_timeout_s if unsent else LINGER_S, self.drop)
        if self.in_message and not transport.is_closing() and _half_closed(transport):
            transport.resume_reading()
        else:
            transport.close()

    def drop(self, why: str | None = None) -> None:
        """End the connection at once. why: for the count, unless that was counted."""
        if why is not None:
            self.open_ones.ended(why)
        self.deaf = self.ending = True
        transport = self.raw
        if peer := transport.get_extra_info("socket"):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        transport.abort()

    def _throw_away(self, data: bytes) -> None:
        self.thrown_away += len(data)
        if self.thrown_away > LINGER_BYTES:
            self.raw.pause_reading()

    def _within(self, name: str, seconds: float, late: Callable[[], Any]) -> None:
        """Call `late` after `seconds`, unless it is cancelled before; a timer that runs stays as it is."""
        if name not in self.timers:
            self.timers[name] = self.loop.call_later(seconds, self._late, name, late)

    def _late(self, name: str, late: Callable[[], Any]) -> None:
        self.timers.pop(name, None)
        late()

    def _cancel(self, name: str) -> None:
        if timer := self.timers.pop(name, None):
            timer.cancel()


class Closing:
    """A Closing is a transport that closes as its connection does."""

    def __init__(self, transport: Any, connection: Bounded):
        self._transport, self._connection = transport, connection
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._connection.ending or self._transport.is_closing()

    def close(self) -> None:
        self._connection.end()


class Waiting(FlowControl):
    """A Waiting reads nothing while requests wait behind the one that is answered."""

    def __init__(self, connection: Bounded):
        super().__init__(connection.transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if not self._connection.pipeline and not self._connection.deaf:
            super().resume_reading()


def _half_closed(transport: Any) -> bool:
    """Send no more on a connection; False where its client is gone already."""
    try:
        transport.write_eof()
    except OSError:
        return False
    return True


async def _answer(cycle: RequestResponseCycle, app: App, scope: Any, receive: Any, send: Any) -> None:
    """Answer by `app`. Where that is before the whole body is there, the answer says that the connection is closed."""

    async def said(message: Any) -> None:
        if message["type"] == "http.response.start" and cycle.more_body:
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    await app(scope, receive, said)
