"""Every operation of a Qwen model at the shapes of its batches, ours beside each way that torch has: for tuning.

    python -m benchmarks.attention_probe --out results/qwen_kernels.jsonl

`--rows` takes operations by a text of their name (several with commas), `--models` models; `--tilings` also tries other
layouts of our kernels. A row is the time of one call in a CUDA graph of several calls; a way that waits for the host is
timed without one. `error` is that against the reference in float32; what is refused is a row that says why. A table an
operation is printed as it is done, with its fastest way below.
"""

import argparse
import gc
import itertools
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import records
from benchmarks.kernel_checks import relative_error
from benchmarks.program import run
from benchmarks.qwen_cases import CASES, Case, Way
from benchmarks.qwen_tilings import called, layouts
from benchmarks.rows.qwen_speed import ProbeFailure, ProbeRow
from benchmarks.timer import Timing, time_graph, time_on
from octorec.kernels.device import ops_for
from octorec.kernels.ops import Ops

LABEL = 44


def time_way(way: Way, device: str, runs: int) -> Timing:
    """The time of one call."""
    if device == "cuda" and not way.eager:
        calls = way.calls if len(way.calls) > 1 else way.calls * 4
        return time_graph(calls, runs)
    return time_on(device, way.calls[0], runs)


def ways_of(case: Case, tilings: bool) -> Iterator[Way]:
    """The ways of a case; of our kernel each layout too, where `tilings` asks for them."""
    yield from case.ways
    if tilings and case.tried is not None:
        for layout in layouts(case.operation):
            yield Way(called(layout), case.tried(layout), case.tried_in)


def measured(case: Case, device: str, runs: int, tilings: bool = False) -> Iterator[ProbeRow | ProbeFailure]:
    """Check and time each way."""
    expected = case.expected()
    for way in ways_of(case, tilings):
        about: dict[str, Any] = {"operation": case.operation, "model": case.model, "shape": case.shape}
        about |= {"by": way.by, "precision": way.precision}
        try:
            found = way.calls[0]()
            error = None if way.part else relative_error(found, expected)
            timing = time_way(way, device, runs)
            yield ProbeRow(
                **about,
                us=round(timing.median * 1e3, 2),
                us_p20=round(timing.p20 * 1e3, 2),
                us_p80=round(timing.p80 * 1e3, 2),
                tflops=round(case.flop / timing.median / 1e9, 1),
                gb_s=round(case.moved / timing.median / 1e6, 1),
                error=error,
            )
        except Exception as failure:  # what a library refuses must not take the others with it
            yield ProbeFailure(**about, failure=records.error_text(failure))


def line(row: ProbeRow | ProbeFailure) -> str:
    """A row for a terminal."""
    label = f"  {row.by}, {row.precision}"
    if isinstance(row, ProbeFailure):
        return f"{label:{LABEL}s} {row.failure[:90]}"
    said = "a part of the work" if row.error is None else f"error {row.error:.1e}"
    return f"{label:{LABEL}s} {row.us:10.1f} us {row.tflops:7.0f} TFLOP/s {row.gb_s:7.0f} GB/s  {said}"


@torch.inference_mode()
def probe(
    models: Sequence[str], operations: Sequence[str], ops: Ops, device: str, runs: int, out: Path, tilings: bool = False
) -> None:
    """Record and print every way of every case; operands that cannot be made must not take other operations along."""
    for operation, model in itertools.product(operations, models):
        try:
            for case in CASES[operation](model, ops, device):
                print(f"{case.operation}, {case.model}, {case.shape}", flush=True)
                done = []
                for row in measured(case, device, runs, tilings):
                    records.append(out, row)
                    print(line(row), flush=True)
                    done += [row] if isinstance(row, ProbeRow) and row.error is not None else []
                for precision in dict.fromkeys(row.precision for row in done):
                    best = min((row for row in done if row.precision == precision), key=lambda row: row.us)
                    print(f"  fastest: {best.by}, {precision}, {best.us:.1f} us", flush=True)
        except Exception:
            traceback.print_exc()
        gc.collect()
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="texts of which one must be in an operation's name, with commas")
    parser.add_argument("--models", default="1.7b,8b")
    parser.add_argument("--tilings", action="store_true", help="try other layouts of our kernels too")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "qwen_kernels.jsonl")
    options = parser.parse_args()
    chosen = [operation for operation in CASES if any(text in operation for text in options.rows.split(","))]
    device = torch.device("cuda")
    probe(options.models.split(","), chosen, ops_for(device), "cuda", options.runs, options.out, options.tilings)


if __name__ == "__main__":
    run(main, "cuda")
