"""`/metrics` shows these counters of an experiment."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from octorec.serve.metrics import SECONDS


class ExperimentMetrics:
    """ExperimentMetrics are counters by variant; requests that are in no experiment are in none of them."""

    def __init__(self, registry: CollectorRegistry):
        of: Any = {"namespace": "octorec", "registry": registry}
        self.requests = Counter(
            "variant_requests",
            "Assigned requests by variant, or `hold out`, and how they ended.",
            ["variant", "outcome"],
            **of,
        )
        self.latency = Histogram(
            "variant_latency_seconds",
            "From the decoded body to the encoded answer, by variant.",
            ["variant"],
            buckets=SECONDS,
            **of,
        )
        self.exposures_lost = Counter("exposures_lost", "Rows of assigned requests that could not be written.", **of)
        self.outcomes = Counter("outcomes", "Outcomes that were taken.", **of)
        self.outcomes_lost = Counter("outcomes_lost", "Outcomes that were taken and could not be written.", **of)
        self.stopped = Gauge("experiment_stopped", "1 while a stop sends every unit to the control.", **of)
        self.stage = Gauge("experiment_stage", "The stage of the experiment that rows state.", **of)
