"""What `auto` costs where nothing certifies, against the widest beams: the same requests both ways, by turns.

    python -m benchmarks.auto_cost --out results/policies.jsonl

Random weights: no narrow beam certifies an answer, so a table that is measured on them says "widest", and `auto` should
take what the fixed width takes. All times go through `Engine.recommend`, from item ids to answers. A second row says
what `auto` takes without a table, which begins with 4 k beams and repeats every request.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import records
from benchmarks.policies import CONTEXT, PRESET, asked, engine_of
from benchmarks.program import run
from benchmarks.rows import AutoRow
from benchmarks.timer import of_samples
from octorec.engine.engine import Engine
from octorec.engine.policy import BeamStarts
from octorec.engine.request import Answer, Request
from octorec.engine.widths import AUTO
from octorec.evaluate.beam_starts import measure_widths

BATCH, K = 32, 10
WIDTHS = (64, 128, 256, 512)
REQUESTS = 256  # of a call
MEASURED = 64  # requests that the table is measured with


def seconds(engine: Engine, requests: Sequence[Request]) -> tuple[float, list[Answer]]:
    """How long a call takes, and its answers."""
    start = time.perf_counter()
    answers = engine.recommend(requests)
    return time.perf_counter() - start, answers


def compared(engine: Engine, starts: BeamStarts, requests: Sequence[Request], turns: int, precision: str) -> AutoRow:
    """Answer the same requests with the widest beams and with `auto`, which begins as `starts` says, by turns."""
    engine.policy = replace(engine.policy, starts=starts)
    widest = engine.policy.buckets.fixed[-1]
    fixed, auto = ([replace(request, beam_width=width) for request in requests] for width in (widest, AUTO))
    for warm in (fixed, auto):
        engine.recommend(warm)  # compiles and captures
    begins = starts.of(requests[0].k, engine.policy.buckets.fixed)
    pairs = []
    for turn in range(turns):
        if turn % 2:  # the other way first
            (auto_s, chosen), (fixed_s, certain) = seconds(engine, auto), seconds(engine, fixed)
        else:
            (fixed_s, certain), (auto_s, chosen) = seconds(engine, fixed), seconds(engine, auto)
        pairs.append((fixed_s * 1e3, auto_s * 1e3))
    found = [of_samples(list(one)) for one in zip(*pairs, strict=True)]
    return AutoRow(
        preset=PRESET,
        precision=precision,
        table={str(k): width for k, width in starts.widths.items()},
        k=requests[0].k,
        beam_width=widest,
        context=CONTEXT,
        requests=len(requests),
        batch=engine.policy.buckets.most(engine.policy.widest),
        turns=turns,
        certified=round(statistics.fmean(answer.exact for answer in certain), 4),
        repeated=round(statistics.fmean(answer.beam_width != begins for answer in chosen), 4),
        fixed_ms=round(found[0].median, 3),
        fixed_p99_ms=round(found[0].p99, 3),
        auto_ms=round(found[1].median, 3),
        auto_p99_ms=round(found[1].p99, 3),
        ratio=round(statistics.median(after / before for before, after in pairs), 4),
    )


def line(row: AutoRow) -> str:
    """What was measured, for a terminal."""
    begins = f"table {row.table}" if row.table else "no table"
    shares = f"{row.certified:.0%} certified, {row.repeated:.0%} repeated"
    return f"{row.precision}, {begins}: fixed {row.fixed_ms:.1f}, auto {row.auto_ms:.1f} ms, {row.ratio:.3f}x; {shares}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "policies.jsonl")
    parser.add_argument("--turns", type=int, default=16)
    options = parser.parse_args()
    for precision in ("fp8", "bf16"):
        engine = engine_of(precision, (BATCH,), WIDTHS)
        requests = asked(REQUESTS, WIDTHS[-1], K)
        measured = measure_widths(engine, requests[:MEASURED], (K, WIDTHS[-1]))
        for starts, turns in ((measured.starts, options.turns), (BeamStarts(), options.turns // 4)):
            row = compared(engine, starts, requests, turns, precision)
            records.append(options.out, row)
            print(line(row), flush=True)


if __name__ == "__main__":
    run(main, "cuda")
