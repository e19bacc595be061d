"""Dynamic batching: one thread owns the device, the event loop hands it requests and never waits for it."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from octorec.engine.engine import Engine
from octorec.engine.rank import Found
from octorec.engine.widths import Widths, holds
from octorec.errors import InputError
from octorec.serve.fair_queue import FairQueue
from octorec.serve.in_time import chosen
from octorec.serve.metrics import Metrics
from octorec.serve.pace import Pace
from octorec.serve.pending import Pending, Serving, Stale, about
from octorec.serve.refusal import Refusal, invalid
from octorec.serve.settle import Outcome, caught, deliver, settle
from octorec.serve.spans import Spans

logger = logging.getLogger(__name__)
PAUSE_S = 0.1  # before the queue is tried again
CALL_LIMIT_S = 600.0  # between two batches: a switch of versions, captures of another model


@dataclass
class _Call:
    """A _Call is something to do between two batches."""

    run: Callable[[], Any]
    future: "asyncio.Future[Any]"


class Batcher:
    """A Batcher has the queue and the device thread.

    An idle engine takes what is there at once. A busy one, when free again, takes up to `max_batch` of what came in the
    meantime, or waits for more until the oldest has waited `max_delay_s`.
    """

    def __init__(self, max_queued: int, max_delay_s: float, stuck_after_s: float, drop_unknown: bool, metrics: Metrics):
        self.max_delay_s, self.stuck_after_s = max_delay_s, stuck_after_s
        self.drop_unknown, self.metrics = drop_unknown, metrics
        self.max_batch = 1
        self.serving: Serving | None = None  # None until `start`
        self.others: tuple[Serving, ...] = ()  # those of an experiment's variants, which nothing replaces
        self.running = 0
        self._on_device: list[Pending] = []
        self.broken: str | None = None  # why the device answers nobody any more
        self.queue: FairQueue[Pending] = FairQueue(max_queued)
        self._paces: WeakKeyDictionary[Engine, Pace] = WeakKeyDictionary()
        self._lag = 0.0  # seconds from the end of a batch until the event loop tells of it, of late
        self._free_at = 0.0  # when the batch on the device is expected to be done
        self._calls: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._overdue_at: float | None = None  # when what the device does now has taken too long
        self.spans: Spans | None = None
        self.took: Callable[[], None] | None = None  # called when a batch was taken from the queue

    def start(
        self, serving: Serving, max_batch: int, loop: asyncio.AbstractEventLoop, others: tuple[Serving, ...] = ()
    ) -> None:
        self.serving, self.others, self.max_batch, self._loop = serving, others, max_batch, loop
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End the thread once the queue is empty; False if it still runs after `timeout_s`."""
        if self.serving is None:
            return True
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        return len(self.queue)

    @property
    def stuck(self) -> str | None:
        """Return why the device thread will not go on, or None."""
        overdue_at = self._overdue_at
        if self.broken:
            return self.broken
        if overdue_at is not None and time.monotonic() > overdue_at:
            return "the device has not come back from its work in time"
        if self.serving is None or self._stopping or self._thread.is_alive():
            return None
        return "the device thread has ended"

    def pace(self, engine: Engine) -> Pace:
        """Return how long the batches of an engine take, as far as it is known."""
        return self._paces.setdefault(engine, Pace())

    def refuse_if_full(self, client: str = "") -> None:
        """Raise a Refusal where no further request of a client may wait; called before the work of reading one."""
        with self._changed:
            full = not self.queue.has_room(client)
        if full:
            raise self._full()

    def refuse_if_late(self, client: str, deadline: float, widths: Widths | None = None) -> None:
        """Raise a Refusal where a further request cannot be answered by its deadline.

        widths: of its beams; None where these are not known yet: then those of the server's default. An idle device
        takes everything, so that its pace is measured whatever it was.
        """
        serving = self.serving
        if serving is None or not (self.running or self.queue):
            return
        engine = serving.engine
        beams = engine.policy.default_beams if widths is None else engine.policy.buckets.beams_of(widths)
        now, wait = time.monotonic(), self._wait(engine, client, beams)
        if now + wait > deadline:
            left = max(0.0, deadline - now)
            said = f"an answer would take {wait:.2f} s, of which the deadline leaves {left:.2f} s"
            raise Refusal("overloaded", said, "deadline_ms", wait - left)

    def _wait(self, engine: Engine, client: str, beams: Widths) -> float:
        """Return in how many seconds a further request would be answered, were all others of its beams."""
        most, pace = min(self.max_batch, engine.policy.buckets.most(beams)), self.pace(engine)
        with self._changed:
            batches, before = divmod(self.queue.ahead(client), most)
        running = max(0.0, self._free_at - time.monotonic()) if self.running else 0.0
        whole = batches * pace.expected(beams, most) if batches else 0.0
        return self._lag + running + whole + pace.expected(beams, _rows(engine, before + 1, beams))

    def outlook(self) -> dict[str, float]:
        """Return what says when a further request with the default's beams would be answered; see `workers.board`."""
        assert self.serving is not None
        engine = self.serving.engine
        beams = engine.policy.default_beams
        most, pace = min(self.max_batch, engine.policy.buckets.most(beams)), self.pace(engine)
        one, whole = (pace.expected(beams, _rows(engine, requests, beams)) for requests in (1, most))
        return {"free_at": self._free_at, "lag": self._lag, "rows": most, "one_s": one, "whole_s": whole}

    def watch(self, queued: Callable[[str, int], None], took: Callable[[], None]) -> None:
        """Call `queued` with a client and how many of its requests wait, as that changes, `took` after each batch."""
        with self._changed:
            self.queue.changed, self.took = queued, took

    def _full(self) -> Refusal:
        serving = self.serving
        wait = 0.0
        if serving is not None:
            beams = serving.engine.policy.default_beams
            wait = self._wait(serving.engine, "", beams) / 2  # by then half of the places are free
        return Refusal("queue_full", f"{self.queue.most} requests are waiting already", retry_after_s=wait)

    def submit(self, pending: Pending) -> None:
        """Put a request into the queue; a Refusal at once where it is full, or where the answer would be late."""
        with self._changed:
            if not pending.again:
                self.refuse_if_full(pending.client)
            self.refuse_if_late(pending.client, pending.deadline, pending.parsed.widths)
            gone = self.queue.add(pending)
            self._changed.notify()
        if gone is not None:
            settle(gone.future, self._full())

    def give_up(self, refusal: Refusal) -> int:
        """End every request that waits or runs without an answer; returns how many wait."""
        with self._changed:
            waiting = list(self.queue)
            for pending in waiting:
                self.queue.remove(pending)
            running = self._on_device
        for pending in (*waiting, *running):
            settle(pending.future, refusal)
        return len(waiting)

    def leave(self, pending: Pending) -> None:
        """Drop a request that nobody waits for any more from the queue; one on the device ends with its batch."""
        with self._changed:
            self.queue.remove(pending)

    async def between_batches(self, run: Callable[[], Any]) -> Any:
        """Return what `run()` gives on the device thread, while no batch is there."""
        call = _Call(run, self._loop.create_future())
        with self._changed:
            self._calls.append(call)
            self._changed.notify()
        return await call.future

    def _work(self) -> None:
        """Run the thread. An error fails the requests or the call that it comes from; the thread goes on."""
        idle = True
        tell: Callable[[], None] | None = None
        while (job := self._next_job(idle, wait=tell is None)) is not None or tell is not None:
            # Clients are told of a batch once the next is on the device: their answers keep the interpreter busy
            wait: Any = caught(partial(self._start, job)) if isinstance(job, list) else None
            if tell is not None:
                self._on_loop(tell)
                tell = None
            if isinstance(job, list):
                tell = partial(self._tell, job, self._outcomes(job, wait))
            elif isinstance(job, _Call):
                self._overdue_at = time.monotonic() + CALL_LIMIT_S
                self._on_loop(partial(settle, job.future, caught(job.run)))
            self._overdue_at = None
            if job is not None:  # who asks again on being told finds the device as idle as it was
                idle = not self.queue

    def _next_job(self, idle: bool, wait: bool) -> "_Call | list[Pending] | None":
        """Return what `_next` does; where that fails, no requests."""
        job = caught(partial(self._next, idle, wait))
        if not isinstance(job, Exception):
            return job
        logger.error("the queue failed", exc_info=job)
        time.sleep(PAUSE_S)
        return []

    def _outcomes(self, batch: list[Pending], wait: "Callable[[], list[Outcome]] | Exception") -> list[Outcome]:
        """Return what `wait` gives; where it fails, or starting the batch did, that is every request's outcome."""
        outcomes = wait if isinstance(wait, Exception) else caught(wait)
        self.running, self._on_device = 0, []
        if not isinstance(outcomes, Exception):
            return outcomes
        logger.error("a batch failed", extra=about(batch), exc_info=outcomes)
        return [outcomes] * len(batch)

    def _on_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            logger.warning("the event loop has ended: nobody waits for what was found")

    def _next(self, idle: bool, wait: bool) -> "_Call | list[Pending] | None":
        """Return what to do next; None at the end, or without `wait` where there is nothing yet.

        idle: nobody waited when the last was done.
        """
        with self._changed:
            while not self._calls:
                if self.queue:
                    left = 0.0 if idle else self.queue.oldest.arrived + self.max_delay_s - time.monotonic()
                    if left <= 0 or len(self.queue) >= self.max_batch or self._stopping:
                        return self._take()
                elif self._stopping:
                    return None
                else:
                    idle, left = True, None
                if not wait:
                    return None
                self._changed.wait(left)
            return self._calls.popleft()

    def _take(self) -> list[Pending]:
        """Take who is next and in time, and others that the same engine answers in the same bucket.

        These are the next that need as wide beams; a narrower one takes a row that would be computed for nobody.
        """
        now = time.monotonic()
        for pending in [one for one in self.queue if now >= one.deadline]:  # their handlers' own timeouts answer
            self.queue.remove(pending)
        if not self.queue:
            return []
        queue = list(self.queue)
        serving = self._answering(queue[0])
        engine, buckets = serving.engine, serving.engine.policy.buckets
        beams = buckets.beams_of(queue[0].parsed.widths)
        alike = [one for one in queue if not self.others or self._answering(one) is serving]
        wide = [one for one in alike if buckets.beams_of(one.parsed.widths) == beams]
        most, pace = min(self.max_batch, buckets.most(beams)), self.pace(engine)
        batch, late = chosen(wide, most, now, lambda size: self._lag + pace.longest(beams, _rows(engine, size, beams)))
        self._refuse_late(late)
        batch = batch[: engine.fitting([one.parsed for one in batch])]
        empty = min(self.max_batch, buckets.size_of(len(batch), beams)) - len(batch)
        if empty and engine.rows_are_fixed:
            taken = {*wide}
            batch += [one for one in alike if one not in taken and holds(beams, one.parsed.widths)][:empty]
            batch = batch[: engine.fitting([one.parsed for one in batch])]
        for pending in batch:
            pending.started = now
            self.queue.serve(pending)
        self.running, self._on_device = len(batch), batch
        self._free_at = now + pace.expected(beams, _rows(engine, len(batch), beams))
        if self.took is not None:
            self.took()
        return batch

    def _tell(self, batch: list[Pending], outcomes: list[Outcome]) -> None:
        """Tell clients what came of their batch, on the event loop."""
        if batch:
            lag = time.monotonic() - batch[0].finished if batch[0].finished else 0.0
            self._lag += (lag - self._lag) / 4
        deliver(batch, outcomes)
        if self.spans is not None:
            self.spans.searched(batch, outcomes)

    def _refuse_late(self, late: list[Pending]) -> None:
        """Refuse requests whose answers would be late, before they take the device's time."""
        for pending in late:
            self.queue.remove(pending)
        if late:
            refusal = Refusal("overloaded", "the deadline leaves less time than a batch takes", "deadline_ms")
            self._on_loop(partial(deliver, late, [refusal] * len(late)))

    def _answering(self, pending: Pending) -> Serving:
        """Return what answers a request now: the engine of its variant, else the one that serves by now."""
        assert self.serving is not None
        return pending.serving if pending.serving in self.others else self.serving

    def _start(self, batch: list[Pending]) -> Callable[[], list[Outcome]]:
        """Put a batch on the device; the result waits for it and gives every request's outcome."""
        self._overdue_at = time.monotonic() + self.stuck_after_s
        refused = {pending: self._parse_again(pending) for pending in batch}
        left = [pending for pending in batch if refused[pending] is None]
        search = self._launch(left) if left else dict

        def outcomes() -> list[Outcome]:
            found = search()
            for pending in batch:
                pending.finished = time.monotonic()
            return [refused[pending] or found[pending] for pending in batch]

        return outcomes

    def _parse_again(self, pending: Pending) -> Exception | None:
        """Parse a request for the version that answers, where it was parsed for another; say why it cannot, or None."""
        serving = self._answering(pending)
        engine = serving.engine
        if pending.serving is serving and pending.parsed.catalog is engine.catalog:
            return None
        if pending.request is None:
            return Stale()
        try:
            pending.parsed, pending.serving = engine.parse(pending.request, self.drop_unknown), serving
        except InputError as error:
            return invalid(error)
        except Exception as error:
            logger.error("a request could not be parsed again", exc_info=error)
            return error
        return None

    def _launch(self, batch: list[Pending]) -> Callable[[], dict[Pending, Outcome]]:
        """Start the search of requests that are all valid; where the batch fails, each is tried again alone."""
        parsed = [pending.parsed for pending in batch]
        serving = batch[0].serving
        try:
            search = serving.engine.launch(parsed)
        except Exception as error:
            return partial(self._failed, batch, error)

        def outcomes() -> dict[Pending, Outcome]:
            try:
                found = search()
            except Exception as error:
                return self._failed(batch, error)
            if serving is self.serving:
                self.broken = None
            self._count(serving.engine, found, batch)
            return {pending: (found, row) for row, pending in enumerate(batch)}

        return outcomes

    def _count(self, engine: Engine, found: Found, batch: list[Pending]) -> None:
        parsed = [pending.parsed for pending in batch]
        try:
            bucket = engine.bucket_of(parsed)
            self.pace(engine).add(bucket.widths, bucket.size, time.monotonic() - batch[0].started)
            self.metrics.batch_ran(len(parsed), self.max_batch, found, sum(request.widths[-1] for request in parsed))
            if engine.prefixes is not None:
                self.metrics.prompts_read([len(one.tokens) for one in parsed if one.tokens is not None], found.cached)
        except Exception as error:  # of counting alone: the answers are there
            logger.error("a batch was not counted", exc_info=error)

    def _failed(self, batch: list[Pending], error: Exception) -> dict[Pending, Outcome]:
        logger.error("a batch failed", extra=about(batch), exc_info=error)
        if len(batch) == 1:
            self._check_device()
            return {batch[0]: error}
        self.metrics.retries.inc()
        outcomes: dict[Pending, Outcome] = {}
        for alone in batch:
            self._overdue_at = time.monotonic() + self.stuck_after_s
            outcomes |= self._launch([alone])()
        return outcomes

    def _check_device(self) -> None:
        """Check whether the device still answers a request that cannot be at fault, and set `broken`."""
        assert self.serving is not None
        engine = self.serving.engine
        outcome = caught(lambda: engine.search([engine.parse(engine.any_request())]))
        self.broken = f"the device fails on every request: {outcome}" if isinstance(outcome, Exception) else None


def _rows(engine: Engine, requests: int, beams: Widths) -> int:
    """Return the rows that a batch of `requests` has."""
    return engine.policy.buckets.size_of(requests, beams) if engine.rows_are_fixed else requests
