"""Addresses that are asked most are answered before FastAPI looks for a route: that costs as much as a refusal."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from octorec.serve.spans import Spans, traced

Answer = Callable[[Request], Awaitable[Response]]


class Direct:
    """Direct is middleware: it answers POST at `addresses`, by path; whatever else is the application's.

    spans: of its answers, which say what trace they belong to with or without them.
    """

    def __init__(self, app: ASGIApp, addresses: Mapping[str, Answer], spans: Spans | None = None):
        self.app, self.addresses, self.spans = app, addresses, spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer, path = None, ""
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            answer = self.addresses.get(path)
        if answer is None:
            await self.app(scope, receive, send)
        else:
            about = {"http.request.method": "POST", "http.route": path}
            with traced(self.spans, scope["headers"], f"POST {path}", about) as asked:
                response = await answer(Request(scope, receive, send))
                response.headers.update(asked.context.headers)
                asked.ended("http.response.status_code", response.status_code)
            await response(scope, receive, send)
