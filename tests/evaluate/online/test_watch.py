"""A variant that fails or is slow is found within the window, and nothing else is."""

import math

import pytest

from octorec.evaluate.online.experiment import Guard
from octorec.evaluate.online.watch import Watch


def watched(guard: Guard, *, requests: int, failed: int = 0, slow: int = 0, at: float = 100.0) -> Watch:
    """`requests` of one variant at one time, of which the first so many failed or took a second."""
    watch = Watch(guard)
    for number in range(requests):
        watch.add("fp8", at, 1000.0 if number < slow else 10.0, number < failed)
    return watch


def test_failures_above_the_share_are_beyond() -> None:
    guard = Guard(window_s=60, requests=100, error_rate=0.02)
    assert watched(guard, requests=100, failed=2).beyond("fp8", 100.0) is None
    said = watched(guard, requests=100, failed=3).beyond("fp8", 100.0)
    assert said == "3.0% of 100 requests in 60 s failed, more than 2.0%"


@pytest.mark.parametrize(("slow", "is_beyond"), [(0, False), (1, True), (5, True)])
def test_the_99th_percentile_is_never_interpolated_away(slow: int, is_beyond: bool) -> None:
    watch = watched(Guard(window_s=60, requests=100, latency_ms=500), requests=100, slow=slow)
    assert (watch.beyond("fp8", 100.0) is not None) == is_beyond
    assert watched(Guard(requests=100, latency_ms=1000), requests=200, slow=200).beyond("fp8", 100.0) is None


def test_few_requests_say_nothing() -> None:
    watch = watched(Guard(window_s=60, requests=100, error_rate=0.001, latency_ms=1), requests=99, failed=99, slow=99)
    assert watch.beyond("fp8", 100.0) is None
    assert watch.beyond("never seen", 100.0) is None


def test_what_is_older_than_the_window_is_forgotten() -> None:
    watch = watched(Guard(window_s=60, requests=100, error_rate=0.5), requests=100, failed=100)
    assert watch.beyond("fp8", math.nextafter(160.0, 0)) is not None
    assert watch.beyond("fp8", 160.0) is None
    assert watch.counts(160.0) == {"fp8": 0}


def test_variants_are_watched_apart() -> None:
    watch = watched(Guard(window_s=60, requests=100, error_rate=0.1), requests=100, failed=50)
    for _ in range(100):
        watch.add("control", 100.0, 10.0, False)
    assert watch.beyond("control", 100.0) is None
    assert watch.beyond("fp8", 100.0) is not None
