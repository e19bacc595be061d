"""A replica's metrics by way of Ray, which shows those of all replicas on each node's port."""

import asyncio
import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from ray.util.metrics import Gauge

logger = logging.getLogger(__name__)
EVERY_S = 5.0
REPLICA = "octorec_replica"  # the tag; Ray has one of its own in Serve's metrics alone


class RayMetrics:
    """RayMetrics hands every number of a registry to Ray, each as a gauge of its name: counters still only grow."""

    def __init__(self, registry: CollectorRegistry, replica: str):
        self.registry, self.replica = registry, replica
        self._gauges: dict[tuple[str, tuple[str, ...]], Gauge] = {}
        self._going: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to hand over, on the event loop."""
        self._going = asyncio.create_task(self._go_on())

    def stop(self) -> None:
        """End that."""
        if self._going is not None:
            self._going.cancel()

    def hand_over(self) -> None:
        """Set each gauge to the number of now."""
        for name, labels, value in samples(self.registry):
            key = name, tuple(sorted(labels))
            if key not in self._gauges:
                self._gauges[key] = Gauge(name, f"{name} of a replica.", tag_keys=(*key[1], REPLICA))
            self._gauges[key].set(value, {**labels, REPLICA: self.replica})

    async def _go_on(self) -> None:
        while True:
            try:
                self.hand_over()
            except Exception:  # of metrics alone
                logger.exception("metrics could not be handed to Ray")
            await asyncio.sleep(EVERY_S)


def samples(registry: CollectorRegistry) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield each number with its name and labels; when a counter began is left out."""
    for metric in registry.collect():
        for sample in metric.samples:
            if not sample.name.endswith("_created"):
                yield sample.name, dict(sample.labels), sample.value
