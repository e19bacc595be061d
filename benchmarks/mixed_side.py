"""One side of `benchmarks.mixed`: one version of the engine answers requests of several widths that arrive together.

    cd TREE; PYTHONPATH=TREE/src:TREE python -P mixed_side.py PRESET PRECISION DEVICE

It runs in trees of before and after batches were formed by width, so it uses what both have. Prints a JSON object a
line: a kind of traffic with a number of requests, and what they took.
"""

import importlib
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.program import run
from benchmarks.random_model import random_catalog, random_model, random_requests
from benchmarks.skew import EXPONENTS, skew
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.kernels import fused
from octorec.models.onerec import OneRecV2
from octorec.models.presets import preset

Asked = tuple[int, int]  # k, beams
NARROW, MIDDLE, WIDE = (10, 64), (100, 256), (512, 512)
TRAFFIC: dict[str, tuple[tuple[Asked, float], ...]] = {  # what requests ask for, and their share
    "mixed": ((NARROW, 0.7), (MIDDLE, 0.2), (WIDE, 0.1)),
    "k 10 alone": ((NARROW, 1.0),),
    "k 512 alone": ((WIDE, 1.0),),
}
BEAM_WIDTHS = (64, 256, 512)
TOGETHER = (1, 2, 4, 9, 12, 16, 20, 24, 32)  # requests that arrive together
DRAWS = {"mixed": 6, "k 10 alone": 2, "k 512 alone": 2}  # sets of requests of one size
CONTEXT, N_ITEMS = 512, 1_000_000


@dataclass(frozen=True)
class Measured:
    """What sets of requests of one size took. See `MixedRow`."""

    traffic: str
    context: int
    batch_sizes: tuple[int, ...]
    beam_widths: tuple[int, ...]
    requests: int
    live_rows: float
    draws: int
    batches: float
    device_ms: float
    p50_ms: float


class Replays:
    """CUDA graphs that are replayed between `clear` and `ms`: how many, and how long they take on the device."""

    def __init__(self) -> None:
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        whole = torch.cuda.CUDAGraph.replay

        def replay(graph: torch.cuda.CUDAGraph) -> None:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            whole(graph)
            end.record()
            self.events.append((start, end))

        setattr(torch.cuda.CUDAGraph, "replay", replay)  # noqa: B010  # mypy lets no method be assigned

    def clear(self) -> None:
        self.events = []

    def ms(self) -> float:
        """Milliseconds of all replays together."""
        torch.cuda.synchronize()
        return sum(start.elapsed_time(end) for start, end in self.events)


def make_engine(name: str, precision: str, device: str) -> Engine:
    """An engine with the batch sizes that are its version's default; on a GPU every bucket is captured."""
    config = preset(name)
    context, items = min(CONTEXT, config.max_context), N_ITEMS if device == "cuda" else 150
    limits = EngineConfig(max_context=context, beam_widths=BEAM_WIDTHS, default_beam_width=BEAM_WIDTHS[-1])
    if device != "cuda":
        return Engine(small_model(config), random_catalog(config, items), limits)
    model = random_model(config, precision)
    engine = Engine(model, random_catalog(config, items), limits, device, fused)
    skew(model, eager(engine, random_requests(32, items, context, BEAM_WIDTHS[-1])), EXPONENTS["balanced"])
    engine.warm_up()
    return engine


def small_model(config: Any) -> OneRecV2:
    """A model of random weights on the CPU, in float32, for a look at the program without a GPU."""
    model = OneRecV2(config).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.normal_(std=0.02)
    return model


def eager(engine: Engine, requests: list[Request]) -> Callable[[], Any]:
    """A search that Python launches; earlier versions call it otherwise."""
    own: Any = importlib.import_module("benchmarks.engine")
    if hasattr(own, "eager"):
        call: Callable[[], Any] = own.eager(engine, requests)
        return call
    before: Callable[[], Any] = own.search(
        engine, requests, own.Row("octorec", "", "", len(requests), BEAM_WIDTHS[-1], CONTEXT)
    )
    return before


def drawn(traffic: str, number: int, seed: int, engine: Engine) -> list[Request]:
    """A number of requests as `traffic` mixes them."""
    kinds, shares = zip(*TRAFFIC[traffic], strict=True)
    asked = random.Random(seed).choices(kinds, shares, k=number)
    context = engine.config.max_context
    assert context is not None
    made = random_requests(number, len(engine.catalog), context, 1, seed)
    return [Request(one.history, k=k, beam_width=width) for one, (k, width) in zip(made, asked, strict=True)]


@torch.inference_mode()
def measure(engine: Engine, traffic: str, number: int, draws: int, replays: Replays | None) -> Measured:
    """Answer several sets of requests, each after a first time that does not count."""
    device, host, batches, rows = [], [], [], []
    for seed in range(draws):
        requests = drawn(traffic, number, seed, engine)
        engine.recommend(requests)
        if replays is not None:
            replays.clear()
        start = time.perf_counter()
        engine.recommend(requests)
        host.append((time.perf_counter() - start) * 1e3)
        device.append(host[-1] if replays is None else replays.ms())
        batches.append(0 if replays is None else len(replays.events))
        rows.append(sum(int(str(request.beam_width)) for request in requests))
    return Measured(
        traffic, engine.config.max_context or 0, tuple(engine.config.batch_sizes), tuple(engine.config.beam_widths),
        number, statistics.fmean(rows), draws, statistics.fmean(batches), round(statistics.fmean(device), 3),
        round(statistics.median(host), 3),
    )  # fmt: skip


def measured(name: str, precision: str, device: str) -> Iterator[Measured]:
    """Every kind of traffic with every number of requests."""
    engine = make_engine(name, precision, device)
    replays = Replays() if device == "cuda" else None
    for traffic in TRAFFIC:
        for number in TOGETHER if device == "cuda" else TOGETHER[:2]:
            yield measure(engine, traffic, number, DRAWS[traffic] if device == "cuda" else 1, replays)


def main() -> None:
    for one in measured(*sys.argv[1:4]):
        print(json.dumps(asdict(one)), flush=True)


if __name__ == "__main__":
    run(main)
