"""Attacks on a server, from this machine: what each does to liveness and to memory, and what the attackers are told.

    python -m benchmarks.attacks runs/demo/fp8 --side after --out results/attacks.jsonl

Starts `octorec serve`. Nothing but loopback is used, and each case is bounded in time.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import program, records
from benchmarks.attack_answers import ANSWERS
from benchmarks.attack_cases import BODIES, CASES, FLOODS, Case
from benchmarks.attack_server import Served, serving
from benchmarks.attackers import Liveness, Thrown, probed, throw
from benchmarks.rows import AttackAnswerRow, AttackRow

FLOOD_S, SLOW_S = 8.0, 25.0


@dataclass
class Memory:
    """Memory is the resident memory of a process: at first, and at its most while it is watched; in bytes."""

    process: psutil.Process
    first: int = 0
    most: int = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        self.first = self.most = self.process.memory_info().rss
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                self.most = max(self.most, self.process.memory_info().rss)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def attacked(
    case: Case, server: Served, side: Any, limits: dict[str, float], seconds: float | None = None
) -> AttackRow:
    """Attack for `seconds`, or as long as the case needs to show what becomes of it."""
    seconds = seconds or (FLOOD_S if case in FLOODS or case in BODIES else SLOW_S)
    memory = Memory(psutil.Process(server.pid))
    start, load = time.monotonic(), os.getloadavg()[0]
    with memory.watched(), probed(server.port, min(seconds, 10.0)) as live:
        thrown = throw(case, server.admin_port if case.admin else server.port, seconds, case in BODIES)
    return _row(case, side, time.monotonic() - start, live, memory, thrown, load, limits)


def _row(case: Case, side: Any, seconds: float, live: Liveness, memory: Memory, thrown: Thrown, load: float,
         limits: dict[str, float]) -> AttackRow:  # fmt: skip
    return AttackRow(
        case=case.name,
        says=case.says,
        side=side,
        seconds=round(seconds, 1),
        live_p99_ms=round(live.p99, 1),
        live_worst_ms=round(live.worst, 1),
        live_failed=live.failed,
        gained_mb=round((memory.most - memory.first) / 1e6, 1),
        said=dict(thrown.said),
        still_open=thrown.still_open,
        last_s=round(thrown.last_s, 1),
        load=round(load, 1),
        cores=len(os.sched_getaffinity(0)),
        limits=limits,
    )


def run(checkpoint: Path, side: Any, names: Sequence[str], out: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        thrown = [CASES[name] for name in names if name in CASES]
        if thrown:
            with serving(checkpoint, Path(scratch)) as server:
                for case in thrown:
                    row = attacked(case, server, side, {})
                    records.append(out, row)
                    print(said(row), flush=True)
        for name in names:
            if name in ANSWERS:
                says, answer = ANSWERS[name]
                found = answer(checkpoint, Path(scratch))
                records.append(out, AttackAnswerRow(case=name, says=says, side=side, found=found))
                print(f"{name}: {found}", flush=True)


def said(row: AttackRow) -> str:
    live = f"p99 {row.live_p99_ms} ms, worst {row.live_worst_ms}, {row.live_failed} failed"
    ends = f"{row.said}, last {row.last_s} s, {row.still_open} open"
    return f"{row.case}: {live}; {row.gained_mb:+.0f} MB; {ends}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--side", choices=("before", "after"), default="after")
    parser.add_argument("--cases", default=",".join([*CASES, *ANSWERS]))
    parser.add_argument("--out", type=Path, default=records.RESULTS / "attacks.jsonl")
    options = parser.parse_args()
    run(options.checkpoint, options.side, options.cases.split(","), options.out)


if __name__ == "__main__":
    program.run(main)
