"""A result is what a load tool found at one rate."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octorec.bench.config import BenchConfig

SHARE = 0.99  # share of good requests from which a rate is within the bound: its p99, an error being infinitely late
TIMER_S = 0.002  # timer jitter of asyncio: lateness below this is not counted as latency
MOST_BUSY = 0.9  # of a core: a process of the tool that computes more is no judge of a server
LATE_SHARE = 0.25  # of the bound: a tool that sends later than this (p99) measures itself
ANSWERED = "200"  # outcome of what was answered, also over gRPC
STAGES = ("queue_ms", "device_ms", "encode_ms")  # stages that the server measures


@dataclass(slots=True)
class Sample:
    """A Sample is one request. Times are time.perf_counter(), in seconds.

    due: when it was to be sent. begun: when the tool came to it. outcome: the HTTP status, 200 and the codes' names
    over gRPC, or what went wrong without one. timings: the server's, in milliseconds, of an answer over HTTP.
    """

    due: float
    begun: float
    done: float
    outcome: str
    size: int
    timings: dict[str, float]
    kind: str = ""  # the type of a refusal, as the server names it

    @property
    def ms(self) -> float:
        return (self.done - min(self.begun, self.due + TIMER_S)) * 1e3


@dataclass(frozen=True)
class Loaded:
    """A Loaded is what came of one rate. start: of what is measured, by time.perf_counter().

    busy: of a core, what the busiest process of the tool computed.
    """

    samples: Sequence[Sample]
    start: float
    busy: float

    @property
    def measured(self) -> list[Sample]:
        """Return the samples after the warm-up."""
        return [sample for sample in self.samples if sample.due >= self.start]


def bottleneck(loaded: Loaded, config: BenchConfig) -> str | None:
    """Say why a load says nothing of the server, as the tool itself was too slow; None where it was not."""
    late = quantiles((sample.begun - sample.due) * 1e3 for sample in loaded.measured).get("p99", 0.0)
    if loaded.busy > MOST_BUSY:
        return (
            f"the load tool itself was the bottleneck: a process took {loaded.busy:.0%} of a core; give it --processes"
        )
    if late > LATE_SHARE * config.bound_ms:
        return f"the load tool itself was the bottleneck: it sent {late:.0f} ms late (p99); give it cores of its own"
    return None


def row_of(loaded: Loaded, rate: float, config: BenchConfig) -> dict[str, Any]:
    """Return the row of one rate: a `summary`, or why there is none (`refused`)."""
    about = {"processes": config.askers, "tool_busy": round(loaded.busy, 3)}
    if why := bottleneck(loaded, config):
        asked = {"request_rate": rate if np.isfinite(rate) else None, "max_concurrency": config.max_concurrency}
        return {**asked, "requests": len(loaded.measured), **about, "refused": why}
    return {**summary(loaded.measured, rate, loaded.start, config), **about}


def summary(samples: Sequence[Sample], rate: float, start: float, config: BenchConfig) -> dict[str, Any]:
    """Return the figures of one rate. Latencies are of answered requests, in milliseconds.

    goodput_per_s: requests answered within the bound, a second. within: whether 99 % of all requests were.
    outside_device_ms: latency less the time of the batch: waiting, encoding, HTTP, network. late_ms: how late the tool
    itself sent, to tell whether it was the bottleneck. nonfinite: requests whose scores were NaN or infinity.
    """
    answered = [sample for sample in samples if sample.outcome == ANSWERED]
    good = sum(sample.ms <= config.bound_ms for sample in answered)
    seconds = max([start + config.duration_s, *(sample.done for sample in samples)]) - start
    timed = [sample for sample in answered if sample.timings]
    return {
        "request_rate": rate if np.isfinite(rate) else None,  # None: as fast as places became free
        "max_concurrency": config.max_concurrency,
        "bound_ms": config.bound_ms,
        "seconds": round(seconds, 2),
        "requests": len(samples),
        "answered": len(answered),
        "errors": dict(Counter(sample.outcome for sample in samples if sample.outcome != ANSWERED)),
        "nonfinite": sum(sample.kind == "nonfinite" for sample in samples),
        "requests_per_s": round(len(answered) / seconds, 2),
        "goodput_per_s": round(good / seconds, 2),
        "within": bool(samples) and good >= SHARE * len(samples),
        "e2el_ms": quantiles(sample.ms for sample in answered),
        **{stage: quantiles(sample.timings[stage] for sample in timed) for stage in STAGES},
        "outside_device_ms": quantiles(sample.ms - sample.timings["device_ms"] for sample in timed),
        "late_ms": quantiles((sample.begun - sample.due) * 1e3 for sample in samples),
        "answer_kb": round(float(np.mean([sample.size for sample in answered])) / 1e3, 2) if answered else None,
    }


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """Return mean, p50, p90, p99 and the largest; an empty dictionary for no values."""
    found = np.fromiter(values, float)
    if not len(found):
        return {}
    p50, p90, p99 = np.quantile(found, [0.5, 0.9, 0.99])
    named = {"mean": found.mean(), "p50": p50, "p90": p90, "p99": p99, "max": found.max()}
    return {name: round(float(value), 3) for name, value in named.items()}
