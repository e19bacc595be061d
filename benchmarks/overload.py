"""What an overload leaves of a server, on a device whose batches all take as long, of this code or of another tree.

    python -m benchmarks.overload --side before --source ../older/src
    python -m benchmarks.overload --checkpoint runs/demo/fp8    # whose batches take what they take

Deadlines at twice and ten times the capacity, a polite client beside eight connections of lists, and bodies of 45 KB
among small ones. Each figure is a share of the capacity that the same server had just before. A row each.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import program, records
from benchmarks.overload_device import command
from benchmarks.overload_load import Goodput, capacity, goodput, polite_share, requests
from benchmarks.overload_model import save_demo_size
from benchmarks.rows import OverloadRow
from benchmarks.serve_soak import serving
from octorec.catalog.catalog import Catalog

SECONDS = 8.0
LOADS = ((2, 0.5), (2, 1.0), (2, 3.0), (10, 1.0))  # times the capacity, deadline in seconds


async def run(port: int, items: Sequence[str], side: str, checkpoint: str, keep: Callable[[OverloadRow], None]) -> None:
    """Run every overload, and hand on a row of each."""
    most = await capacity(port, requests(items), 4, at_once=16)

    def measured(attack: str, figure: str, value: float, found: Goodput | None = None) -> None:
        found = found or Goodput(0, 0, {}, 0)
        row = OverloadRow(
            side=side,
            attack=attack,
            figure=figure,
            value=round(value, 3),
            capacity_per_s=round(most, 1),
            asked_per_s=round(found.asked, 1),
            client_cores=round(found.client_cores, 3),
            statuses=found.statuses,
            cores=os.cpu_count() or 1,
            load=round(os.getloadavg()[0], 1),
            checkpoint=checkpoint,
        )
        keep(row)

    for times, deadline_s in LOADS:
        sent = requests(items, deadline_ms=deadline_s * 1e3)
        found = await goodput(port, sent, times * most, SECONDS, deadline_s + 1)
        measured(
            f"{times} times the capacity, deadline {deadline_s:g} s", "goodput over capacity", found.good / most, found
        )
        await asyncio.sleep(deadline_s)
    small, large = requests(items), requests(items, length=6500)
    mixed = [large[number] if number % 10 < 3 else small[number] for number in range(len(small))]
    found = await goodput(port, mixed, 10 * most, SECONDS, 60)
    measured("10 times the capacity, 30 % bodies of 45 KB", "goodput over capacity", found.good / most, found)
    answered, asked = await polite_share(port, items, SECONDS, most / 4)
    measured("8 connections of lists of 64", "answered share of a polite client", answered / asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=("before", "after"), default="after")
    parser.add_argument("--source", type=Path, default=Path("src"), help="the code of the server")
    parser.add_argument("--checkpoint", type=Path, help="of items, to serve as it is; without it a made-up device")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "overload.jsonl")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(options.source.resolve())

    def keep(row: OverloadRow) -> None:
        records.append(options.out, row)
        print(f"{row.side}: {row.attack}: {row.value:.0%} {row.figure}, {row.statuses}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        if options.checkpoint is None:
            items: Sequence[str] = save_demo_size(Path(folder) / "model")
            started, name = command(sys.executable, str(Path(folder) / "model")), ""
        else:
            items, name = Catalog.load(options.checkpoint / "catalog").item_ids, options.checkpoint.name
            line = [sys.executable, "-m", "octorec", "serve", str(options.checkpoint), "--port", "0"]
            started = [*line, "--no-log-requests", "--beam-widths", "32", "--default-beam-width", "32"]
        with serving(started) as (url, _):
            asyncio.run(run(int(url.rpartition(":")[2]), items, options.side, name, keep))


if __name__ == "__main__":
    program.run(main)
