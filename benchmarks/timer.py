"""The one timer: CUDA events around each run, warm-up first, median and spread."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one run: median, 20th, 80th and 99th percentile over `runs` runs."""

    median: float
    p20: float
    p80: float
    p99: float
    runs: int


def time_gpu(run: Callable[[], object], runs: int = 20, warmup: int = 3) -> Timing:
    """Time `run` on the current GPU. Events bracket each run; the host waits once, at the end."""
    for _ in range(warmup):
        run()
    torch.cuda.synchronize()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
    for start, end in events:
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return of_samples([start.elapsed_time(end) for start, end in events])


def time_graph(calls: Sequence[Callable[[], object]], runs: int = 20) -> Timing:
    """Time one of `calls`, all captured in one CUDA graph: launches are not measured, nor L2 where memory differs."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    timing = time_gpu(graph.replay, runs)
    n = len(calls)
    return Timing(timing.median / n, timing.p20 / n, timing.p80 / n, timing.p99 / n, timing.runs)


def of_samples(milliseconds: list[float]) -> Timing:
    """The same summary of times taken elsewhere, such as host-to-host ones."""
    ordered = sorted(milliseconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Timing(at(0.5), at(0.2), at(0.8), at(0.99), len(ordered))


def time_on(device: str, run: Callable[[], object], runs: int = 20, warmup: int = 3) -> Timing:
    """Time `run` as `time_gpu` does on a GPU, and by the host's clock elsewhere."""
    if device.startswith("cuda"):
        return time_gpu(run, runs, warmup)
    found = []
    for _ in range(warmup + runs):
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) * 1e3)
    return of_samples(found[warmup:])
