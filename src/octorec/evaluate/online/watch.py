"""Tell whether a variant is too slow or fails too often, over the last seconds."""

from collections import deque
from collections.abc import Mapping

import numpy as np

from octorec.evaluate.online.experiment import Guard

PERCENTILE = 99.0


class Watch:
    """A Watch counts the requests of the guard's last `window_s` seconds, by variant.

    Times are of one clock that never goes back.
    """

    def __init__(self, guard: Guard):
        self.guard = guard
        self._seen: dict[str, deque[tuple[float, float, bool]]] = {}

    def add(self, variant: str, now: float, latency_ms: float, failed: bool) -> None:
        """Count one request that ended at `now`. failed: through no fault of its sender."""
        self._seen.setdefault(variant, deque()).append((now, latency_ms, failed))
        self._forget(variant, now)

    def counts(self, now: float) -> Mapping[str, int]:
        """Return the requests in the window by variant."""
        for variant in self._seen:
            self._forget(variant, now)
        return {variant: len(seen) for variant, seen in self._seen.items()}

    def beyond(self, variant: str, now: float) -> str | None:
        """Return why the variant is to lose its traffic, in words; None where it is not, or had too few
        requests to say.
        """
        seen = self._seen.get(variant, deque())
        self._forget(variant, now)
        if len(seen) < self.guard.requests:
            return None
        failed = sum(one[2] for one in seen) / len(seen)
        if self.guard.error_rate is not None and failed > self.guard.error_rate:
            return f"{failed:.1%} of {self._asked(seen)} failed, more than {self.guard.error_rate:.1%}"
        if self.guard.latency_ms is None:
            return None
        slow = float(np.percentile([one[1] for one in seen], PERCENTILE, method="higher"))
        if slow <= self.guard.latency_ms:
            return None
        return f"1 % of {self._asked(seen)} took {slow:.0f} ms or more, above {self.guard.latency_ms:g} ms"

    def _asked(self, seen: "deque[tuple[float, float, bool]]") -> str:
        return f"{len(seen):,} requests in {self.guard.window_s:g} s"

    def _forget(self, variant: str, now: float) -> None:
        seen = self._seen.get(variant)
        while seen and seen[0][0] <= now - self.guard.window_s:
            seen.popleft()
