"""The way out of a server: what was accepted is answered, what is left at the limit is refused, and then it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octorec.serve.metrics import Metrics
from octorec.serve.problems import problem
from octorec.serve.refusal import Refusal

SHUTTING_DOWN = "the server is shutting down"


class WayOut:
    """A WayOut knows the HTTP requests that are open, and ends them. unanswered: requests that it ended."""

    def __init__(self) -> None:
        self.unanswered = 0
        self.given_up = False
        self._open: set[asyncio.Timeout] = set()

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Run the block, until the server gives up what is open: then it ends with TimeoutError."""
        async with asyncio.timeout(0 if self.given_up else None) as limit:
            self._open.add(limit)
            try:
                yield
            finally:
                self._open.discard(limit)

    def give_up(self) -> None:
        """End every open request."""
        self.given_up = True
        now = asyncio.get_running_loop().time()
        for limit in self._open:
            limit.reschedule(now)


class AnsweredOnTheWayOut:
    """AnsweredOnTheWayOut is middleware: a request that the server gives up is answered 503 `draining`, and counted."""

    def __init__(self, app: ASGIApp, way_out: WayOut, metrics: Metrics):
        self.app, self.way_out, self.metrics = app, way_out, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with self.way_out.open():
                await self.app(scope, receive, sending)
        except TimeoutError:
            if not self.way_out.given_up:
                raise
            self.way_out.unanswered += 1
            self.metrics.requests.labels("draining").inc()
            if not started:
                answer = problem(Refusal("draining", SHUTTING_DOWN), scope["path"], {"Connection": "close"})
                await answer(scope, receive, send)
