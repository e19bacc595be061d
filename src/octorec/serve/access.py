"""Bodies are bounded in bytes and time, and nobody works for a client that has hung up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from octorec.serve.refusal import Refusal

PLAIN = {"content-encoding": {"", "identity"}, "transfer-encoding": {"", "chunked"}}  # what these headers may say
LONGEST_LENGTH = 20  # digits
LARGE = 2**17  # bytes of a body that are decoded in more than a millisecond
BETWEEN_S = 0.002  # for everybody else between two of them


def refuse_encodings(request: Request) -> None:
    """Refuse a body that is not plain UTF-8: compressed, by whatever header says so, or in another character set."""
    for name, plain in PLAIN.items():
        codings = ",".join(request.headers.getlist(name)).lower().split(",")
        if not {coding.strip() for coding in codings} <= plain:
            raise Refusal("unsupported_media", f"{name}: send the body as it is", name)
    content_type = request.headers.get("content-type", "")
    if ";" not in content_type:  # it has no parameters
        return
    message = Message()
    message["content-type"] = content_type
    charset = message.get_param("charset", "utf-8")
    if not isinstance(charset, str) or charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Refusal("unsupported_media", "content-type: send UTF-8", "content-type")


async def read_body(request: Request, most: int, timeout_s: float) -> bytes:
    """Read the body, of at most `most` bytes, within `timeout_s`; a compressed one is refused."""
    refuse_encodings(request)
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > LONGEST_LENGTH or int(declared) > most):
        raise _too_large(most)
    parts: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                total += len(part)
                if total > most:
                    raise _too_large(most)
                parts.append(part)
    except TimeoutError:
        raise Refusal("timeout", f"the body did not arrive within {timeout_s:g} s", "body") from None
    except ClientDisconnect:
        raise Refusal("cancelled", "the client hung up") from None
    if total > LARGE:
        await _in_turn(request)
    return b"".join(parts)


async def _in_turn(request: Request) -> None:
    """Wait until the loop had a moment for others since the last large body, as decoding one holds it."""
    if not hasattr(request.app.state, "large_bodies"):
        request.app.state.large_bodies = asyncio.Lock()
    async with request.app.state.large_bodies:
        await asyncio.sleep(BETWEEN_S)


def decoded(body: bytes) -> object:
    """Decode a body of JSON, as strictly as the standard has it; a Refusal where it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal("malformed", f"body: is not JSON ({error})", "body") from None


class HungUp(Exception):
    """HungUp says that the client closed its connection before its answer was there."""


@asynccontextmanager
async def unless_hung_up(request: Request) -> AsyncIterator[None]:
    """Cancel the block when the client hangs up, and raise HungUp; only once the body was read."""
    task = asyncio.current_task()
    assert task is not None

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if watching.done() and task.uncancel() == 0:
            raise HungUp from None
        raise
    finally:
        watching.cancel()


def _too_large(most: int) -> Refusal:
    return Refusal("too_large", f"the body has more than {most} bytes", "body")
