"""POST /v1/compare and POST /v1/explain: the second engine's answer to a request, and how the search for one went."""

import asyncio
import time
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from octorec.engine.explain import Explained, Level, explained
from octorec.engine.rank import Ranked
from octorec.serve.access import HungUp, unless_hung_up
from octorec.serve.asking import Asking, request_id_of
from octorec.serve.direct import Answer
from octorec.serve.documented import token_scheme
from octorec.serve.encode import encode_answer, with_timings
from octorec.serve.pending import Serving
from octorec.serve.problems import problems
from octorec.serve.recommend import Recommender
from octorec.serve.refusal import STATUS, Refusal
from octorec.serve.schemas import Recommendations, RecommendRequest, checked
from octorec.serve.searches import WINDOW_S, DeviceShare
from octorec.serve.service import Service

SHARE = 0.1  # of the device's time that searches take which are run only to be shown
COMPARE, EXPLAIN = "/v1/compare", "/v1/explain"
NO_SECOND = "no second checkpoint is loaded: start the server with --compare"
IN_WORKERS = "searches are shown by a server in one process: start it without --http-workers"
ERRORS = 400, 401, 404, 408, 413, 415, 422, 500, 503, 504


class ShownPrefix(BaseModel):
    """A ShownPrefix is the beginning of a semantic ID."""

    codes: list[int]
    score: float
    parent: int | None = Field(description="Its number among the kept ones of the level before; null at the first.")
    items: int = Field(description="Live items below it.")
    example: str = Field(description="Title of one of them, or its id.")


class ShownLevel(BaseModel):
    """A ShownLevel says which prefixes of one length were kept, and which were dropped."""

    candidates: int = Field(description="Prefixes that the request may have below those of the level before.")
    n_kept: int
    kept: list[ShownPrefix] = Field(description="The best 512, best first.")
    dropped: list[ShownPrefix] = Field(description="The best 64, best first.")
    bound: float | None = Field(description="The highest score that was dropped; null where none was.")


class ShownSearch(BaseModel):
    """A ShownSearch is an answer, and how the search for it went; by popularity no level was searched."""

    answer: Recommendations
    levels: list[ShownLevel]


class Compared(Recommender):
    """Compared answers as /v1/recommend does, from the second checkpoint."""

    def by(self) -> Serving | None:
        if self.asking.service.compared is None:
            self.asking.service.refuse_unless_ready()
            raise Refusal("not_found", NO_SECOND)
        return self.asking.service.compared


class Explainer:
    """An Explainer answers one request and searches once more for it, to show how; one search at a time.

    The answer takes its turn in the queue as every other does. The search that is shown runs between two batches; where
    such searches have had their share of the device, the request is refused.
    """

    def __init__(self, asking: Asking):
        self.asking, self.config = asking, asking.config
        self._share = DeviceShare(SHARE)
        self._busy = False

    async def __call__(self, http: Request) -> Response:
        request_id = request_id_of(http)
        headers = {"X-Request-ID": request_id}
        try:
            client, raw = await self.asking.door.enter(http)
            self._refuse_now(raw)
            async with unless_hung_up(http):
                body = await self._answered(raw, request_id, client)
        except HungUp:
            return Response(b"", STATUS["cancelled"], headers)
        except Refusal as refusal:
            body = orjson.dumps(refusal.body(request_id))
            return Response(body, refusal.status, {**headers, **refusal.headers}, "application/json")
        return Response(body, 200, headers, "application/json")

    def _refuse_now(self, raw: object) -> None:
        if not isinstance(self.asking.service, Service) or self.config.http.http_workers:
            raise Refusal("not_found", IN_WORKERS)
        if isinstance(raw, list):
            raise Refusal("invalid", "body: give one request, no list", "body")
        if self._busy:
            raise Refusal("queue_full", "another search is being shown: ask again")
        if not self._share.free:
            said = f"searches that are shown take at most {SHARE:.0%} of the device's time: ask again"
            raise Refusal("queue_full", said, retry_after_s=WINDOW_S / 2)

    async def _answered(self, raw: object, request_id: str, client: str) -> bytes:
        self._busy = True
        try:
            check, by = partial(checked, raw, self.config), self.asking.service.serving
            ended = await self.asking.one(raw, check, _encoded, request_id, client, by)
            if ended.refusal is not None:
                raise ended.refusal
            assert ended.made is not None
            answer, ranked, serving = ended.made
            levels = await self._levels(ranked, serving)
        finally:
            self._busy = False
        made = await asyncio.to_thread(orjson.dumps, levels)
        return b'{"answer":' + with_timings(answer, ended.milliseconds) + b',"levels":' + made + b"}"

    async def _levels(self, ranked: Ranked, serving: Serving) -> list[Level]:
        """Search once more with the beams that gave the answer; what was dropped is worked out off the device."""
        if ranked.request.source == "popularity":
            return []
        service: Any = self.asking.service
        found: Explained = await service.batcher.between_batches(partial(self._searched, ranked, serving))
        return await asyncio.to_thread(found.levels)

    def _searched(self, ranked: Ranked, serving: Serving) -> Explained:
        if ranked.request.catalog is not serving.engine.catalog:
            raise Refusal("overloaded", "another catalog answers by now: ask again")
        start = time.monotonic()
        try:
            return explained(serving.engine, ranked.request)
        finally:
            self._share.add(time.monotonic() - start)


def explain_routes(app: FastAPI, asking: Asking) -> dict[str, Answer]:
    """Describe both addresses, and return what answers at them, for `Direct`."""
    documented: Any = {"tags": ["page"], "dependencies": token_scheme(asking.config.http.token_file)}

    @app.post(COMPARE, **documented, responses=problems(*ERRORS))
    async def compare(body: RecommendRequest) -> Recommendations:
        """Recommend from the second checkpoint, which --compare names, what /v1/recommend does from the first."""
        raise AssertionError("answered before; this route is for OpenAPI")

    @app.post(EXPLAIN, **documented, responses=problems(*ERRORS))
    async def explain(body: RecommendRequest) -> ShownSearch:
        """Recommend as /v1/recommend does, outside of any experiment, and show how the search went: once at a time."""
        raise AssertionError("answered before; this route is for OpenAPI")

    return {COMPARE: Compared(asking), EXPLAIN: Explainer(asking)}


def _encoded(
    asked: RecommendRequest, request_id: str, ranked: Ranked, serving: Serving
) -> tuple[bytes, Ranked, Serving]:
    return encode_answer(ranked, serving.model, asked.titles, request_id), ranked, serving
