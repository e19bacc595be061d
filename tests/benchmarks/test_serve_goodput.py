"""The best rate within a bound is found and holds; a made-up row as the page shows it; the whole program on a CPU."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import goodput_report, records
from benchmarks.goodput_search import SHARES, Best, Look, search
from benchmarks.rows import FILES, FloodRow, GoodputRow, OverheadRow
from benchmarks.rows.serving import Quantiles
from octorec.bench.config import BenchConfig
from octorec.bench.result import Loaded, Sample
from tests.made_rows import made
from tests.serve.served import make_catalog, save_checkpoint

OFFLINE = 1000.0
CONFIG = BenchConfig(requests="r", request_rate=(1.0,), duration_s=4.0, processes=2)


class Server:
    """A server whose latency is 50 ms below a rate, and 120 ms below another; it is infinite above them."""

    def __init__(self, fast: float, slow: float, lucky: float = 0.0):
        self.fast, self.slow, self.lucky = fast, slow, lucky
        self.asked: list[tuple[float, float]] = []

    async def ask(self, how: BenchConfig, rate: float) -> Look:
        self.asked.append((rate, how.duration_s))
        short = how.duration_s == CONFIG.duration_s
        fast = self.fast + (self.lucky if short else 0)
        seconds = 0.05 if rate <= fast else 0.12 if rate <= self.slow else 9.0
        due = [number / rate for number in range(int(rate * how.duration_s))]
        return Look(Loaded([Sample(at, at, at + seconds, "200", 100, {}) for at in due], 0.0, 0.1), 1.5)


def found(server: Server, *bounds: float) -> dict[float, Best]:
    return dict(asyncio.run(search(server.ask, OFFLINE, CONFIG, bounds)))


def test_the_highest_rate_in_time_is_found_for_each_bound_by_few_looks() -> None:
    server = Server(fast=610, slow=930)
    best = found(server, 150.0, 100.0)
    assert {bound: one.rate for bound, one in best.items()} == {150.0: 925.0, 100.0: 600.0}
    assert all(one.row["within"] and one.server_cores == 1.5 for one in best.values())
    assert len(server.asked) <= 12
    assert [rate for rate, seconds in server.asked if seconds == 8.0] == [925.0, 600.0]


def test_a_rate_that_was_lucky_once_gives_way_to_a_lower_one() -> None:
    best = found(Server(fast=580, slow=580, lucky=30), 100.0)[100.0]
    assert best.rate == 575.0
    assert best.row["within"]


def test_where_nothing_is_in_time_the_lowest_rate_is_reported_as_it_is() -> None:
    best = found(Server(fast=1, slow=1), 100.0)[100.0]
    assert best.rate == SHARES[0] * OFFLINE
    assert not best.row["within"]


TIMES = Quantiles(mean=50.0, p50=48.4, p90=70.0, p99=99.0, max=120.0)
SHOWN = {
    "checkpoint": "big", "device": "cuda", "bound_ms": 100.0, "offline_per_s": 4000.0, "server_cores": 6.5,
    "http_workers": 5, "k": 10, "beam_width": 64, "over": "http",
}  # fmt: skip
HELD = {"within": True, "goodput_per_s": 3000.0, "share": 0.75, "e2el_ms": TIMES, "queue_ms": TIMES, "device_ms": TIMES}


def test_rows_are_shown_with_what_was_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    over_grpc = {**SHOWN, "beam_width": (128, 256, 512), "over": "grpc", "rows_per_call": 8}
    rows = [
        made(GoodputRow, part="k10", **SHOWN, **HELD),
        made(GoodputRow, part="k512", **SHOWN, refused="the load tool itself was the bottleneck"),
        made(GoodputRow, part="schedule", **over_grpc),
    ]
    monkeypatch.setattr(goodput_report, "recorded", lambda _, kind: rows if kind is GoodputRow else [])
    text = goodput_report.goodput()
    assert (
        "| big on cuda | 10, 64 | HTTP, workers: 5 | 100 ms | 3,000 | 75% of 4,000 | 48 / 99 | 48.4 / 48.4 | 6.5 |"
        in text
    )
    assert "| the tool was too slow | of 4,000 |" in text
    assert "| 10, 128-256-512 | gRPC, 8 a call | 100 ms | none | of 4,000 |" in text


@pytest.mark.slow
def test_the_program_runs_to_its_end_on_a_cpu(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", make_catalog())
    flags = {
        "checkpoint": tmp_path / "model", "rows": "overhead,k10,schedule,flood", "history": 5, "k": 4, "narrow": 8,
        "wide": 32, "schedule": "4-8-32", "bounds": "60000,60000", "batch-sizes": "1,8", "max-rows": 256,
        "http-workers": 1, "seconds": 0.3, "warm-up-s": 0.1, "runs": 2, "pairs": 6, "rows-per-call": 2, "times": 3,
        "flood-s": 1, "part-s": 400, "most-s": 1000, "out": tmp_path / "rows.jsonl",
    }  # fmt: skip
    line = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    program = [sys.executable, "-m", "benchmarks.serve_goodput", *line]
    done = subprocess.run(program, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = records.read(tmp_path / "rows.jsonl", *FILES[goodput_report.FILE])
    assert [type(row) for row in rows] == [OverheadRow, GoodputRow, GoodputRow, FloodRow]
    by_part = {row.part: row for row in rows if isinstance(row, GoodputRow)}
    assert (by_part["k10"].over, by_part["k10"].http_workers) == ("http", 1)
    assert (by_part["schedule"].over, by_part["schedule"].rows_per_call) == ("grpc", 2)
    assert all(row.offline_per_s > 0 and row.server_cores > 0 for row in by_part.values())
    assert all(json.loads(text)["format"] for text in (tmp_path / "rows.jsonl").read_text().splitlines())
