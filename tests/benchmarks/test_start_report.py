"""What a start reports."""

import time

from made_rows import made
from rich.console import Console

from benchmarks.rows import StartRow
from benchmarks.start import bucket_table, phase_table, process_seconds
from octorec.engine.graph import BucketCost


def test_process_seconds_run_with_the_clock() -> None:
    outside = time.monotonic()
    before = process_seconds()
    time.sleep(0.05)
    seconds = process_seconds() - before
    assert 0.049 < seconds < time.monotonic() - outside + 0.001
    assert before > 0


def said(table: object) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_buckets_and_their_sum() -> None:
    text = said(bucket_table([BucketCost(32, 512, 2.5, 900), BucketCost(1, 32, 0.25, 12)]))
    rows = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["32", "512", "2.50", "900"] in rows
    assert ["all", "2.75", "912"] in rows


def test_phases() -> None:
    row = made(StartRow, preset="tiny", precision="fp8", phases={"imports": 4.2}, seconds=4.2, kernels_compiled=7)
    assert "4.2 (goal 30); 7 kernels were new" in said(phase_table(row))
