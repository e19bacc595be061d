"""Routes that read no body before they know who sends it, and none that is too large or of another type than JSON."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute

from octorec.files import without_doubles
from octorec.serve.access import decoded, read_body
from octorec.serve.refusal import Refusal
from octorec.serve.tokens import Tokens

SMALL = 2**14  # bytes of a body that is checked within a millisecond
Made = TypeVar("Made")


def guarded_route(tokens: Tokens, most_bytes: int, timeout_s: float) -> type[APIRoute]:
    """Return the class of FastAPI routes whose requests bring a token and at most `most_bytes` of JSON."""

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                body = await guarded_body(request, tokens, most_bytes, timeout_s)

                async def again() -> dict[str, Any]:
                    return {"type": "http.request", "body": body, "more_body": False}

                return await handle(Request(request.scope, again))

            return guarded

    return GuardedRoute


async def guarded_body(request: Request, tokens: Tokens, most_bytes: int, timeout_s: float) -> bytes:
    """Read the body of a request with a token: at most `most_bytes` of JSON, if any, in which no key stands twice."""
    tokens.check(request)
    body = await read_body(request, most_bytes, timeout_s)
    if body:
        _refuse_unless_json(request.headers.get("content-type", ""))
        await beside(body, _refuse_unless_strict)
    return body


async def beside(body: bytes, work: Callable[[bytes], Made]) -> Made:
    """Return what `work` makes of a body; of a large one in a thread, so that no other request waits for it."""
    return work(body) if len(body) <= SMALL else await asyncio.to_thread(work, body)


def _refuse_unless_strict(body: bytes) -> None:
    """Refuse more than FastAPI does: NaN, half of a surrogate pair, endless nesting, and a key that stands twice, as an
    operation that is lost without a word is worse than one that is refused."""
    decoded(body)
    try:
        json.loads(body, object_pairs_hook=without_doubles)
    except (ValueError, RecursionError) as error:  # the message of ours names a key, which may be anybody's
        said = "nested too deeply" if isinstance(error, RecursionError) else "a key stands twice in one object"
        raise Refusal("malformed", f"body: {said}", "body") from None


def _refuse_unless_json(content_type: str) -> None:
    """Refuse other types; also a guard against web pages, which may send those to any address without asking first."""
    message = Message()
    message["content-type"] = content_type
    if message.get_content_type() != "application/json":
        raise Refusal("unsupported_media", "content-type: send application/json", "content-type")
