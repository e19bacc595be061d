"""How long a process takes from its start to its first answer: default buckets, random weights made on the device.

    python -m benchmarks.start --out results/start.jsonl

Triton keeps compiled kernels on disk, so the second process on a machine shows what a restart costs; a row says how
many entries of that cache were new. Prints what each phase and each bucket took.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import triton
from rich.table import Table

from benchmarks import program, records
from benchmarks.random_model import random_catalog, random_model, random_requests
from benchmarks.rows import StartRow
from benchmarks.rows.serving import Bucket
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.graph import BucketCost
from octorec.kernels import fused
from octorec.models.presets import PRESETS, preset
from octorec.terminal import console

N_ITEMS = 1_000_000
GOAL_S = 30


class Phases:
    """Seconds of one phase after the other, the first one from the process's start."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def end(self, name: str) -> None:
        self.seconds[name] = process_seconds() - sum(self.seconds.values())


def process_seconds() -> float:
    """Seconds since this process was started, by Linux's own clock."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def cached_kernels() -> int:
    """Entries of Triton's cache on disk."""
    folder = Path(triton.knobs.cache.dir)
    return len(list(folder.iterdir())) if folder.exists() else 0


def run(name: str, precision: str) -> StartRow:
    phases = Phases()
    phases.end("imports")
    before = cached_kernels()
    config = preset(name)
    model = random_model(config, precision)
    torch.cuda.synchronize()
    phases.end("model")
    catalog = random_catalog(config, N_ITEMS)
    engine = Engine(model, catalog, EngineConfig(config.max_context), "cuda", fused)
    torch.cuda.synchronize()
    phases.end("catalog")
    costs = engine.warm_up()
    phases.end("buckets")
    request = random_requests(1, N_ITEMS, config.max_context, engine.config.default_beam_width)
    (answer,) = engine.recommend(request)
    assert answer.items
    phases.end("first answer")
    console.print(bucket_table(costs))
    return StartRow(
        preset=name,
        precision=precision,
        seconds=round(sum(phases.seconds.values()), 2),
        phases={phase: round(seconds, 2) for phase, seconds in phases.seconds.items()},
        buckets=tuple(Bucket(cost.batch_size, cost.beam_width, cost.seconds, cost.megabytes) for cost in costs),
        kernels_compiled=cached_kernels() - before,
        memory_gb=round(torch.cuda.max_memory_reserved() / 1e9, 2),
        n_items=N_ITEMS,
    )


def phase_table(row: StartRow) -> Table:
    table = Table("phase", "seconds", title=f"{row.preset}, {row.precision}: process start to first answer")
    for phase, seconds in row.phases.items():
        table.add_row(phase, f"{seconds:.1f}")
    table.add_row("all", f"{row.seconds:.1f} (goal {GOAL_S}); {row.kernels_compiled} kernels were new")
    return table


def bucket_table(costs: Sequence[BucketCost]) -> Table:
    """What capturing each bucket of an engine cost, and all of them."""
    table = Table("batch size", "beam width", "seconds", "MB of GPU memory", title="buckets")
    for cost in costs:
        table.add_row(str(cost.batch_size), str(cost.beam_width), f"{cost.seconds:.2f}", f"{cost.megabytes:.0f}")
    table.add_section()
    seconds, megabytes = sum(cost.seconds for cost in costs), sum(cost.megabytes for cost in costs)
    table.add_row("all", "", f"{seconds:.2f}", f"{megabytes:.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="moe-4b-a0.5b", choices=list(PRESETS))
    parser.add_argument("--precision", default="fp8")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "start.jsonl")
    options = parser.parse_args()
    row = run(options.preset, options.precision)
    records.append(options.out, row)
    console.print(phase_table(row))


if __name__ == "__main__":
    program.run(main, "cuda")
