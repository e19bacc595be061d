"""`/metrics` shows these metrics; each server has a registry of its own."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from octorec.engine.rank import Found

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0)
WIDTHS = tuple(2**power for power in range(17))
LOST = ("full", "sampled", "failed")
SHARES = tuple(step / 10 for step in range(11))


class Metrics:
    """Metrics are counters, histograms and gauges with the prefix `octorec_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of: Any = {"namespace": "octorec", "registry": self.registry}
        self.requests = Counter("requests", "Requests by how they ended.", ["outcome"], **of)
        self.invalid = Counter("invalid_fields", "Refused requests by the field that was wrong.", ["field"], **of)
        self.incomplete = Counter("incomplete", "Answers with fewer than k items.", **of)
        self.exact = Counter("exact", "Answers of the model by whether they are exact.", ["exact"], **of)
        self.repeats = Counter(
            "repeats", "Searches to be repeated with wider beams, by what came of it.", ["outcome"], **of
        )
        self.widths = Histogram("beam_width", "Beams of the last level of answered requests.", buckets=WIDTHS, **of)
        self.audits = Counter("audits", "Exact answers searched again at the widest beam.", ["items"], **of)
        self.nonfinite = Counter("nonfinite", "Requests whose scores were NaN or infinity.", **of)
        self.e2e = Histogram(
            "e2e_request_latency_seconds", "From the decoded body to the encoded answer.", buckets=SECONDS, **of
        )
        self.stage = Histogram(
            "stage_latency_seconds", "Seconds of an answered request by stage.", ["stage"], buckets=SECONDS, **of
        )
        self.batches = Counter("batches", "Batches that ran on the device.", **of)
        self.retries = Counter("batch_retries", "Batches that failed and whose requests were tried alone.", **of)
        self.fill = Histogram("batch_fill_ratio", "Requests of a batch over max_batch_size.", buckets=SHARES, **of)
        self.waste = Histogram(
            "padding_waste_ratio", "Share of a batch's beams that no request asked for.", buckets=SHARES, **of
        )
        self.prefixes = Counter("prefix_lookups", "Prompts by whether their beginning was kept.", ["outcome"], **of)
        self.prefix_tokens = Counter("prefix_tokens", "Tokens of prompts, cached or computed.", ["source"], **of)
        self.operations = Counter("admin_operations", "Operations by outcome.", ["operation", "outcome"], **of)
        last = {**of, "multiprocess_mode": "livemostrecent"}
        self.refresh_overlap = Gauge("refresh_overlap", "Share of items of the newest comparison of weights.", **last)
        self.refresh_drift = Gauge("refresh_drift", "Mean drift of the newest comparison of weights, in nats.", **last)
        self.refresh_paused = Gauge("refresh_pause_seconds", "The newest refresh: for which no batch ran.", **last)
        for gauge in (self.refresh_overlap, self.refresh_drift, self.refresh_paused):
            gauge.set(math.nan)  # until there was one
        live = {**of, "multiprocess_mode": "livesum"}  # of HTTP workers: a sum over those that run
        self.version = Gauge("version_info", "1 for what answers now.", ["model", "catalog"], **live)
        self.connections = Gauge("connections", "Open connections of both ports.", **live)
        self.connections_ended = Counter("connections_ended", "Connections that the server ended.", ["why"], **of)
        self.no_descriptors = Counter("no_descriptors", "Seconds in which the process could open nothing more.", **of)
        self._age = Gauge("catalog_age_seconds", "Since the catalog version that answers was put in place.", **live)
        self._of = of

    def watch(
        self, running: Callable[[], int], waiting: Callable[[], int], prefix_bytes: Callable[[], int], on_gpu: bool
    ) -> None:
        """Add gauges that are read when asked for."""
        kept = Gauge("prefix_cache_bytes", "Memory of the beginnings of prompts that are kept.", **self._of)
        kept.set_function(prefix_bytes)
        Gauge("num_requests_running", "Requests on the device.", **self._of).set_function(running)
        Gauge("num_requests_waiting", "Requests in the queue.", **self._of).set_function(waiting)
        if on_gpu:
            memory = Gauge("gpu_memory_bytes", "Memory of the GPU that the process keeps.", **self._of)
            memory.set_function(torch.cuda.memory_reserved)

    def watch_log(self, lost: Mapping[str, int]) -> None:
        """Add gauges of the lines of the log that were lost, by why."""
        lines = self.lines_lost()
        for why in LOST:
            lines.labels(why).set_function(partial(lost.__getitem__, why))

    def lines_lost(self) -> Gauge:
        """Add the gauge of lines that were lost, of HTTP workers the sum over all that ever ran."""
        of = {**self._of, "multiprocess_mode": "sum"}
        return Gauge("log_lines_lost", "Lines of the log that were not written.", ["why"], **of)

    def now_serving(self, model: str, catalog: str) -> None:
        since = time.monotonic()
        self.version.clear()
        self.version.labels(model, catalog).set(1)
        self._age.set_function(lambda: time.monotonic() - since)

    def batch_ran(self, requests: int, max_batch: int, found: Found, beams: int) -> None:
        """Count a batch. beams: the sum of the requests' beam widths; the bucket has `found.scores.size`."""
        self.batches.inc()
        self.fill.observe(requests / max_batch)
        self.waste.observe(1 - beams / found.scores.size)

    def prompts_read(self, tokens: Sequence[int], cached: Sequence[int]) -> None:
        """Count prompts of an engine that keeps their beginnings. tokens, cached: how many of each, and of those."""
        for one in cached:
            self.prefixes.labels("hit" if one else "miss").inc()
        self.prefix_tokens.labels("cached").inc(sum(cached))
        self.prefix_tokens.labels("computed").inc(sum(tokens) - sum(cached))

    def text(self) -> bytes:
        return generate_latest(self.registry)
