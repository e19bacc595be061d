"""Run the demo and append what its demo.json says to results/demo.jsonl."""

import os
import tempfile
from pathlib import Path

from benchmarks.program import run
from benchmarks.records import RESULTS, append, typed
from benchmarks.rows import DemoRow
from octorec.demo.run import run_demo


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = run_demo(Path(folder) / "demo", Path(".cache"))
    append(RESULTS / "demo.jsonl", typed("demo.json", {**found, "cores": os.cpu_count()}, DemoRow))


if __name__ == "__main__":
    run(main)
