"""POST /v1/recommend: from the bytes of a body to the bytes of an answer, each ending counted and logged."""

import asyncio
import logging
import re
import time
import uuid
from functools import partial

import orjson
from fastapi import Request, Response

from octorec.serve.access import HungUp, decoded, unless_hung_up
from octorec.serve.door import Door
from octorec.serve.encode import encode_list
from octorec.serve.exposure import Exposure
from octorec.serve.refusal import STATUS, Refusal
from octorec.serve.schemas import RecommendRequest, checked
from octorec.serve.service import Service

logger = logging.getLogger(__name__)
REQUEST_ID = re.compile(r"[!-~]{1,128}")
Ended = tuple[Refusal | None, bytes]  # a request's encoded answer, or its Refusal and the encoded error
LOG_AFTER_S = 0.01  # a request's line waits until its client has read the answer; `logged` waits for the last
FIELDS = {"body", "authorization", "content-encoding", *RecommendRequest.model_fields}  # labels of invalid_fields


class Recommender:
    """A Recommender answers HTTP requests from a service."""

    def __init__(self, service: Service):
        self.service, self.config = service, service.config
        self.door = Door(service)

    async def __call__(self, http: Request) -> Response:
        given = http.headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        headers = {"X-Request-ID": request_id}
        try:
            client, raw = await self._decoded(http)
            async with unless_hung_up(http):
                answered = await self._all(raw, request_id, client)
        except HungUp:  # each request was counted where it was cancelled
            return _json(b"", STATUS["cancelled"], headers)
        except Refusal as refusal:  # of the body as a whole
            return self._refused(refusal, request_id, headers, time.monotonic())
        if isinstance(raw, list):
            return _json(encode_list([body for _, body in answered]), 200, headers)
        ended, body = answered[0]
        if ended is None:
            return _json(body, 200, headers)
        return _json(body, ended.status, {**headers, **ended.headers})

    async def _decoded(self, http: Request) -> tuple[str, object]:
        client, body = await self.door.enter(http)
        raw = decoded(body)
        if isinstance(raw, list) and not 1 <= len(raw) <= self.config.http.max_list:
            raise Refusal("invalid", f"body: got {len(raw)} requests; 1 to {self.config.http.max_list}", "body")
        return client, raw

    async def _all(self, raw: object, request_id: str, client: str) -> list[Ended]:
        if not isinstance(raw, list):
            return [await self._one(raw, request_id, client)]
        several = (self._one(one, f"{request_id}-{number}", client) for number, one in enumerate(raw))
        return await asyncio.gather(*several)

    async def _one(self, raw: object, request_id: str, client: str) -> Ended:
        start, running = time.monotonic(), self.service.running
        exposure = None
        try:
            self.door.refuse_late(client, raw)
            if running is not None:
                exposure = running.exposed(raw)
            asked = checked(raw, self.config)
            request_id = asked.request_id or request_id
            body = await self.service.answer(asked, request_id, exposure, client)
        except Refusal as refusal:
            self._ended(refusal.outcome, refusal, request_id, start, exposure)
            return refusal, orjson.dumps(refusal.body(request_id))
        except asyncio.CancelledError:
            self._ended("cancelled", None, request_id, start, exposure)
            raise
        except Exception:
            logger.exception("a request failed", extra={"request_id": request_id})
            failure = Refusal("failed", "the server failed on this request; the log has the reason")
            self._ended("failed", failure, request_id, start, exposure)
            return failure, orjson.dumps(failure.body(request_id))
        self._ended("ok", None, request_id, start, exposure)
        return None, body

    def _refused(self, refusal: Refusal, request_id: str, headers: dict[str, str], start: float) -> Response:
        self._ended(refusal.outcome, refusal, request_id, start)
        return _json(orjson.dumps(refusal.body(request_id)), refusal.status, {**headers, **refusal.headers})

    def _ended(
        self, outcome: str, refusal: Refusal | None, request_id: str, start: float, exposure: Exposure | None = None
    ) -> None:
        self.service.metrics.requests.labels(outcome).inc()
        seconds = time.monotonic() - start
        if outcome == "ok":
            self.service.metrics.e2e.observe(seconds)
        about = {"request_id": request_id, "outcome": outcome, "status": STATUS[outcome], "ms": round(seconds * 1e3, 3)}
        if exposure is not None and self.service.running is not None:
            self.service.running.ended(exposure, outcome, request_id, seconds)
            about |= {"variant": exposure.assignment.variant, "group": exposure.assignment.group}
        if refusal is not None:
            about |= {"field": refusal.field, "reason": refusal.message}
            if refusal.outcome in ("invalid", "malformed", "too_large", "unsupported_media"):
                top = (refusal.field or "body").partition(".")[0]
                self.service.metrics.invalid.labels(top if top in FIELDS else "unknown").inc()
        if self.config.http.log_requests:
            asyncio.get_running_loop().call_later(LOG_AFTER_S, partial(logger.info, "request", extra=about))

    async def logged(self) -> None:
        """Wait for the lines of requests that have ended."""
        await asyncio.sleep(LOG_AFTER_S)


def _json(body: bytes, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status, headers, "application/json")
