"""Metrics of several processes add up: what each worker ever counted, and what the engine process counts."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector


class _Summed:
    """A _Summed stands for a registry of metrics that were summed."""

    def __init__(self, metrics: Iterable[Metric]):
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self._metrics


def merged(folder: str, engines: Iterable[Metric] | None) -> bytes:
    """Return the text of all metrics. folder: of the workers' files. engines: those of the engine process."""
    found: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    about: dict[str, Metric] = {}
    workers = MultiProcessCollector(CollectorRegistry(), folder).collect()  # type: ignore[no-untyped-call]
    for metric in (*(engines or ()), *workers):
        about.setdefault(metric.name, metric)
        values = found.setdefault(metric.name, {})
        for sample in metric.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            values[key] = values.get(key, 0.0) + sample.value
    return generate_latest(_Summed(_made(about[name], values) for name, values in found.items()))  # type: ignore[arg-type]


def _made(like: Metric, values: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> Metric:
    metric = Metric(like.name, like.documentation, like.type)
    for (name, labels), value in values.items():
        metric.add_sample(name, dict(labels), value)
    return metric
