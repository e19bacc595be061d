"""Requests a second against k: each policy of ours in both precisions, and stock PyTorch, asked for the same k.

    python -m benchmarks.rates --out results/policies.jsonl

One card, one call, batches of 32, context 512, random weights with balanced routers. A batch of stock PyTorch
(compiled, one CUDA graph, no item trie) takes as long whatever k is, as all its beams come to their end; so does ours
of one width. Each is measured at every k all the same. What `auto` takes is composed of these rows by
`benchmarks.composed`.
"""

import argparse
import gc
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks import records
from benchmarks.composed import KS
from benchmarks.engine import from_host, host_to_host, stock_run
from benchmarks.policies import CONTEXT, PRESET, asked, engine_of
from benchmarks.program import run
from benchmarks.rows import RateRow
from benchmarks.rows.engine import Wanted
from benchmarks.timer import Timing, time_gpu
from octorec.engine.engine import Engine
from octorec.engine.widths import Width, shown

BATCH = 32
SCHEDULE = (128, 256, 512)
WIDTHS: tuple[Width, ...] = (64, 128, 256, 512, SCHEDULE)
STOCK = (("bf16", 512), ("bf16", 64), ("fp8", 512))  # the last may be refused by torch
HOST_RUNS = 15


def wanted(widths: tuple[Width, ...] = WIDTHS) -> Iterator[tuple[Width, int]]:
    """Each beam width with each k that it ends with."""
    for width in widths:
        yield from ((width, k) for k in KS if k <= (width if isinstance(width, int) else width[-1]))


def row(name: str, system: str, precision: str, width: Width, k: int, timing: Timing, host: Timing) -> RateRow:
    """The row of a batch, from its times on the device and from host to host."""
    return RateRow(
        run=name,
        system=system,
        preset=PRESET,
        precision=precision,
        batch=BATCH,
        beam_width=width,
        k=k,
        context=CONTEXT,
        requests_per_s=round(BATCH / timing.median * 1e3, 1),
        ms_per_batch=round(timing.median, 3),
        ms_p20=round(timing.p20, 3),
        ms_p80=round(timing.p80, 3),
        p50_ms=round(host.median, 3),
        p99_ms=round(host.p99, 3),
    )


@torch.inference_mode()
def ours(engine: Engine, name: str, precision: str, runs: int) -> Iterator[RateRow]:
    """Each policy of ours at each k."""
    for width, k in wanted():
        requests = asked(BATCH, width, k)
        graph = engine.captured(engine.bucket_of([engine.parse(request) for request in requests]))
        engine.recommend(requests)  # fills the graph's inputs with these requests
        timing = time_gpu(graph.graph.replay, runs)
        host = host_to_host(partial(engine.recommend, requests), HOST_RUNS)
        yield row(name, "octorec", precision, width, k, timing, host)


@torch.inference_mode()
def stock(name: str, precision: str, width: int, runs: int) -> Iterator[RateRow]:
    """Stock PyTorch with one width, which gives the best k of its beams."""
    call, features, _ = stock_run(Wanted("stock graph", PRESET, precision, BATCH, width, CONTEXT))
    for _, k in wanted((width,)):
        host = host_to_host(from_host(call, features, k), HOST_RUNS)
        yield row(name, "stock graph", precision, width, k, time_gpu(call, runs), host)


def record(rows: Iterator[RateRow], out: Path) -> None:
    """Append rows as they are made, and free what they took."""
    for one in rows:
        records.append(out, one)
        who = f"{one.system:11} {one.precision:4} {shown(one.beam_width):>11}, k {one.k:3}"
        print(f"{who} {one.ms_per_batch:8.2f} ms {one.requests_per_s:6.0f}/s; p50 {one.p50_ms:.2f} ms", flush=True)
    gc.collect()
    torch._dynamo.reset()
    torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "policies.jsonl")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    name = time.strftime("%Y-%m-%dT%H:%M:%S")
    for precision in ("fp8", "bf16"):
        record(ours(engine_of(precision, (BATCH,), WIDTHS), name, precision, options.runs), options.out)
    for precision, width in STOCK:
        try:
            record(stock(name, precision, width, options.runs), options.out)
        except Exception as error:  # what torch refuses must not take the others with it
            print(f"stock graph, {precision}, {width} beams: {records.error_text(error)}", flush=True)


if __name__ == "__main__":
    run(main, "cuda")
