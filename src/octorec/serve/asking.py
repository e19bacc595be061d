"""A request's way from bytes to its end, counted and logged, by whatever address it came."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

from fastapi import Request

from octorec.engine.rank import Ranked
from octorec.serve.door import Door
from octorec.serve.exposure import Exposure
from octorec.serve.front import Front, Made
from octorec.serve.pending import Serving
from octorec.serve.refusal import STATUS, Refusal
from octorec.serve.schemas import RecommendRequest
from octorec.serve.trace_context import TRACE

logger = logging.getLogger(__name__)
REQUEST_ID = re.compile(r"[!-~]{1,128}")
LOG_AFTER_S = 0.01  # a request's line waits until its client has read the answer; `logged` waits for the last
OF_BODIES = ("malformed", "too_large", "unsupported_media")
Encode = Callable[[RecommendRequest, str, Ranked, Serving], Made]


@dataclass(frozen=True)
class Ended(Generic[Made]):
    """An Ended says how a request ended: it was refused, or has what was made of its answer. milliseconds: by stage."""

    request_id: str
    refusal: Refusal | None = None
    made: Made | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)


class Asking:
    """Asking has a service answer HTTP requests. fields: those of bodies that the metrics may name."""

    def __init__(self, service: Front, fields: Collection[str]):
        self.service, self.config = service, service.config
        self.door = Door(service)
        self._fields = {"body", "authorization", "content-encoding", *fields}

    async def one(
        self,
        raw: object,
        check: Callable[[], RecommendRequest],
        encode: Encode[Made],
        request_id: str,
        client: str,
        by: Serving | None = None,
    ) -> Ended[Made]:
        """Return how one request of a client ended.

        raw: a body whose `user` says whom it is for, and that may have a `deadline_ms`. check: returns the request.
        by: what answers, outside of any experiment; None: what answers everybody.
        """
        start, running = time.monotonic(), self.service.running
        exposure = None
        try:
            self.door.refuse_late(client, raw)
            if running is not None and by is None:
                exposure = running.exposed(raw)
            asked = check()
            request_id = asked.request_id or request_id
            encoded = partial(encode, asked, request_id)
            made, milliseconds = await self.service.answer(asked, request_id, encoded, exposure, client, by)
        except Refusal as refusal:
            self._ended(refusal.outcome, refusal, request_id, start, exposure)
            await self.door.held(client, refusal)
            return Ended(request_id, refusal)
        except asyncio.CancelledError:
            self._ended("cancelled", None, request_id, start, exposure)
            raise
        except Exception:
            logger.exception("a request failed", extra={"request_id": request_id})
            failure = Refusal("failed", "the server failed on this request; the log has the reason")
            self._ended("failed", failure, request_id, start, exposure)
            return Ended(request_id, failure)
        self._ended("ok", None, request_id, start, exposure)
        return Ended(request_id, None, made, milliseconds)

    def refused(self, refusal: Refusal, request_id: str) -> None:
        """Count and log a body that was refused as a whole."""
        self._ended(refusal.outcome, refusal, request_id, time.monotonic())

    def _ended(
        self, outcome: str, refusal: Refusal | None, request_id: str, start: float, exposure: Exposure | None = None
    ) -> None:
        self.service.metrics.requests.labels(outcome).inc()
        seconds = time.monotonic() - start
        if outcome == "ok":
            self.service.metrics.e2e.observe(seconds)
        about = {"request_id": request_id, "outcome": outcome, "status": STATUS[outcome], "ms": round(seconds * 1e3, 3)}
        if (trace := TRACE.get()) is not None:
            about |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
        if exposure is not None and self.service.running is not None:
            self.service.running.ended(exposure, outcome, request_id, seconds)
            about |= {"variant": exposure.assignment.variant, "group": exposure.assignment.group}
        if refusal is not None:
            about |= {"field": refusal.field, "reason": refusal.message}
            if refusal.outcome == "invalid" or refusal.outcome in OF_BODIES:
                top = (refusal.field or "body").partition(".")[0]
                self.service.metrics.invalid.labels(top if top in self._fields else "unknown").inc()
        if self.config.http.log_requests:
            asyncio.get_running_loop().call_later(LOG_AFTER_S, partial(logger.info, "request", extra=about))

    async def logged(self) -> None:
        """Wait for the lines of requests that have ended."""
        await asyncio.sleep(LOG_AFTER_S)


def request_id_of(http: Request) -> str:
    """Return the id that a request's header gives it, else a new one."""
    given = http.headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
