"""A result is what a load tool found at one rate."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octorec.bench.config import BenchConfig

SHARE = 0.99  # share of good requests from which a rate is within the bound: its p99, an error being infinitely late
TIMER_S = 0.002  # timer jitter of asyncio: lateness below this is not counted as latency
STAGES = ("queue_ms", "device_ms", "encode_ms")  # stages that the server measures


@dataclass(slots=True)
class Sample:
    """A Sample is one request. Times are time.perf_counter(), in seconds.

    due: when it was to be sent. begun: when the tool came to it. outcome: the HTTP status, or what went wrong without
    one. timings: the server's, in milliseconds, of an answer.
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


def summary(samples: Sequence[Sample], rate: float, start: float, config: BenchConfig) -> dict[str, Any]:
    """Return one row. Latencies are of answered requests, in milliseconds.

    goodput_per_s: requests answered within the bound, a second. within: whether 99 % of all requests were.
    outside_device_ms: latency less the time of the batch: waiting, encoding, HTTP, network. late_ms: how late the tool
    itself sent, to tell whether it was the bottleneck. nonfinite: requests whose scores were NaN or infinity.
    """
    answered = [sample for sample in samples if sample.outcome == "200"]
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
        "errors": dict(Counter(sample.outcome for sample in samples if sample.outcome != "200")),
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
