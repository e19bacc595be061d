"""Several processes ask; what a server can do is found first; a tool that is itself too slow gives no figures."""

import asyncio
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.overload_device import RATE, command
from benchmarks.overload_model import save_demo_size
from benchmarks.serve_soak import serving
from octorec.bench.capacity import capacity, shares_of
from octorec.bench.client import Client, Reply
from octorec.bench.config import BenchConfig
from octorec.bench.result import Loaded, Sample, bottleneck, row_of
from octorec.errors import InputError
from octorec.progress import silent
from octorec.report.bench import draw, render

CONFIG = BenchConfig(requests="r", search_s=10.0, processes=2)


def loaded(per_s: float, seconds: float, busy: float = 0.1, late_s: float = 0.0, outcome: str = "200") -> Loaded:
    """Answers at even times."""
    due = [number / per_s for number in range(int(per_s * seconds))]
    return Loaded([Sample(at, at + late_s, at + late_s + 0.01, outcome, 100, {}) for at in due], 0.0, busy)


def found(most: float, busy: float = 0.1, outcome: str = "200") -> tuple[float, list[int]]:
    """What is found of a server that answers 10 a second for each place, at most `most`, and the places tried."""
    tried = []

    async def load(config: BenchConfig, rate: float) -> Loaded:
        assert config.max_concurrency
        assert math.isinf(rate)
        tried.append(config.max_concurrency)
        return loaded(min(most, 10.0 * config.max_concurrency), config.duration_s, busy, outcome=outcome)

    return asyncio.run(capacity(load, "u", CONFIG)), tried


def test_places_are_doubled_until_more_bring_nothing() -> None:
    most, tried = found(250)
    assert most == pytest.approx(250, rel=0.01)
    assert tried == [8, 16, 32, 64, 32]
    assert shares_of(123.456) == [61.7, 86.4, 98.8, 111.0, 123.0, 136.0]


def test_nothing_is_said_of_a_server_that_answers_nothing_or_a_tool_that_is_too_slow() -> None:
    with pytest.raises(InputError, match="url: got 'u'; answered nothing"):
        found(250, outcome="503")
    with pytest.raises(InputError, match="processes: got 2; the load tool itself was the bottleneck"):
        found(250, busy=0.95)


def test_a_rate_at_which_the_tool_was_too_slow_has_no_figures() -> None:
    fine = row_of(loaded(40, 5), 40, CONFIG)
    assert fine["answered"] == 200
    assert bottleneck(loaded(40, 5, busy=0.89, late_s=0.03), CONFIG) is None
    busy, late = (row_of(one, 40, CONFIG) for one in (loaded(40, 5, busy=0.91), loaded(40, 5, late_s=0.04)))
    assert "91% of a core" in busy["refused"]
    assert "40 ms late" in late["refused"]
    for row in (busy, late):
        assert not {"e2el_ms", "goodput_per_s", "requests_per_s"} & set(row)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render([fine, busy]), render([late]))
    assert capture.get().count("refused: 40 requests/s: ") == 2
    assert draw([fine, busy]).startswith("<svg")


class Idle:
    """A way that nothing is sent over. Its clock says that a tenth of a second was computed at each look."""

    rows = 1

    def __init__(self) -> None:
        self.worked = 0.0

    def clock(self) -> float:
        self.worked += 0.1
        return self.worked

    async def send(self, body: bytes) -> Reply:
        raise AssertionError("nothing is due")


def test_a_client_with_nothing_to_send_is_not_busy() -> None:
    config = BenchConfig(requests="r", duration_s=10.0)
    client = Client(Idle(), [], config)
    found = asyncio.run(client.loaded(1e-9, time.perf_counter(), silent))
    assert found.samples == []
    assert found.busy == pytest.approx(0.01, rel=0.1)  # of the ten seconds, though it came back at once


@pytest.mark.slow
def test_two_processes_find_what_a_server_can_do(tmp_path: Path) -> None:
    save_demo_size(tmp_path / "model")
    flags = [
        "--processes",
        "2",
        "--search-s",
        "3",
        "--warm-up-s",
        "0.5",
        "--duration-s",
        "1",
        "--goodput",
        "e2el:5000",
        "--json",
    ]
    tool = [sys.executable, "-m", "octorec", "bench", "serve"]
    with serving(command(sys.executable, str(tmp_path / "model"))) as (url, _):
        line = [*tool, url, "--catalog", str(tmp_path / "model/catalog"), *flags]
        done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=300)
    rows = json.loads(done.stdout)["rows"]
    assert rows[0]["capacity_per_s"] == pytest.approx(RATE, rel=0.2)
    assert [row["request_rate"] for row in rows] == shares_of(rows[0]["capacity_per_s"])
    assert all(row["processes"] == 2 and row["answered"] == row["requests"] > 0 for row in rows)
    assert len({row["tool_busy"] for row in rows}) > 1
