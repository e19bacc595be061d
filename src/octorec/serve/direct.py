"""Addresses that are asked most are answered before FastAPI looks for a route: that costs as much as a refusal."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Answer = Callable[[Request], Awaitable[Response]]


class Direct:
    """Direct is middleware: it answers POST at `addresses`, by path; whatever else is the application's."""

    def __init__(self, app: ASGIApp, addresses: Mapping[str, Answer]):
        self.app, self.addresses = app, addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http" and scope["method"] == "POST":
            answer = self.addresses.get(scope["path"].removeprefix(scope.get("root_path", "")))
        if answer is None:
            await self.app(scope, receive, send)
        else:
            response = await answer(Request(scope, receive, send))
            await response(scope, receive, send)
