"""A server is asked over HTTP: a body of /v1/recommend a call."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from octorec.bench.client import Reply
from octorec.bench.config import BenchConfig
from octorec.bench.result import ANSWERED
from octorec.bench.token import authorization
from octorec.errors import InputError


def address(url: str) -> str:
    """Return where a server is asked for items."""
    return f"{url.rstrip('/')}/v1/recommend"


def connections(config: BenchConfig) -> aiohttp.ClientSession:
    """Return a session with as many connections as there are requests on their way."""
    headers = {"Content-Type": "application/json", **authorization(config.token_file)}
    timeout = aiohttp.ClientTimeout(total=config.timeout_s)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=headers)


class OverHttp:
    """An OverHttp posts a body to an address."""

    rows = 1

    def __init__(self, session: aiohttp.ClientSession, url: str):
        self.session, self.url = session, url
        self.clock = time.thread_time

    async def send(self, body: bytes) -> Reply:
        outcome, content = await self.post(body)
        if outcome == ANSWERED:
            return Reply(outcome, len(content), timings=timings_of(content))
        return Reply(outcome, len(content), kind_of(content))

    async def post(self, body: bytes) -> tuple[str, bytes]:
        """Return the status and what was sent with it, or the name of an error."""
        try:
            async with self.session.post(self.url, data=body) as response:
                return str(response.status), await response.read()
        except TimeoutError:
            return "timeout", b""
        except aiohttp.ClientError as error:
            return type(error).__name__, b""


@asynccontextmanager
async def over(url: str, config: BenchConfig) -> AsyncIterator[OverHttp]:
    """Open connections to a server."""
    async with connections(config) as session:
        yield OverHttp(session, address(url))


def asked_of(_: str, bodies: Sequence[bytes], config: BenchConfig) -> Sequence[bytes]:
    """Return what is sent."""
    if config.rows_per_call > 1:
        raise InputError("rows_per_call", config.rows_per_call, "1, but for an address with grpc://")
    return bodies


async def about(url: str, _: Sequence[bytes], config: BenchConfig) -> dict[str, Any]:
    """Return the versions that answer; raise an InputError where no server is, or none that is ready."""
    try:
        async with connections(config) as session, session.get(f"{url.rstrip('/')}/health") as response:
            said = orjson.loads(await response.read())
            if response.status != 200:
                raise InputError("url", url, f"is not ready: {said['error']['message']}")
            return {"model": said["model"], "catalog": said["catalog"]}
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError("url", url, f"has no OctoRec server ({type(error).__name__}: {error})") from error


def timings_of(content: bytes) -> dict[str, float]:
    """Return the timings of an answer, which stand at its end, without reading the rest; none of a list of answers."""
    at = content.rfind(b'"timings":')
    return orjson.loads(content[at + 10 : -1]) if at >= 0 and content.endswith(b"}}") else {}


def kind_of(content: bytes) -> str:
    """Return the type of a refusal of our server; empty of what anybody else sends."""
    try:
        return str(orjson.loads(content)["error"]["type"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
