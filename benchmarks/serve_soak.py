"""A server's memory over time: half an hour at 80 % of what it can do.

    python -m benchmarks.serve_soak runs/demo/fp8 --out results/serve_soak.jsonl

Starts `octorec serve`, finds its capacity, then asks at 80 % of it (Poisson). A row every 10 seconds: resident memory,
latency, errors. Ends with 1 where the memory is not flat or a request failed (other than 503, shed by a full queue).
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks import program, records
from benchmarks.rows import SoakRow
from benchmarks.rows.serving import Quantiles
from benchmarks.serve_memory import FLAT_MB, failed, gained_mb
from octorec.bench.client import Client
from octorec.bench.config import BenchConfig
from octorec.bench.over_http import OverHttp, address, connections
from octorec.bench.requests import bodies
from octorec.bench.result import quantiles
from octorec.bench.run import bench
from octorec.kernels.device import open_device

SHARE = 0.8


def resident_mb(process: psutil.Process) -> float:
    """Resident memory of a process and of those that it started, 10^6 bytes; what they share counts in each."""
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 1e6


@contextmanager
def serving(command: Sequence[str], ready_s: float = math.inf) -> Iterator[tuple[str, int]]:
    """URL and process id of a server that is ready; `command` logs as `octorec serve` does.

    Raises TimeoutError where it is not ready after `ready_s` seconds.
    """
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            end = time.monotonic() + ready_s
            port = _logged(log.name, process, "listening", end)["port"]
            _logged(log.name, process, "ready", end)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
            process.wait(60)


def _logged(path: str, process: subprocess.Popen, message: str, end: float) -> dict[str, Any]:
    while process.poll() is None:
        if time.monotonic() > end:
            raise TimeoutError(f"the server is not ready in time: {Path(path).read_text()[-500:]}")
        for line in Path(path).read_text().splitlines():
            if line.startswith("{") and json.loads(line)["message"] == message:
                return json.loads(line)
        time.sleep(0.1)
    raise RuntimeError(f"the server ended: {Path(path).read_text()[-500:]}")


async def capacity(url: str, catalog: str, seconds: float, at_once: int = 64) -> float:
    """Requests a second that the server answers while `at_once` are always on their way; its queue must hold them."""
    config = BenchConfig((float("inf"),), seconds, max_concurrency=at_once, catalog=catalog)
    (row,) = await bench(url, config, lambda *_: None)
    assert not row["errors"], row["errors"]
    return row["requests_per_s"]


async def soak(
    url: str, pid: int, rate: float, every_s: float, config: BenchConfig, checkpoint: str, device: str
) -> AsyncIterator[SoakRow]:
    """A row every `every_s` seconds of a load of `config.duration_s` at `rate` requests a second.

    checkpoint, device: the server's, for the rows.
    """
    process, start, seen = psutil.Process(pid), time.perf_counter(), 0
    async with connections(config) as session:
        client = Client(OverHttp(session, address(url)), bodies(config), config)
        loading = asyncio.create_task(client.load(rate, start, lambda *_: None))
        while not loading.done():
            await asyncio.wait({loading}, timeout=every_s)
            part, seen = client.samples[seen:], len(client.samples)
            answered = [sample for sample in part if sample.outcome == "200"]
            yield SoakRow(
                checkpoint=checkpoint,
                device=device,
                at_s=round(time.perf_counter() - start, 1),
                rss_mb=round(resident_mb(process), 1),
                rate=round(rate, 2),
                answered=len(answered),
                errors=dict(Counter(sample.outcome for sample in part if sample.outcome != "200")),
                e2el_ms=Quantiles(**quantiles(sample.ms for sample in answered)) if answered else None,
            )
        await loading


async def run(
    url: str, pid: int, checkpoint: Path, device: str, seconds: float, every_s: float, keep: Callable[[SoakRow], None]
) -> None:
    """Find the server's capacity, ask for SHARE of it, and hand on a row every `every_s` seconds."""
    catalog = str(checkpoint / "catalog")
    rate = SHARE * await capacity(url, catalog, min(10.0, seconds / 10))
    config = BenchConfig(catalog=catalog, duration_s=seconds)
    async for row in soak(url, pid, rate, every_s, config, checkpoint.name, device):
        keep(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds a row")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "serve_soak.jsonl")
    options = parser.parse_args()
    open_device(options.device)
    rows: list[SoakRow] = []

    def keep(row: SoakRow) -> None:
        rows.append(row)
        records.append(options.out, row)
        print(f"{row.at_s} s: {row.rss_mb} MB, {row.answered} answered, errors {row.errors}", flush=True)

    command = [sys.executable, "-m", "octorec", "serve", str(options.checkpoint), "--device", options.device]
    with serving([*command, "--port", "0", "--no-log-requests"]) as (url, pid):
        asyncio.run(run(url, pid, options.checkpoint, options.device, options.seconds, options.every, keep))
    gained, errors = gained_mb(rows), failed(rows)
    said = f"{gained:+.0f} MB after settling (at most {FLAT_MB:.0f}), {failed(rows, shed=True)} shed, {errors} failed"
    print(f"{len(rows)} rows, {said}")
    sys.exit(gained > FLAT_MB or errors > 0)


if __name__ == "__main__":
    program.run(main)
