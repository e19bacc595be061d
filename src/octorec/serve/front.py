"""The server without its HTTP and without its device: one request's way through it, until the last was answered."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar

from octorec.engine.engine import Engine
from octorec.engine.rank import Ranked, by_popularity
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.experiment import Running
from octorec.serve.exposure import Exposure, without_unit
from octorec.serve.guard import GuardTask
from octorec.serve.line import Line
from octorec.serve.metrics import Metrics
from octorec.serve.pending import Pending, Serving
from octorec.serve.recent import Recent
from octorec.serve.refusal import Refusal, invalid
from octorec.serve.schemas import CAPPED, RecommendRequest
from octorec.serve.searches import Searches
from octorec.serve.spans import spans_of
from octorec.serve.tokens import CALLER
from octorec.serve.trace_context import TRACE
from octorec.serve.variants import Variants
from octorec.serve.way_out import SHUTTING_DOWN, WayOut

logger = logging.getLogger(__name__)
Made = TypeVar("Made")
Encode = Callable[[Ranked, Serving], Made]


class Front:
    """A Front answers requests through `line`, which hands them to the device: of this process, or of another.

    variants, running, guard: of the experiment that runs; see `Service`. domains: what answers for further domains of
    a model. compared: what answers beside the server's own engine where somebody asks for it; None: nothing.
    """

    def __init__(
        self,
        model: str,
        config: ServeConfig,
        metrics: Metrics,
        line: Line,
        variants: Variants | None = None,
        share: float = 1.0,
    ):
        """Take a line to the device. share: of its time for repeats and audits, that this process has."""
        self.config, self.metrics, self.model, self.line = config, metrics, model, line
        self.state: Literal["loading", "ready", "ending", "draining", "failed"] = "loading"
        self.error: Exception | None = None  # why loading failed
        shares = config.batch.max_repeat_share * share, config.batch.audit_share
        self.searches = Searches(line, metrics, *shares)
        self.spans = spans_of(config.http.spans)
        self.recent = Recent(config.admin)
        self.accepted = 0  # requests that are owed an answer
        self.way_out = WayOut()
        self.writing = False  # to the record of an experiment
        self.variants = variants
        self.running: Running | None = None
        self.guard: GuardTask | None = None
        self.domains: dict[Engine, Serving] = {}
        self.compared: Serving | None = None
        self.loaded: asyncio.Future[None]  # from `start` on
        self._ends_at: float | None = None  # when draining is to be done

    async def start(self) -> None:
        """Begin to load; `loaded` is done when the server is ready or has failed."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End what `start` began."""
        raise NotImplementedError

    async def metrics_text(self) -> bytes:
        """Return the metrics of all processes of the server."""
        return await asyncio.to_thread(self.metrics.text)

    async def spans_sent(self) -> None:
        """Wait until the last spans are with their collector, for a moment at most."""
        if self.spans is not None:
            await asyncio.to_thread(self.spans.shutdown)

    def drain(self) -> None:
        """Take no further requests."""
        self.state = "draining"
        if self._ends_at is None:
            self._ends_at = time.monotonic() + self.config.drain.drain_timeout_s

    @property
    def left_s(self) -> float:
        """Return the seconds that are left of the way out, once `drain` was called."""
        assert self._ends_at is not None
        return max(0.0, self._ends_at - time.monotonic())

    async def drained(self) -> None:
        while self.accepted:
            await asyncio.sleep(0.02)

    async def written(self) -> None:
        """Wait until nothing is being written to the record of an experiment."""
        while self.writing:
            await asyncio.sleep(0.02)

    async def give_up(self) -> None:
        """Refuse what is still open: requests that wait or run, then whatever else the ports have."""
        self.way_out.unanswered += self.accepted
        self.line.give_up(Refusal("draining", SHUTTING_DOWN))
        for _ in range(10):  # they are told by their own handlers
            await asyncio.sleep(0.01)
        self.way_out.give_up()

    @property
    def serving(self) -> Serving:
        assert self.line.serving is not None
        return self.line.serving

    @property
    def not_live(self) -> str | None:
        """Return why the process should be ended, or None."""
        if self.state == "failed":
            return f"loading failed: {self.error}"
        return None if self.state == "loading" else self.line.stuck

    @property
    def not_ready(self) -> str | None:
        """Return why no request should be sent here, or None."""
        return self.not_live or (None if self.state == "ready" else self.state)

    def refuse_early(self, client: str, deadline_ms: float | None = None) -> None:
        """Raise a Refusal where a further request of a client would only be refused later; before more work on it.

        deadline_ms: the request's, as far as it is known; None before its body is read.
        """
        self.refuse_unless_ready()
        self.line.refuse_if_full(client)
        if deadline_ms is not None and self.line.waiting:
            self.line.refuse_if_late(client, time.monotonic() + deadline_ms / 1e3)

    async def answer(
        self,
        asked: RecommendRequest,
        request_id: str,
        encode: Encode[Made],
        exposure: Exposure | None = None,
        client: str = "",
        by: Serving | None = None,
    ) -> tuple[Made, dict[str, float]]:
        """Return what `encode` makes of the answer to a checked request, and its stages in ms, or raise a Refusal.

        encode: is given what answered too. exposure: says which variant answers. client: whose turn it takes in the
        queue. by: what answers, if not the server's own engine or the variant's.
        """
        self.refuse_unless_ready()
        self.accepted += 1
        try:
            return await self._answer(self._accept(asked, request_id, exposure, client, by), encode, exposure)
        finally:
            self.accepted -= 1

    async def _answer(
        self, pending: Pending, encode: Encode[Made], exposure: Exposure | None
    ) -> tuple[Made, dict[str, float]]:
        if pending.parsed.source == "popularity":
            before = pending.started = pending.finished = time.monotonic()
            ranked = await asyncio.to_thread(by_popularity, pending.parsed)  # may look at every item of a catalog
        else:
            ranked, pending, before = await self.searches.search(pending)
            if pending.request is not None and (self.compared is None or pending.serving is self.serving):
                self.recent.add(pending.request)
        if exposure is not None:
            exposure.ranked = ranked
        if not ranked.complete:
            await asyncio.to_thread(lambda: ranked.notes)  # counts items, once for each union of sets
        made = encode(ranked, pending.serving)
        now = time.monotonic()
        stages = {"queue": pending.queue_s, "device": pending.device_s, "encode": now - before}
        for stage, seconds in stages.items():
            self.metrics.stage.labels(stage).observe(seconds)
        if self.spans is not None:
            self.spans.ranked(pending.trace, ranked, before, now)
        if not ranked.complete:
            self.metrics.incomplete.inc()
        milliseconds = {f"{stage}_ms": seconds * 1e3 for stage, seconds in stages.items()}
        return made, {**milliseconds, "total_ms": (now - pending.arrived) * 1e3}

    def _accept(
        self, asked: RecommendRequest, request_id: str, exposure: Exposure | None, client: str, by: Serving | None
    ) -> Pending:
        """Check a request against what answers now, unless the queue is full."""
        self.line.refuse_if_full(client)
        arrived = time.monotonic()
        serving = self.serving if by is None else by  # once: the device thread may put another in its place
        engine = serving.engine
        width: Any = asked.beam_width
        user = asked.user
        if exposure is not None:
            serving = exposure.answering.serving
            width = exposure.answering.beam_width if width is None else width
        try:
            if self.config.ab.unit_field in user:
                user = without_unit(user, self.config, serving.engine)
            scope = "" if self.config.engine.prefix_shared else CALLER.get()
            request = replace(self._with_defaults(asked.request(width, user)), scope=scope)
            serving = self.domains.get(engine.of(request), serving) if self.domains else serving
            parsed = serving.engine.parse(request, self.line.drop_unknown)
        except InputError as error:
            raise invalid(error) from None
        if self.config.http.show_prompt and parsed.tokens is not None and engine.prompts is not None:
            shown = {"request_id": request_id, "prompt": engine.prompts.describe(parsed.tokens)}
            logger.info("prompt", extra=shown)
        deadline = arrived + (asked.deadline_ms or self.config.batch.default_deadline_ms) / 1e3
        future = asyncio.get_running_loop().create_future()
        about: dict[str, Any] = {"client": client, "request_id": request_id, "trace": TRACE.get()}
        return Pending(request, serving, parsed, deadline, future, arrived, arrived, **about)

    def _with_defaults(self, request: Request) -> Request:
        """Return a request with the server's domain, task and caps where it names none; text and ids may end with a
        domain's begin token."""
        own, changes = self.config.engine, dict[str, Any]()
        if own.domain is not None and not request.domain and request.prompted in (None, "messages"):
            changes["domain"] = own.domain
        if own.task is not None and request.task is None and request.prompted is None:
            changes["task"] = own.task
        if not any(getattr(request, name) is not None for name in CAPPED):
            changes |= {name: getattr(own, name) for name in CAPPED if getattr(own, name) is not None}
        return replace(request, **changes) if changes else request

    def refuse_unless_ready(self) -> None:
        """Refuse what comes while the server loads or shuts down."""
        if self.state == "draining":
            raise Refusal("draining", SHUTTING_DOWN)
        if self.state not in ("ready", "ending"):
            raise Refusal("not_ready", "the server is still loading")
