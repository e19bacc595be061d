"""What live requests of several widths take that arrive together: before batches were formed by width, and now.

    git worktree add ../before 2c45ff8
    python -m benchmarks.mixed ../before 2c45ff8 --out results/before_after.jsonl

At that commit a batch had the widest beams that one of its requests asked for, in one of three sizes. Each side runs
`benchmarks/mixed_side.py` in a process of its own, before and after by turns, on one card in one call.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows import MixedRow
from octorec.errors import InputError

ROOT = records.RESULTS.parent
PRESET = "moe-4b-a0.5b"
SIDE = Path(__file__).with_name("mixed_side.py")


def answered(tree: Path, preset: str, precision: str, device: str) -> Iterator[dict[str, Any]]:
    """What the engine of `tree` took, a set of requests each; raises where it fails."""
    path = os.pathsep.join([str(tree / "src"), str(tree), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-P", str(SIDE), preset, precision, device]
    with subprocess.Popen(
        command, cwd=tree, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as side:
        assert side.stdout is not None
        for line in side.stdout:
            if line.startswith("{"):
                yield json.loads(line)
    if side.returncode:
        raise InputError("tree", str(tree), f"ended with {side.returncode}: {' '.join(command)}")


def rows(
    name: str, side: Literal["before", "after"], tree: Path, commit: str, preset: str, precision: str, device: str
) -> Iterator[MixedRow]:
    """The rows of one side."""
    about: dict[str, Any] = {"run": name, "side": side, "tree": commit, "preset": preset, "precision": precision}
    for found in answered(tree, preset, precision, device):
        lists = {key: tuple(found[key]) for key in ("batch_sizes", "beam_widths")}
        yield MixedRow(**about, **{**found, **lists})


def line(row: MixedRow) -> str:
    """What was measured, for a terminal."""
    what = f"{row.requests:3} requests, {row.live_rows:6.0f} live rows, {row.batches:.1f} batches"
    return f"{row.side:6} {row.traffic:11} {what}: {row.device_ms:7.2f} ms, p50 {row.p50_ms:7.2f} host to host"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the tree of the version before")
    parser.add_argument("commit", help="its commit")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "before_after.jsonl")
    parser.add_argument("--precision", default="fp8")
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    if not (options.before / "src" / "octorec").is_dir():
        raise InputError("before", str(options.before), "must be a tree of this repository, with src/octorec")
    name = time.strftime("%Y-%m-%dT%H:%M:%S")
    own = records.environment().commit
    how = PRESET, options.precision, "cuda"
    for _ in range(options.turns):
        for row in rows(name, "before", options.before.resolve(), options.commit, *how):
            record(row, options.out)
        for row in rows(name, "after", ROOT, own, *how):
            record(row, options.out)


def record(row: MixedRow, out: Path) -> None:
    records.append(out, row)
    print(line(row), flush=True)


if __name__ == "__main__":
    run(main, "cuda")
