"""Several processes ask at once: each sends its share of the requests, by arrivals of its own.

Poisson arrivals of several processes are together Poisson arrivals of their sum. Times are time.perf_counter(), which
all processes of a machine share on Linux.
"""

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from octorec.bench.client import Client
from octorec.bench.config import BenchConfig
from octorec.bench.requests import bodies
from octorec.bench.result import Loaded
from octorec.bench.ways import way_of
from octorec.progress import Progress, silent

LEAD_S = 0.1  # seconds between saying when the load begins and its beginning
EVERY_S = 0.2  # seconds between two reports of progress


@asynccontextmanager
async def askers(url: str, config: BenchConfig) -> AsyncIterator["Askers | None"]:
    """Start the processes that ask, and end them with the block; None where this one asks alone."""
    if config.askers == 1:
        yield None
        return
    several = Askers(url, config)
    try:
        await several.ready()
        yield several
    finally:
        several.end()


class Askers:
    """Askers are processes that wait for a load to ask their share of."""

    def __init__(self, url: str, config: BenchConfig):
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes: list[Any] = []
        for number in range(config.askers):
            ours, theirs = context.Pipe()
            self.pipes.append(ours)
            self.processes.append(context.Process(target=ask, args=(theirs, url, config, number), daemon=True))
            self.processes[-1].start()
            theirs.close()

    async def ready(self) -> None:
        """Wait until all of them can ask."""
        for pipe in self.pipes:
            await self._received(pipe)

    async def load(self, config: BenchConfig, rate: float, progress: Progress) -> Loaded:
        """Ask `rate` requests a second in all; return what came of it."""
        count = len(self.pipes)
        start = time.perf_counter() + LEAD_S + config.warm_up_s
        for number, pipe in enumerate(self.pipes):
            places = config.max_concurrency
            own = None if places is None else max(1, places // count + (number < places % count))
            pipe.send((replace(config, max_concurrency=own, seed=config.seed + number), rate / count, start))
        watching = asyncio.create_task(self._watch(config, rate, progress))
        found: list[Loaded] = [await self._received(pipe) for pipe in self.pipes]
        watching.cancel()
        samples = sorted((sample for one in found for sample in one.samples), key=lambda sample: sample.done)
        return Loaded(samples, start, max(one.busy for one in found))

    def end(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(1)
            process.kill()
            process.join()

    async def _received(self, pipe: Connection) -> Any:
        """Return what a process sends, without holding up the loop."""
        while not pipe.poll():
            await asyncio.sleep(EVERY_S / 10)
        return pipe.recv()

    async def _watch(self, config: BenchConfig, rate: float, progress: Progress) -> None:
        first, total = time.perf_counter(), config.warm_up_s + config.duration_s
        while True:
            passed = min(time.perf_counter() - first, total)
            progress(round(passed), round(total), f"{rate:g}/s from {len(self.pipes)} processes")
            await asyncio.sleep(EVERY_S)


def ask(pipe: Connection, url: str, config: BenchConfig, number: int) -> None:
    """Run one process: ask each share that comes, until nobody gives more."""
    asked = way_of(url).asked_of(url, bodies(config), config)
    first = number * len(asked) // config.askers  # each begins elsewhere among the bodies
    asked = [*asked[first:], *asked[:first]]
    pipe.send("ready")
    while True:
        try:
            how, rate, start = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(asyncio.run(_asked(url, asked, how, rate, start)))


async def _asked(url: str, asked: list[bytes], config: BenchConfig, rate: float, start: float) -> Loaded:
    async with way_of(url).over(url, config) as way:
        return await Client(way, asked, config).loaded(rate, start, silent)
