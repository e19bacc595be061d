"""What a repeat of `auto` computes twice: the part of a search that reads the requests' contexts.

    python -m benchmarks.prefill --out results/policies.jsonl

The model, catalog and batches of `benchmarks.policies`. A repeat with wider beams could keep the context's keys and
values instead: `context_mb` is what would be copied from the narrow search's memory to the wide one's.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks import policies, records
from benchmarks.program import run
from benchmarks.rows import PrefillRow
from benchmarks.timer import time_gpu, time_graph
from octorec.engine.engine import Engine
from octorec.engine.live_bytes import LiveBytes

BATCHES = ((1, 64), (32, 64), (128, 64))


def measure(engine: Engine, precision: str, batch: int, width: int, runs: int) -> PrefillRow:
    requests = policies.asked(batch, width)
    graph = engine.captured(engine.bucket_of([engine.parse(request) for request in requests]))
    engine.recommend(requests)  # fills the graph's inputs with these requests
    inputs = graph.staging.batch(graph.staging.block.to("cuda")).inputs
    with torch.no_grad(), LiveBytes() as live:
        state: Any = engine.model.prefill(inputs)
        kept = live.now
    del state
    with torch.inference_mode():
        search = time_gpu(graph.graph.replay, runs).median
        prefill = time_graph([lambda: engine.model.prefill(inputs)], runs).median
    return PrefillRow(
        preset=policies.PRESET,
        precision=precision,
        batch=batch,
        beam_width=width,
        context=policies.CONTEXT,
        prefill_ms=round(prefill, 4),
        search_ms=round(search, 3),
        share=round(prefill / search, 4),
        context_mb=round(kept / 1e6, 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "policies.jsonl")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--precision", default="fp8")
    options = parser.parse_args()
    engine = policies.engine_of(options.precision)
    for batch, width in BATCHES:
        row = measure(engine, options.precision, batch, width, options.runs)
        records.append(options.out, row)
        print(
            f"{batch:4} x {width}: {row.prefill_ms} of {row.search_ms} ms; {row.context_mb} MB of context", flush=True
        )


if __name__ == "__main__":
    run(main, "cuda")
