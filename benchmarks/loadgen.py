"""A judge that others wrote: MLPerf's LoadGen and `octorec bench serve` ask one server by turns, and should agree.

    pip install mlcommons-loadgen
    python -m benchmarks.loadgen --out results/loadgen.jsonl

The server is `octorec serve` with a checkpoint of the demo's size, on a device whose batches all take as long
(`overload_device`), so that two runs differ by the tools alone. LoadGen's Server scenario has Poisson arrivals, as ours
has; its Offline scenario is given all samples at once, of which `--places` are on their way, as with ours at a rate
that is infinite.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.overload_device import command
from benchmarks.overload_load import requests
from benchmarks.overload_model import save_demo_size
from benchmarks.program import run
from benchmarks.rows import LoadToolRow
from benchmarks.rows.serving import Judged
from benchmarks.serve_soak import serving
from benchmarks.wire import Wire
from octorec.errors import InputError

BATCH_S, ROWS = 0.04, 4  # of the device's batches: 100 requests a second
AGREE = 0.05
WARM_UP_S = 5  # of the server, before the first round
PERCENTILES = (50, 90, 99)


class Asked:
    """A server as LoadGen sees it: samples come in on its thread, and are asked over HTTP on another.

    places: requests on their way at most; None: any number.
    """

    def __init__(self, loadgen: Any, port: int, sent: Sequence[bytes], places: int | None):
        self.loadgen, self.port, self.sent = loadgen, port, sent
        self.loop = asyncio.new_event_loop()
        self.places = asyncio.Semaphore(places or 10**6)
        self.wire = Wire(port)
        self.count = self.failed = 0
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def issue(self, samples: Sequence[Any]) -> None:
        for sample in samples:
            asyncio.run_coroutine_threadsafe(self._ask(sample.id, sample.index), self.loop)

    async def _ask(self, number: int, index: int) -> None:
        async with self.places:
            answer = await self.wire.ask(self.sent[index])
        self.count += 1
        self.failed += answer.status != "200"
        self.loadgen.QuerySamplesComplete([self.loadgen.QuerySampleResponse(number, 0, 0)])

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.wire.close)
        self.loop.call_soon_threadsafe(self.loop.stop)


def by_loadgen(port: int, sent: Sequence[bytes], rate: float | None, places: int, seconds: float) -> Judged:
    """One run of LoadGen. rate: of the Server scenario; None: Offline."""
    loadgen = installed()
    asked = Asked(loadgen, port, sent, None if rate else places)
    settings = loadgen.TestSettings()
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.scenario = loadgen.TestScenario.Server if rate else loadgen.TestScenario.Offline
    settings.min_duration_ms = int(seconds * 1e3)
    if rate:
        settings.server_target_qps, settings.server_target_latency_ns = rate, 10**10
        settings.min_query_count = int(rate * seconds)
    else:
        settings.offline_expected_qps, settings.min_query_count = ROWS / BATCH_S, 1
    with tempfile.TemporaryDirectory() as folder:
        logs = loadgen.LogSettings()
        logs.log_output.outdir, logs.log_output.copy_summary_to_stdout = folder, False
        system = loadgen.ConstructSUT(asked.issue, lambda: None)
        library = loadgen.ConstructQSL(len(sent), len(sent), lambda _: None, lambda _: None)
        loadgen.StartTestWithLogSettings(system, library, settings, logs, "")
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
        found = logged(Path(folder, "mlperf_log_detail.txt"))
    asked.end()
    if asked.failed:
        raise InputError("server", f"{asked.failed} requests without an answer", "must answer every request")
    if rate is None:
        return Judged(asked.count, float(found["result_samples_per_second"]), None, None, None)
    latency = [float(found[f"result_{one}.00_percentile_latency_ns"]) / 1e6 for one in PERCENTILES]
    return Judged(asked.count, float(found["result_completed_samples_per_sec"]), *latency)


def logged(path: Path) -> dict[str, Any]:
    """What LoadGen's log says, by key."""
    lines = [line.removeprefix(":::MLLOG ") for line in path.read_text().splitlines() if line.startswith(":::MLLOG ")]
    return {one["key"]: one["value"] for one in map(json.loads, lines)}


async def by_ours(url: str, bodies: Path, rate: float | None, places: int, seconds: float) -> tuple[Judged, float]:
    """One run of `octorec bench serve`, and how busy it was."""
    load = ["--request-rate", f"{rate:g}"] if rate else ["--request-rate", "inf", "--max-concurrency", str(places)]
    flags = [*load, "--duration-s", f"{seconds:g}", "--warm-up-s", "0", "--goodput", "e2el:10000", "--json"]
    line = [sys.executable, "-m", "octorec", "bench", "serve", url, "--requests", str(bodies), *flags]
    tool = await asyncio.create_subprocess_exec(
        *line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    said, _ = await tool.communicate()
    (row,) = json.loads(said)["rows"]
    if "refused" in row or row["errors"]:
        raise InputError("bench serve", row.get("refused", row.get("errors")), "must ask without errors")
    latency = [row["e2el_ms"][f"p{one}"] if rate else None for one in PERCENTILES]
    return Judged(row["answered"], row["requests_per_s"], *latency), row["tool_busy"]


def installed() -> Any:
    try:
        import mlperf_loadgen
    except ModuleNotFoundError:
        raise InputError("mlperf_loadgen", None, "is not installed: pip install mlcommons-loadgen") from None
    return mlperf_loadgen


def median(found: Sequence[Judged]) -> Judged:
    """The median of each figure."""
    return Judged(
        sum(one.requests for one in found),
        round(statistics.median(one.per_s for one in found), 2),
        *(_median([getattr(one, f"p{p}_ms") for one in found]) for p in PERCENTILES),
    )


def _median(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return round(statistics.median(numbers), 2) if numbers else None


def worst(ours: Judged, theirs: Judged) -> float:
    """The largest relative difference of rates and latencies."""
    pairs = [(getattr(ours, name), getattr(theirs, name)) for name in ("per_s", "p50_ms", "p90_ms", "p99_ms")]
    return max(abs(a / b - 1) for a, b in pairs if a is not None and b is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0.6 * ROWS / BATCH_S)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "loadgen.jsonl")
    options = parser.parse_args()
    installed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sent = requests(save_demo_size(folder / "model"))
        bodies = folder / "bodies.jsonl"
        bodies.write_bytes(b"\n".join(one.partition(b"\r\n\r\n")[2] for one in sent))
        with serving(command(sys.executable, str(folder / "model"), seconds=BATCH_S)) as (url, _):
            port = int(url.rpartition(":")[2])
            asyncio.run(by_ours(url, bodies, options.rate, options.places, WARM_UP_S))
            for rate in (options.rate, None):
                ours, theirs, busy = [], [], []
                for _ in range(options.rounds):
                    found, worked = asyncio.run(by_ours(url, bodies, rate, options.places, options.seconds))
                    ours.append(found)
                    busy.append(worked)
                    theirs.append(by_loadgen(port, sent, rate, options.places, options.seconds))
                    print(rate, ours[-1], theirs[-1], flush=True)
                row = row_of(options, rate, median(ours), median(theirs), max(busy))
                records.append(options.out, row)
                print(f"{row.scenario}: {row.worst:.1%} at worst", flush=True)


def row_of(options: argparse.Namespace, rate: float | None, ours: Judged, theirs: Judged, busy: float) -> LoadToolRow:
    far = worst(ours, theirs)
    return LoadToolRow(
        scenario="server" if rate else "offline",
        asked_per_s=rate,
        places=None if rate else options.places,
        batch_s=BATCH_S,
        rounds=options.rounds,
        seconds=options.seconds,
        ours=ours,
        loadgen=theirs,
        worst=round(far, 4),
        agree=far <= AGREE,
        tool_busy=busy,
        load=round(os.getloadavg()[0], 2),
    )


if __name__ == "__main__":
    run(main)
