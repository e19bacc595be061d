"""Whole batches of Qwen3 recommenders at 1.7B's and 8B's dimensions, on random weights, through the public engine.

    python -m benchmarks.qwen_speed --quick --out results/qwen_speed.jsonl    # the rows that goals are set for
    python -m benchmarks.qwen_speed                                           # all of them

Each row is appended as it is done; `--rows` takes those whose name contains a text (several with commas), `--list`
names them. A row that fails is recorded with its error. `ms_per_batch` is the device's: from the launch of a batch
whose requests are parsed to its codes on the host, with what the host stages before. `p50_ms` goes from requests of
token ids to answers of items. Prompts are random: no two share a beginning.
"""

import argparse
import dataclasses
import gc
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from benchmarks import records
from benchmarks.engine import MOST_KERNELS, PEAK_TFLOPS, host_to_host, kernels
from benchmarks.program import run
from benchmarks.qwen_goals import GOALS, HEADS, called, goal_lines
from benchmarks.qwen_model import SHAPES, catalog_of, config_of, flop, lengths_of, prompts_of, random_qwen, requests_of
from benchmarks.rows.engine import KernelTime
from benchmarks.rows.qwen_speed import QwenSpeedFailure, QwenSpeedRow, QwenWanted
from benchmarks.timer import Timing, time_on
from octorec.engine.engine import Engine, EngineConfig
from octorec.kernels.device import ops_for
from octorec.models.qwen import Qwen

BATCHES, CONTEXTS, BEAMS, BEAM = (8, 4, 2, 1), (1000, 5000), (64, 128, 512), 256
HOST_RUNS = 22  # of which the first tenth is warm-up
RECIF_MEAN = 2411  # tokens
CACHE_BYTES = 2**31  # of the rows with a prefix cache: 18 prompts of 1,000 tokens


@dataclass(frozen=True)
class Measured:
    """What was measured of a batch.

    timing: on the device. host: from requests to answers, None for a system that gives codes. n_items: of the catalog,
    None without one. kernels: those of one batch, slowest first; None where they were not looked at. cached: tokens of
    a prompt that a cache held, at the mean; None without one.
    """

    timing: Timing
    host: Timing | None = None
    n_items: int | None = None
    kernels: list[KernelTime] | None = None
    cached: int | None = None


def rows() -> list[QwenWanted]:
    """All batches to measure, those that goals are set for first."""
    found = [*GOALS]
    for model in ("1.7b", "8b"):
        for precision in ("fp8", "bf16"):
            shapes = [(batch, BEAM, context) for context in CONTEXTS for batch in BATCHES]
            shapes += [(8, beam, 1000) for beam in BEAMS]
            found += [QwenWanted("octorec", model, precision, *shape) for shape in shapes]
            found.append(QwenWanted("octorec", model, precision, 8, BEAM, RECIF_MEAN, lengths="recif"))
        found.append(QwenWanted("octorec", model, "fp8-block", 8, BEAM, 1000))
    for prefix in ("off", "miss", "hit"):
        found.append(QwenWanted("octorec", "1.7b", "fp8", 1, 128, 1000, prefix=prefix))
    return [*dict.fromkeys(found)]


@lru_cache(maxsize=1)
def model_of(model: str, precision: str, device: str) -> Qwen:
    """A model with random weights on the operations that serve on a device, kept until another one is asked for."""
    return random_qwen(config_of(model), precision, ops=ops_for(torch.device(device)), device=device)


def engine_of(row: QwenWanted, model: Qwen, device: str) -> Engine:
    """Our engine for the shape of a row, on the operations of a model."""
    longest = max(lengths_of(row))
    limits = EngineConfig(
        batch_sizes=(row.batch,), beam_widths=(row.beam,), default_beam_width=row.beam, max_tokens=longest,
        batch_tokens=sum(lengths_of(row)), prefix_cache_bytes=0 if row.prefix == "off" else CACHE_BYTES,
    )  # fmt: skip
    return Engine(model, catalog_of(row.model), limits, device, model.ops, prompts=prompts_of(row.model))


def measure_octorec(row: QwenWanted, runs: int, device: str = "cuda") -> Measured:
    engine = engine_of(row, model_of(row.model, row.precision, device), device)
    config = config_of(row.model)
    count = 3 * (runs + HOST_RUNS) if row.prefix == "miss" else 1  # of batches, none of which a cache may hold
    batches = [requests_of(row, config, seed) for seed in range(count)]
    parsed, asked = cycle([[*engine.parse_all(batch)] for batch in batches]), cycle(batches)
    launch = lambda: engine.launch(next(parsed))()  # noqa: E731
    timing = time_on(device, launch, runs)  # the first runs capture
    host = host_to_host(lambda: engine.recommend(next(asked)), HOST_RUNS)
    spent = kernels(launch) if device == "cuda" else None
    cached = None if engine.prefixes is None else round(float(np.mean(launch().cached)))
    return Measured(timing, host, SHAPES[row.model].n_items, spent, cached)


def speed_row(row: QwenWanted, measured: Measured, name: str) -> QwenSpeedRow:
    """The row of a batch."""
    timing, host, spent = measured.timing, measured.host, measured.kernels
    tflops = flop(config_of(row.model), row, measured.cached or 0) / timing.median / 1e9
    return QwenSpeedRow(
        **dataclasses.asdict(row),
        run=name,
        requests_per_s=round(row.batch / timing.median * 1e3, 1),
        ms_per_batch=round(timing.median, 3),
        ms_p20=round(timing.p20, 3),
        ms_p80=round(timing.p80, 3),
        tflops=round(tflops, 1),
        mfu=round(tflops / PEAK_TFLOPS["bf16" if row.precision == "bf16" else "fp8"], 3),
        memory_gb=round(torch.cuda.max_memory_allocated() / 1e9, 2),
        p50_ms=None if host is None else round(host.median, 3),
        p99_ms=None if host is None else round(host.p99, 3),
        n_items=measured.n_items,
        cached_tokens=measured.cached,
        kernels_ms=None if spent is None else round(sum(kernel.ms for kernel in spent), 2),
        kernels=None if spent is None else tuple(spent[:MOST_KERNELS]),
    )


Measure = Callable[[QwenWanted, int], Measured]


@torch.inference_mode()
def tried(row: QwenWanted, name: str, runs: int, measure: Measure) -> QwenSpeedRow | QwenSpeedFailure:
    """Measure one batch, then free what it took: one that fails must not take the others with it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        return speed_row(row, measure(row, runs), name)
    except Exception as error:
        traceback.print_exc()
        return QwenSpeedFailure(**dataclasses.asdict(row), run=name, error=records.error_text(error))
    finally:
        gc.collect()
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def recorded_rows(
    wanted: Iterable[QwenWanted], runs: int, out: Path, measures: Mapping[str, Measure]
) -> Iterator[QwenSpeedRow | QwenSpeedFailure]:
    """Measure each batch, append its row, print and yield it. measures: how, by the first word of a system's name."""
    name = time.strftime("%Y-%m-%dT%H:%M:%S")
    for row in wanted:
        start = time.perf_counter()
        done = tried(row, name, runs, measures[row.system.split()[0].rstrip(",")])
        records.append(out, done)
        print(f"{line(done)} ({time.perf_counter() - start:.0f} s)", flush=True)
        yield done


def line(done: QwenSpeedRow | QwenSpeedFailure) -> str:
    """A row for a terminal."""
    label = f"{done.system:22s} {called(done):62s}"
    if isinstance(done, QwenSpeedFailure):
        return f"{label} {done.error[:80]}"
    host = "" if done.p50_ms is None else f", p50 {done.p50_ms:.2f}"
    spent = "" if done.kernels_ms is None else f", kernels {done.kernels_ms:.2f}"
    return f"{label} {done.ms_per_batch:8.2f} ms {done.requests_per_s:7.1f}/s MFU {done.mfu:.0%}{host}{spent}"


def profile(done: QwenSpeedRow | QwenSpeedFailure, most: int = 12) -> str:
    """The slowest kernels of a row, a line each."""
    spent = () if isinstance(done, QwenSpeedFailure) else done.kernels or ()
    return "\n".join(f"    {kernel.ms:8.3f} ms x{kernel.calls:4d} {kernel.kernel}" for kernel in spent[:most])


def goals_table(done: Iterable[QwenSpeedRow | QwenSpeedFailure]) -> str:
    """Goals and what was reached, for a terminal."""
    lines = [HEADS, *goal_lines(row for row in done if isinstance(row, QwenSpeedRow))]
    return "\n".join(f"{each[0]:62s} " + " ".join(f"{cell!s:>16}" for cell in each[1:]) for each in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the batches alone that goals are set for")
    parser.add_argument("--rows", default="", help="texts of which one must be in a row's name, with commas")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--profile", action="store_true", help="print the slowest kernels of each batch")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "qwen_speed.jsonl")
    options = parser.parse_args()
    chosen = [*GOALS] if options.quick else rows()
    chosen = [row for row in chosen if any(text in row.name for text in options.rows.split(","))]
    if options.list:
        print("\n".join(row.name for row in chosen))
        return
    done = []
    for row in recorded_rows(chosen, options.runs, options.out, {"octorec": measure_octorec}):
        done.append(row)
        if options.profile:
            print(profile(row), flush=True)
    print(goals_table(done))


if __name__ == "__main__":
    run(main, "cuda")
