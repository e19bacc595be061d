"""What the server's limits cost at normal load: this code and a tree without them, by turns.

    python -m benchmarks.overload_cost --without ../older/src

Two servers of the demo's size run side by side, and one is asked at a time, one request after the other; which comes
first in a round is drawn. A row a round and side.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks import program, records
from benchmarks.overload_load import requests
from benchmarks.overload_model import save_demo_size
from benchmarks.rows import LimitsCostRow
from benchmarks.serve_soak import serving
from benchmarks.wire import Wire

WIDTHS = ("--beam-widths", "32", "--default-beam-width", "32")
AT_MOST = 1.02  # times the median without the limits


async def asked(port: int, pid: int, sent: Sequence[bytes], seconds: float) -> tuple[float, float, int]:
    """Return the median milliseconds of a request, the server's processor milliseconds of each, and their number."""
    wire, process = Wire(port), psutil.Process(pid)
    before, end = sum(process.cpu_times()[:2]), time.perf_counter() + seconds
    times: list[float] = []
    while time.perf_counter() < end:
        answer = await wire.ask(sent[len(times) % len(sent)])
        assert answer.status == "200", answer
        times.append(answer.seconds * 1e3)
    wire.close()
    spent = (sum(process.cpu_times()[:2]) - before) * 1e3
    return statistics.median(times), spent / len(times), len(times)


def run(without: Path, rounds: int, seconds: float, out: Path) -> float:
    """Run the rounds; return the median of their quotients, with the limits over without them."""
    chance, quotients = random.Random(0), []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sent = requests(save_demo_size(Path(folder) / "model"))
        servers = {}
        for side, source in (("without", without), ("with", Path("src"))):
            os.environ["PYTHONPATH"] = str(source.resolve())
            line = [sys.executable, "-m", "octorec", "serve", str(Path(folder) / "model"), "--port", "0"]
            url, pid = stack.enter_context(serving([*line, "--no-log-requests", *WIDTHS]))
            servers[side] = int(url.rpartition(":")[2]), pid
            asyncio.run(asked(*servers[side], sent, 2))
        for number in range(rounds):
            found = {}
            for side in chance.sample(sorted(servers), 2):
                ms, spent_ms, n = asyncio.run(asked(*servers[side], sent, seconds))
                load = round(os.getloadavg()[0], 1)
                records.append(out, LimitsCostRow(number, side, round(ms, 3), round(spent_ms, 3), n, load))
                found[side] = ms
            quotients.append(found["with"] / found["without"])
            print(f"round {number}: {found}, quotient {quotients[-1]:.3f}", flush=True)
    return statistics.median(quotients)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", type=Path, required=True, help="the code of a server without the limits")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "overload.jsonl")
    options = parser.parse_args()
    quotient = run(options.without, options.rounds, options.seconds, options.out)
    print(f"median of {options.rounds} quotients: {quotient:.3f}, at most {AT_MOST}")
    sys.exit(quotient > AT_MOST)


if __name__ == "__main__":
    program.run(main)
