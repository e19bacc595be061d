"""A client sends requests when they are due (open loop, Poisson), whether the server keeps up or not.

A client that waits for one answer before it asks again slows down with the server and hides its worst latencies
("coordinated omission"). Here a request's time begins when it is due.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence

import aiohttp
import orjson

from octorec.bench.config import BenchConfig
from octorec.bench.result import Loaded, Sample
from octorec.errors import InputError
from octorec.progress import Progress
from octorec.reading import read_text

EVERY_S = 0.5  # seconds between two reports of progress


def address(url: str) -> str:
    """Return where a server is asked for items."""
    return f"{url.rstrip('/')}/v1/recommend"


def connections(config: BenchConfig) -> aiohttp.ClientSession:
    """Return a session with as many connections as there are requests on their way."""
    headers = {"Content-Type": "application/json", **_authorization(config.token_file)}
    timeout = aiohttp.ClientTimeout(total=config.timeout_s)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=headers)


class Client:
    """A Client sends bodies in turn."""

    def __init__(self, session: aiohttp.ClientSession, url: str, asked: Sequence[bytes], config: BenchConfig):
        self.session, self.url, self.asked, self.config = session, url, asked, config
        self.random = random.Random(config.seed)
        self.samples: list[Sample] = []
        self._ended = False
        self.places = asyncio.Semaphore(config.max_concurrency) if config.max_concurrency else None

    async def load(self, rate: float, start: float, progress: Progress) -> list[Sample]:
        """Send requests and return samples in the order in which they ended.

        rate: requests a second until `duration_s` after `start`.
        """
        end = start + self.config.duration_s
        watching = asyncio.create_task(self._watch(rate, start, end, progress))
        asking: set[asyncio.Task[None]] = set()
        number = 0
        async for due in self._arrivals(rate, end):
            task = asyncio.create_task(self._ask(self.asked[number % len(self.asked)], due, math.isinf(rate)))
            asking.add(task)
            task.add_done_callback(asking.discard)
            number += 1
        await asyncio.gather(*asking)
        watching.cancel()
        return self.samples

    async def loaded(self, rate: float, start: float, progress: Progress) -> Loaded:
        """Return what `load` does, and how busy this thread was meanwhile."""
        began, worked = time.perf_counter(), time.thread_time()
        samples = await self.load(rate, start, progress)
        busy = (time.thread_time() - worked) / (time.perf_counter() - began)
        return Loaded(samples, start, busy)

    def end(self) -> None:
        """Send no more before the time is over."""
        self._ended = True

    async def _arrivals(self, rate: float, end: float) -> AsyncIterator[float]:
        """Yield when requests are due, each as it is; at an infinite rate, when a place is free (which
        is then taken).
        """
        due = time.perf_counter()
        while True:
            if math.isinf(rate):
                assert self.places is not None
                await self.places.acquire()
                due = time.perf_counter()
            else:
                due += self.random.expovariate(rate)
            if due >= end or self._ended:
                return
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            yield due

    async def _ask(self, body: bytes, due: float, has_place: bool) -> None:
        begun = time.perf_counter()
        if self.places and not has_place:
            await self.places.acquire()
        try:
            outcome, content = await self._post(body)
        finally:
            if self.places:
                self.places.release()
        answered = outcome == "200"
        timings, kind = (timings_of(content), "") if answered else ({}, kind_of(content))
        self.samples.append(Sample(due, begun, time.perf_counter(), outcome, len(content), timings, kind))

    async def _post(self, body: bytes) -> tuple[str, bytes]:
        try:
            async with self.session.post(self.url, data=body) as response:
                return str(response.status), await response.read()
        except TimeoutError:
            return "timeout", b""
        except aiohttp.ClientError as error:
            return type(error).__name__, b""

    async def _watch(self, rate: float, start: float, end: float, progress: Progress) -> None:
        first = time.perf_counter()
        while True:
            answered = sum(sample.outcome == "200" for sample in self.samples)
            what = f"{rate:g}/s: {answered} answered, {len(self.samples) - answered} errors"
            progress(round(min(time.perf_counter(), end) - first), round(end - first), what)
            await asyncio.sleep(EVERY_S)


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


def _authorization(token_file: str | None) -> dict[str, str]:
    if token_file is None:
        return {}
    tokens = read_text(token_file, "token_file").split()
    if not tokens or not tokens[0].isascii() or not tokens[0].isprintable():
        raise InputError("token_file", token_file, "must hold a token of printable ASCII characters")
    return {"Authorization": f"Bearer {tokens[0]}"}
