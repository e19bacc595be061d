"""What a server is like after minutes: its memory, and how it comes out of an overload."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from benchmarks.rows import SoakRow
from benchmarks.serve_memory import FLAT_MB, failed, gained_mb
from benchmarks.serve_soak import capacity, run, serving, soak
from octorec.bench.client import Client
from octorec.bench.config import BenchConfig
from octorec.bench.over_http import OverHttp, address, connections
from octorec.bench.requests import bodies
from octorec.bench.result import Sample, quantiles
from tests.serve.served import WORKER_FLAGS, make_catalog, save_checkpoint

pytestmark = pytest.mark.slow
LEAK = """
import sys
import octorec.serve.recommend as recommend
kept, encode = [], recommend.encode_answer
def leaky(*arguments):
    kept.append(b"x" * (600_000 + len(kept)))
    return encode(*arguments)
recommend.encode_answer = leaky
from octorec.cli.app import main
main()
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model", make_catalog())
    return tmp_path / "model"


def command(checkpoint: Path, *flags: str, before: tuple[str, ...] = ("-m", "octorec")) -> list[str]:
    widths = ("--beam-widths", "128", "--default-beam-width", "128")
    return [
        sys.executable,
        *before,
        "serve",
        str(checkpoint),
        "--port",
        "0",
        "--no-log-requests",
        *WORKER_FLAGS,
        *widths,
        *flags,
    ]


def test_memory_is_flat_for_two_minutes(checkpoint: Path) -> None:
    rows: list[SoakRow] = []
    with serving(command(checkpoint, "--batch-sizes", "1,8")) as (url, pid):
        asyncio.run(run(url, pid, checkpoint, "cpu", 120, 10, rows.append))
    answered, last = sum(row.answered for row in rows), rows[-1].rss_mb
    said = f"{answered} answers, {failed(rows, shed=True)} shed, {failed(rows)} failed"
    print(f"{said}, {gained_mb(rows):+.1f} MB after settling, {last} MB at last")
    assert gained_mb(rows) < FLAT_MB
    assert failed(rows) == 0
    assert answered > 1000


def test_a_planted_leak_is_caught(checkpoint: Path) -> None:
    rows: list[SoakRow] = []

    async def test(url: str, pid: int) -> None:
        config = BenchConfig(catalog=str(checkpoint / "catalog"), duration_s=12)
        async for row in soak(url, pid, 25, 1, config, checkpoint.name, "cpu"):
            rows.append(row)

    with serving(command(checkpoint, "--batch-sizes", "1,8", before=("-c", LEAK))) as (url, pid):
        asyncio.run(test(url, pid))
    print(f"{sum(row.answered for row in rows)} answers, {gained_mb(rows):+.1f} MB")
    assert gained_mb(rows) > FLAT_MB


def test_an_overload_is_shed_and_forgotten(checkpoint: Path) -> None:
    """Half of the capacity, then three times of it, then half again; the bound of the served is their deadline."""
    catalog, deadline_ms = str(checkpoint / "catalog"), 1000.0
    flags = ("--batch-sizes", "4", "--max-queued-requests", "32", "--default-deadline-ms", str(deadline_ms))

    async def load(url: str, rate: float, seconds: float) -> list[Sample]:
        config = BenchConfig(catalog=catalog, duration_s=seconds)
        async with connections(config) as session:
            client = Client(OverHttp(session, address(url)), bodies(config), config)
            return await client.load(rate, time.perf_counter(), lambda *_: None)

    async def test(url: str) -> None:
        most = await capacity(url, catalog, 4, at_once=24)
        calm = await load(url, most / 2, 6)
        storm = await load(url, 3 * most, 8)
        after = await load(url, most / 2, 12)
        served = quantiles(sample.ms for sample in storm if sample.outcome == "200")
        n = sum(sample.outcome == "200" for sample in storm)
        before = quantiles(sample.ms for sample in calm)
        end = max(sample.due for sample in after)
        normal = [sample for sample in after if sample.due > end - 7]  # from 5 s after the overload
        again = quantiles(sample.ms for sample in normal)
        print(f"capacity {most:.0f}/s; calm {before}; of {len(storm)} in 8 s at 3x {n} served, {served}; after {again}")
        assert {sample.outcome for sample in storm} <= {"200", "503", "504"}
        assert len(storm) > 1.5 * n  # it was an overload
        assert n > 0.5 * most * 8  # shedding leaves the device to the served
        inside = quantiles(sample.timings["total_ms"] for sample in storm if sample.timings)
        assert inside["p99"] <= deadline_ms
        assert served["p99"] <= 1.5 * deadline_ms  # the tool, which sends three times what is served, shares the cores
        assert {sample.outcome for sample in normal} == {"200"}
        assert again["p99"] < 2 * before["p99"] + 100

    with serving(command(checkpoint, *flags)) as (url, _):
        asyncio.run(test(url))
