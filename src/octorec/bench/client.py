"""A client sends requests when they are due (open loop, Poisson), whether the server keeps up or not.

A client that waits for one answer before it asks again slows down with the server and hides its worst latencies
("coordinated omission"). Here a request's time begins when it is due.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from octorec.bench.config import BenchConfig
from octorec.bench.result import ANSWERED, Loaded, Sample
from octorec.progress import Progress

EVERY_S = 0.5  # seconds between two reports of progress


@dataclass(frozen=True, slots=True)
class Reply:
    """A Reply is what came of one call. kind: the type of a refusal, as our server names it. timings: of an answer."""

    outcome: str
    size: int = 0
    kind: str = ""
    timings: dict[str, float] = field(default_factory=dict)


class Way(Protocol):
    """A Way brings a call to the server.

    rows: requests that a call holds. clock: of the processor's time that asking takes.
    """

    rows: int
    clock: Callable[[], float]

    async def send(self, body: bytes) -> Reply: ...


class Client:
    """A Client sends bodies in turn."""

    def __init__(self, way: Way, asked: Sequence[bytes], config: BenchConfig):
        self.way, self.asked, self.config = way, asked, config
        self.random = random.Random(config.seed)
        self.samples: list[Sample] = []
        self._ended = False
        self.places = asyncio.Semaphore(config.max_concurrency) if config.max_concurrency else None

    async def load(self, rate: float, start: float, progress: Progress) -> list[Sample]:
        """Send requests and return samples in the order in which they ended, one a request, also where a call holds
        several.

        rate: requests a second until `duration_s` after `start`.
        """
        end = start + self.config.duration_s
        watching = asyncio.create_task(self._watch(rate, start, end, progress))
        asking: set[asyncio.Task[None]] = set()
        number = 0
        async for due in self._arrivals(rate / self.way.rows, end):
            task = asyncio.create_task(self._ask(self.asked[number % len(self.asked)], due, math.isinf(rate)))
            asking.add(task)
            task.add_done_callback(asking.discard)
            number += 1
        await asyncio.gather(*asking)
        watching.cancel()
        return self.samples

    async def loaded(self, rate: float, start: float, progress: Progress) -> Loaded:
        """Return what `load` does, and how busy this client was meanwhile."""
        began, worked = time.perf_counter(), self.way.clock()
        samples = await self.load(rate, start, progress)
        ended = max(time.perf_counter(), start + self.config.duration_s)  # at a low rate the last request is early
        busy = (self.way.clock() - worked) / (ended - began)
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
            reply = await self.way.send(body)
        finally:
            if self.places:
                self.places.release()
        done = time.perf_counter()
        sample = Sample(due, begun, done, reply.outcome, reply.size // self.way.rows, reply.timings, reply.kind)
        self.samples += [sample] * self.way.rows

    async def _watch(self, rate: float, start: float, end: float, progress: Progress) -> None:
        first = time.perf_counter()
        while True:
            answered = sum(sample.outcome == ANSWERED for sample in self.samples)
            what = f"{rate:g}/s: {answered} answered, {len(self.samples) - answered} errors"
            progress(round(min(time.perf_counter(), end) - first), round(end - first), what)
            await asyncio.sleep(EVERY_S)
