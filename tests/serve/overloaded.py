"""Overloads of a server whose batches take as long whatever else runs here, for CI and for `make test-long`."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.overload_device import RATE, command
from benchmarks.overload_load import capacity, goodput, polite_share, requests
from benchmarks.serve_soak import serving

ITEMS = [f"i{number}" for number in range(90)]
CAPACITY_S = 2.0  # that the capacity is measured for


@contextmanager
def timed(checkpoint: Path, *flags: str) -> Iterator[int]:
    """The port of such a server."""
    with serving(command(sys.executable, str(checkpoint), "--drain-timeout-s", "0.5", *flags)) as (url, _):
        yield int(url.rpartition(":")[2])


def require(wanted: float, measure: Callable[[], float]) -> None:
    """Assert that a share is as large as is wanted; where the machine was busy, of a second measurement."""
    found = measure()
    if found < wanted:
        print(f"{found:.0%} of the wanted {wanted:.0%}: once more")
        found = measure()
    assert found >= wanted


def in_time(port: int, times: float, deadline_s: float, seconds: float) -> float:
    """Return the share of the capacity that is answered in time at `times` of it."""

    async def measure() -> float:
        most = await _capacity(port)
        sent = requests(ITEMS, deadline_ms=deadline_s * 1e3)
        found = await goodput(port, sent, times * most, seconds, deadline_s + 1)
        print(f"{times:g}x, {deadline_s:g} s: {found.good / most:.0%} of {most:.1f}/s, {found}")
        assert set(found.statuses) <= {"200", "503", "504"}
        return found.good / most

    return asyncio.run(measure())


def of_a_polite_client(port: int, seconds: float) -> float:
    """Return the share of a polite client's requests that are answered beside eight connections of lists."""

    async def measure() -> float:
        most = await _capacity(port)
        answered, sent = await polite_share(port, ITEMS, seconds, most / 4)
        print(f"{answered} of {sent} answered")
        return answered / sent

    return asyncio.run(measure())


def beside_large_bodies(port: int, seconds: float) -> float:
    """Return the share of the capacity that is answered at ten times of it, where 30 % of the bodies have 45 KB."""

    async def measure() -> float:
        small, large = requests(ITEMS), requests(ITEMS, length=10_000)
        assert len(large[0]) > 45_000
        mixed = [large[number] if number % 10 < 3 else small[number] for number in range(len(small))]
        most = await _capacity(port)
        found = await goodput(port, mixed, 10 * most, seconds, 60)
        print(f"{found.good / most:.0%} of {most:.1f}/s, {found}")
        assert set(found.statuses) <= {"200", "503"}
        return found.good / most

    return asyncio.run(measure())


async def _capacity(port: int) -> float:
    most = await capacity(port, requests(ITEMS), CAPACITY_S, at_once=16)
    assert most < 1.1 * RATE
    return most
