"""A request's way to the device and back: searched once, or again with wider beams where that may make it exact."""

import asyncio
import logging
import math
import random
import time
from dataclasses import replace

from octorec.engine.batch import ParsedRequest
from octorec.engine.rank import Ranked
from octorec.engine.widths import as_width
from octorec.errors import NonFiniteError
from octorec.serve.line import Line
from octorec.serve.metrics import Metrics
from octorec.serve.pending import Pending
from octorec.serve.refusal import Refusal

logger = logging.getLogger(__name__)
WINDOW_S = 10.0  # over which the device's time for repeats is looked at


class DeviceShare:
    """A DeviceShare says whether a kind of work has had less than its share of the device's time of late.

    Seconds fade with the age: after `WINDOW_S` to 37 %. A device that works on nothing else adds `WINDOW_S` in all.
    """

    def __init__(self, share: float):
        self.share, self._seconds, self._at = share, 0.0, time.monotonic()

    def add(self, seconds: float) -> None:
        """Count what the device worked for."""
        self._seconds, self._at = self._now() + seconds, time.monotonic()

    @property
    def free(self) -> bool:
        return self._now() < self.share * WINDOW_S

    def _now(self) -> float:
        return self._seconds * math.exp((self._at - time.monotonic()) / WINDOW_S)


class Searches:
    """Searches waits for the device on behalf of requests.

    repeat_share: of the device's time that repeats may take. audit_share: of the answers called exact that are searched
    again at the widest beam, to count whether they were.
    """

    def __init__(self, line: Line, metrics: Metrics, repeat_share: float, audit_share: float):
        self.line, self.metrics, self.audit_share = line, metrics, audit_share
        self._repeats = DeviceShare(repeat_share)
        self._audits: set[asyncio.Task[None]] = set()

    async def search(self, pending: Pending) -> tuple[Ranked, Pending, float]:
        """Return what was found, the search that found it, and when it was there; a Refusal where nothing was in time.

        A repeat that is not there by the deadline, or for which there is no room, leaves the answer that there is.
        """
        ranked, before = await self._once(pending)
        while (wider := pending.serving.engine.wider(ranked)) is not None:
            again = self._repeat(pending, wider)
            if again is None:
                break
            try:
                ranked, before = await self._once(again)
            except Refusal as refusal:
                if refusal.outcome not in ("deadline", "queue_full", "overloaded"):
                    raise
                self.metrics.repeats.labels(refusal.outcome).inc()
                break
            pending = again
            self._repeats.add(pending.finished - pending.started)
            self.metrics.repeats.labels("exact" if ranked.exact else "not_exact").inc()
        self._count(ranked)
        if ranked.exact and random.random() < self.audit_share:
            self._audit(pending, ranked)
        return ranked, pending, before

    def _repeat(self, pending: Pending, wider: ParsedRequest) -> Pending | None:
        """Make the search of a wider beam; None where repeats have had their share of the device."""
        if not self._repeats.free:
            self.metrics.repeats.labels("no_share").inc()
            return None
        return _again(pending, wider)

    async def _once(self, pending: Pending) -> tuple[Ranked, float]:
        """Return what the device found, and when the event loop got it, by time.monotonic()."""
        self.line.submit(pending)
        try:
            async with asyncio.timeout(pending.deadline - time.monotonic()):
                found, row = await pending.future
        except TimeoutError:
            raise Refusal("deadline", "the deadline passed before the answer was there", "deadline_ms") from None
        except Refusal:
            raise
        except Exception as error:
            raise Refusal("failed", "the engine failed on this request; the log has the reason") from error
        finally:
            self.line.leave(pending)
        before = time.monotonic()
        try:
            return found.ranked(row, pending.parsed), before
        except NonFiniteError:
            self.metrics.nonfinite.inc()
            message = f"model {pending.serving.model}: the scores of this request are NaN or infinity"
            raise Refusal("nonfinite", message) from None

    def _count(self, ranked: Ranked) -> None:
        self.metrics.exact.labels("yes" if ranked.exact else "no").inc()
        self.metrics.widths.observe(ranked.request.widths[-1])

    def _audit(self, pending: Pending, ranked: Ranked) -> None:
        """Search again at the widest beam while the client has its answer already."""
        task = asyncio.create_task(self._audited(pending, ranked))
        self._audits.add(task)  # the event loop keeps no reference of its own
        task.add_done_callback(self._audits.discard)

    async def _audited(self, pending: Pending, ranked: Ranked) -> None:
        widest = pending.serving.engine.policy.widest
        if widest == ranked.request.widths or not self._repeats.free:
            return
        again = _again(pending, replace(ranked.request, widths=widest))
        again.deadline = time.monotonic() + WINDOW_S
        try:
            wide, _ = await self._once(again)
        except Refusal:
            return
        self._repeats.add(again.finished - again.started)
        if again.serving is not pending.serving or again.parsed.catalog is not pending.parsed.catalog:
            return  # another version answered by then
        same = wide.items() == ranked.items()
        self.metrics.audits.labels("same" if same else "different").inc()
        if not same:
            about = {"beam_width": as_width(ranked.request.widths), "items": ranked.items(), "widest": wide.items()}
            logger.error("an answer that was called exact is not that of the widest beam", extra=about)


def _again(pending: Pending, parsed: ParsedRequest) -> Pending:
    """Make the request that goes into the queue once more, as another search."""
    earlier = pending.queue_s, pending.device_s
    future = asyncio.get_running_loop().create_future()
    return replace(pending, parsed=parsed, future=future, queued=time.monotonic(), earlier=earlier)
