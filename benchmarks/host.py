"""What the host does for a batch of requests: parse, stage, rank and answer, on one thread and without a device.

    python -m benchmarks.host --out results/host.jsonl

The catalog is random, and so are the beams that a search would have found. Ids are new strings in each run, as a
server gets them. CPU time is measured, the best run of each part: other programs on the machine do not count.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks import records
from benchmarks.program import run
from benchmarks.quantize import cpu_model
from benchmarks.random_model import random_catalog, random_requests
from benchmarks.rows import HostRow
from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.rank import Found
from octorec.engine.request import Request
from octorec.models.onerec import OneRecV2
from octorec.models.presets import preset

PARTS = ("parse", "stage", "rank", "answer")


def engine_of(n_items: int, batch: int, context: int, beam_width: int) -> Engine:
    """An engine with the catalog of a large model, whose own model is small: nothing of it is asked here."""
    large = preset("moe-4b-a0.5b")
    small = preset(
        "tiny", codebook_sizes=large.codebook_sizes, max_context=large.max_context, codebook_fingerprint=None
    )
    limits = EngineConfig(context, (batch,), (beam_width,), default_beam_width=beam_width)
    return Engine(OneRecV2(small), random_catalog(large, n_items), limits)


def beams(catalog: Catalog, batch: int, width: int, seed: int) -> Found:
    """What a search might have found: different leaves, scores that fall."""
    draw = np.random.default_rng(seed)
    leaves = np.stack([draw.choice(len(catalog.trie.leaf_items) - 1, width, replace=False) for _ in range(batch)])
    scores = -np.sort(draw.random((batch, width), dtype=np.float32) * 10, axis=1)
    return Found(scores, leaves, np.full((batch, 2), -20, np.float32), 0, catalog)


def measure(engine: Engine, batch: int, context: int, width: int, k: int, runs: int) -> HostRow:
    """The best of several runs of each part."""
    n_items, begin = len(engine.catalog), engine.device_catalog.first_nodes
    samples: list[list[float]] = []
    for number in range(runs + 1):
        drawn = random_requests(batch, n_items, context, width, seed=number)
        requests = [Request(one.history, k=k, beam_width=width) for one in drawn]
        found = beams(engine.catalog, batch, width, number)
        staging, clock = engine.staged([engine.parse(requests[0])], batch), [time.process_time()]
        parsed = [*engine.parse_all(requests)]
        clock.append(time.process_time())
        staging.fill(parsed, begin)
        clock.append(time.process_time())
        ranked = [*map(found.ranked, range(batch), parsed)]
        clock.append(time.process_time())
        answers = [one.answer() for one in ranked]
        clock.append(time.process_time())
        assert len(answers) == batch
        samples.append(np.diff(clock).tolist())
    parse, stage, rank, answer = (1e3 * np.min(samples[1:], axis=0)).round(2).tolist()  # the first warms up
    return HostRow(
        batch=batch,
        context=context,
        beam_width=width,
        k=k,
        n_items=n_items,
        parse_ms=parse,
        stage_ms=stage,
        rank_ms=rank,
        answer_ms=answer,
        ms=round(parse + stage + rank + answer, 2),
        runs=runs,
        cpu_model=cpu_model(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "host.jsonl")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--beam-width", type=int, default=64)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    engine = engine_of(options.items, options.batch, options.context, options.beam_width)
    row = measure(engine, options.batch, options.context, options.beam_width, options.k, options.runs)
    records.append(options.out, row)
    parts = ", ".join(f"{name} {getattr(row, f'{name}_ms'):.2f}" for name in PARTS)
    print(f"{row.batch} requests of {row.context} items: {parts}; {row.ms:.2f} ms in all")


if __name__ == "__main__":
    run(main)
