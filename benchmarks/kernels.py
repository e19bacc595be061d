"""Every operation at the model's shapes: checked, then timed beside stock PyTorch and the card's own ceilings.

    python -m benchmarks.kernels --out results/kernels.jsonl

`--rows` takes the operations whose name contains a text (several with commas); `--rows ceilings` measures these alone.
An operation whose check fails is recorded with its error and not timed, and the exit code is 1. A row is the time of
one call in a CUDA graph of several on different memory, so that neither launches nor the L2 cache are measured.
Ceilings, measured first, are the fastest of a copy, a sum of two tensors and a reduction, and large square products of
16 bit and FP8; what bounds an operation is whether its FLOP per byte exceed their ratio.
"""

import argparse
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F

from benchmarks import program, records
from benchmarks.kernel_cases import BEAMS, CASES, CODES, Call, Case
from benchmarks.kernel_checks import CHECKS
from benchmarks.kernel_inputs import cast, normal, random_trie
from benchmarks.rows import KernelCeilings, KernelFailure, KernelRow
from benchmarks.speed_report import percent_of_ceiling
from benchmarks.timer import time_graph
from benchmarks.traffic import Traffic, size, tensors
from octorec.kernels import fused
from octorec.kernels.ops import TrieLevel

BATCHES = (32, 1)  # requests of BEAMS rows
N_ITEMS = 10_000_000
SQUARE = 8192
Ceilings = dict[str, float]  # copy, add and read in GB/s, bf16 and fp8 in TFLOP/s


def ceilings(runs: int) -> Ceilings:
    a, b, out = (torch.zeros(2**28, device="cuda") for _ in range(3))
    streams: list[tuple[str, int, Call]] = [
        ("copy", 2, lambda: out.copy_(a)),
        ("add", 3, lambda: torch.add(a, b, out=out)),
        ("read", 1, lambda: a.sum()),
    ]
    rates = {name: n * a.nbytes / time_graph([call], runs).median / 1e6 for name, n, call in streams}
    x, weight = normal(SQUARE, SQUARE), normal(SQUARE, SQUARE)
    eight = cast(x, "token"), cast(weight, "channel")
    for name, call in (("bf16", lambda: F.linear(x, weight)), ("fp8", lambda: fused.linear(*eight))):
        rates[name] = 2.0 * SQUARE**3 / time_graph([call], runs).median / 1e9
    return rates


def memory_ceiling(found: Ceilings) -> float:
    """GB/s of the fastest way through memory."""
    return max(found[name] for name in ("copy", "add", "read"))


def bound(intensity: float, ceiling: float, memory: float) -> Literal["memory", "arithmetic"]:
    """ceiling in TFLOP/s, memory in GB/s, intensity in FLOP per byte."""
    return "arithmetic" if intensity > 1e3 * ceiling / memory else "memory"


def traffic(call: Call) -> int:
    """Bytes that stock PyTorch moves in a call."""
    with Traffic() as counted:
        call()
    return counted.bytes


def fewest_bytes(case: Case) -> float:
    if case.moved is not None:
        return case.moved
    call: Any = case.calls[0]
    return size(tensors((call.args, call.keywords))) + size(tensors(call()))


def measure(case: Case, rows: int, found: Ceilings, runs: int) -> KernelRow:
    """The row of a case: time, rates, what bounds it, and what fusion changed."""
    timing = time_graph(case.calls, runs)
    moved = fewest_bytes(case)
    tflops, gb_s = case.flop / timing.median / 1e9, moved / timing.median / 1e6
    memory = memory_ceiling(found)
    row = KernelRow(
        op=case.op,
        name=case.name,
        T=rows,
        precision=case.precision,
        us=round(timing.median * 1e3, 1),
        us_p20=round(timing.p20 * 1e3, 1),
        us_p80=round(timing.p80 * 1e3, 1),
        tflops=round(tflops, 1),
        gb_s=round(gb_s),
        flop_per_byte=round(case.flop / moved, 1),
        bound=bound(case.flop / moved, found[case.precision], memory),
    )
    if not case.stock:
        return row
    before, stock = case.flop / traffic(case.stock[0]), time_graph(case.stock, runs)
    kind = "bf16" if case.stock_is == "BF16" else case.precision
    return replace(
        row,
        flop_per_byte_before=round(before, 1),
        bound_before=bound(before, found[kind], memory),
        stock=case.stock_is or "the same, unfused",
        stock_us=round(stock.median * 1e3, 1),
        times_stock=round(stock.median / timing.median, 2),
    )


def failure(op: str, trie: list[TrieLevel]) -> str | None:
    """Why the operation's kernel is wrong, None where it is right."""
    torch.manual_seed(1)
    try:
        CHECKS[op](trie)
    except Exception as error:  # also a kernel that does not compile must not take the others with it
        return records.error_text(error)
    return None


def timed(case: Case, rows: int, found: Ceilings, runs: int, out: Path) -> bool:
    """Measure, record and print a case; whether that went well: one that fails must not take the others with it."""
    try:
        row = measure(case, rows, found, runs)
    except Exception as error:
        traceback.print_exc()
        records.append(out, KernelFailure(op=case.op, name=case.name, T=rows, error=records.error_text(error)))
        return False
    records.append(out, row)
    print(line(row, ceilings_row(found)), flush=True)
    return True


def ceilings_row(found: Ceilings) -> KernelCeilings:
    rates: dict[str, Any] = {name: round(rate) for name, rate in found.items()}
    return KernelCeilings(op="ceilings", **rates)


HEADS = ("us", "TFLOP/s", "GB/s", "% ceiling", "FLOP/B", "before", "x stock")


def line(row: KernelRow, found: KernelCeilings) -> str:
    """A row below HEADS."""
    label = f"{row.op} {row.name}, T {row.T}"
    rates = [row.us, row.tflops, row.gb_s, percent_of_ceiling(row, found), row.flop_per_byte]
    values = ["" if value is None else value for value in (*rates, row.flop_per_byte_before, row.times_stock)]
    return f"{label:74} " + " ".join(f"{value:>9}" for value in values) + f" {row.bound_before or ''} -> {row.bound}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="texts of which one must be in an operation's name, with commas")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "kernels.jsonl")
    options = parser.parse_args()
    chosen = [op for op in CASES if any(text in op for text in options.rows.split(","))]
    if options.list:
        print("\n".join(chosen))
        return
    with torch.inference_mode():
        sys.exit(0 if run(chosen, options.runs, options.out) else 1)


def run(chosen: list[str], runs: int, out: Path) -> bool:
    """Check, time and record; whether every check held."""
    start, held = time.perf_counter(), True
    found = ceilings(runs)
    records.append(out, ceilings_row(found))
    print(", ".join(f"{name} {rate:.0f}" for name, rate in found.items()), "(GB/s, TFLOP/s)")
    trie = random_trie(N_ITEMS, CODES) if "beam_step" in chosen else []
    print(f"{'':74} " + " ".join(f"{head:>9}" for head in HEADS))
    for op in chosen:
        error = failure(op, trie)
        if error is not None:
            held = False
            records.append(out, KernelFailure(op=op, error=error))
            print(f"{op}: WRONG, not timed: {error}", flush=True)
            continue
        for batch in BATCHES:
            for case in CASES[op](batch * BEAMS, trie):
                held &= timed(case, batch * BEAMS, found, runs, out)
        torch.cuda.empty_cache()
        print(f"{op} after {time.perf_counter() - start:.0f} s", flush=True)
    return held


if __name__ == "__main__":
    program.run(main, "cuda")
