"""What an overload leaves: answers in time, a polite client's share, and refusals that are cheap and arrive."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from served import make_catalog, save_checkpoint

from benchmarks.overload_device import RATE, command
from benchmarks.overload_load import capacity, goodput, polite_share, requests
from benchmarks.serve_soak import serving

pytestmark = pytest.mark.slow
ITEMS = [f"i{number}" for number in range(90)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overload") / "model"
    save_checkpoint(folder, make_catalog())
    return folder


@contextmanager
def timed(checkpoint: Path, *flags: str) -> Iterator[int]:
    """The port of a server whose batches take as long whatever else runs here."""
    with serving(command(sys.executable, str(checkpoint), "--drain-timeout-s", "0.5", *flags)) as (url, _):
        yield int(url.rpartition(":")[2])


def test_deadlines_are_kept_at_twice_and_ten_times_the_capacity(checkpoint: Path) -> None:
    async def test(port: int) -> None:
        most = await capacity(port, requests(ITEMS), 3, at_once=16)
        assert 0.6 * RATE < most < 1.1 * RATE
        for times, deadline_s, share in ((2, 0.5, 0.9), (2, 1.0, 0.9), (2, 3.0, 0.9), (10, 1.0, 0.8)):
            sent = requests(ITEMS, deadline_ms=deadline_s * 1e3)
            found = await goodput(port, sent, times * most, 5, deadline_s + 1)
            print(f"{times}x, {deadline_s:g} s: {found.good / most:.0%} of {most:.1f}/s, {found}")
            assert found.good > share * most
            assert set(found.statuses) <= {"200", "503", "504"}

    with timed(checkpoint) as port:
        asyncio.run(test(port))


def test_a_polite_client_keeps_its_answers_beside_eight_connections_of_lists(checkpoint: Path) -> None:
    async def test(port: int) -> None:
        answered, sent = await polite_share(port, ITEMS, 6, RATE / 4)
        print(f"{answered} of {sent} answered")
        assert answered >= 0.95 * sent

    with timed(checkpoint) as port:
        asyncio.run(test(port))


def test_large_bodies_that_are_refused_cost_little(checkpoint: Path) -> None:
    async def test(port: int) -> None:
        small, large = requests(ITEMS), requests(ITEMS, length=10_000)
        assert len(large[0]) > 45_000
        mixed = [large[number] if number % 10 < 3 else small[number] for number in range(len(small))]
        most = await capacity(port, small, 3, at_once=16)
        found = await goodput(port, mixed, 10 * most, 6, 60)
        print(f"{found.good / most:.0%} of {most:.1f}/s, {found}")
        assert found.good > 0.8 * most
        assert set(found.statuses) <= {"200", "503"}

    with timed(checkpoint) as port:
        asyncio.run(test(port))
