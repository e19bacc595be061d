"""Bodies are bounded in bytes and time, and nobody works for a client that has hung up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from octorec.serve.refusal import Refusal


async def read_body(request: Request, most: int, timeout_s: float) -> bytes:
    """Read the body, of at most `most` bytes, within `timeout_s`; a compressed one is refused."""
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise Refusal("unsupported_media", f"Content-Encoding: {coding}: send the body as it is", "content-encoding")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > most:
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
    return b"".join(parts)


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
