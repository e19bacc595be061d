"""What an overload leaves of a server, measured: answers in time, a polite client's share, refusals that arrive."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import orjson

from benchmarks.wire import Wire, counted, request

POLITE, GREEDY = "127.0.0.2", "127.0.0.3"  # two clients by their addresses


def requests(items: Sequence[str], n: int = 256, length: int = 50, **more: Any) -> list[bytes]:
    """Return `n` requests with histories of `length` items, as they go over the wire."""
    return [request(orjson.dumps({"history": _history(items, at, length), **more})) for at in range(n)]


def lists(items: Sequence[str], n: int = 16, size: int = 64) -> list[bytes]:
    """Return `n` bodies of `size` requests each."""
    return [
        request(orjson.dumps([{"history": _history(items, at * size + one, 50)} for one in range(size)]))
        for at in range(n)
    ]


def _history(items: Sequence[str], at: int, length: int) -> list[str]:
    return [items[(at * 7 + step * 13) % len(items)] for step in range(length)]


@dataclass(frozen=True)
class Goodput:
    """A Goodput is what came of a load. Rates are a second. client_cores: processor seconds of the client a second."""

    asked: float
    good: float
    statuses: dict[str, int]
    client_cores: float


async def goodput(port: int, sent: Sequence[bytes], rate: float, seconds: float, within_s: float) -> Goodput:
    """Ask `rate` a second for `seconds`; good are answers within them, and within `within_s` of when they were due."""
    wire, processor, start = Wire(port), time.process_time(), time.perf_counter()
    answers = await wire.load(sent, rate, seconds)
    cores = (time.process_time() - processor) / (time.perf_counter() - start)
    wire.close()
    in_time = [one for one in answers if one.seconds <= within_s and one.at <= start + seconds]
    good = sum(answer.status == "200" for answer in in_time) / seconds
    return Goodput(len(answers) / seconds, good, counted(answers), cores)


async def capacity(port: int, sent: Sequence[bytes], seconds: float, at_once: int = 64) -> float:
    """Return the answers a second while `at_once` requests are always on their way."""
    wire = Wire(port)
    await wire.flood(sent, at_once, seconds / 4)
    start = time.perf_counter()
    answers = await wire.flood(sent, at_once, seconds)
    wire.close()
    return sum(answer.status == "200" for answer in answers) / (time.perf_counter() - start)


async def polite_share(
    port: int, items: Sequence[str], seconds: float, rate: float, deadline_ms: float | None = None
) -> tuple[int, int]:
    """Return how many requests of a polite client were answered, and how many it sent, beside eight greedy ones."""
    polite, loop = Wire(port, POLITE), asyncio.get_running_loop()
    more: dict[str, Any] = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
    with ProcessPoolExecutor(1, get_context("spawn")) as other:  # so that the polite one never waits for the greedy
        await loop.run_in_executor(other, os.getpid)  # it has started
        flooding = loop.run_in_executor(other, _flood, port, lists(items), seconds + 1)
        await asyncio.sleep(1)
        answers = await polite.load(requests(items, **more), rate, seconds)
        await flooding
    polite.close()
    return sum(answer.status == "200" for answer in answers), len(answers)


def _flood(port: int, sent: Sequence[bytes], seconds: float) -> dict[str, int]:
    """Keep eight requests of a greedy client on their way; return the answers by status."""

    async def flood() -> dict[str, int]:
        wire = Wire(port, GREEDY)
        answers = await wire.flood(sent, 8, seconds)
        wire.close()
        return counted(answers)

    return asyncio.run(flood())
