"""POST /v1/recommend: from the bytes of a body to the bytes of an answer."""

import asyncio
from functools import partial

import orjson
from fastapi import Request, Response

from octorec.engine.rank import Ranked
from octorec.serve.access import HungUp, unless_hung_up
from octorec.serve.asking import Asking, Ended, request_id_of
from octorec.serve.encode import encode_answer, encode_list, with_timings
from octorec.serve.pending import Serving
from octorec.serve.refusal import STATUS, Refusal
from octorec.serve.schemas import RecommendRequest, checked


class Recommender:
    """A Recommender answers bodies of one request or of a list of them."""

    def __init__(self, asking: Asking):
        self.asking, self.config = asking, asking.config

    def by(self) -> Serving | None:
        """Return what answers all requests; None for what answers everybody."""
        return None

    async def __call__(self, http: Request) -> Response:
        request_id = request_id_of(http)
        headers = {"X-Request-ID": request_id}
        try:
            client, raw = await self._decoded(http)
            async with unless_hung_up(http):
                ended = await self._all(raw, request_id, client)
        except HungUp:  # each request was counted where it was cancelled
            return _json(b"", STATUS["cancelled"], headers)
        except Refusal as refusal:  # of the body as a whole
            self.asking.refused(refusal, request_id)
            return _json(orjson.dumps(refusal.body(request_id)), refusal.status, {**headers, **refusal.headers})
        if isinstance(raw, list):
            return _json(encode_list([_body(one) for one in ended]), 200, headers)
        refused = ended[0].refusal
        if refused is None:
            return _json(_body(ended[0]), 200, headers)
        return _json(_body(ended[0]), refused.status, {**headers, **refused.headers})

    async def _decoded(self, http: Request) -> tuple[str, object]:
        client, raw = await self.asking.door.enter(http)
        if isinstance(raw, list) and not 1 <= len(raw) <= self.config.http.max_list:
            raise Refusal("invalid", f"body: got {len(raw)} requests; 1 to {self.config.http.max_list}", "body")
        return client, raw

    async def _all(self, raw: object, request_id: str, client: str) -> list[Ended[bytes]]:
        if not isinstance(raw, list):
            return [await self._one(raw, request_id, client)]
        several = (self._one(one, f"{request_id}-{number}", client) for number, one in enumerate(raw))
        return await asyncio.gather(*several)

    async def _one(self, raw: object, request_id: str, client: str) -> Ended[bytes]:
        check = partial(checked, raw, self.config)
        return await self.asking.one(raw, check, _encoded, request_id, client, self.by())


def _encoded(asked: RecommendRequest, request_id: str, ranked: Ranked, serving: Serving) -> bytes:
    return encode_answer(ranked, serving.model, asked.titles, request_id)


def _body(ended: Ended[bytes]) -> bytes:
    if ended.made is not None:
        return with_timings(ended.made, ended.milliseconds)
    assert ended.refusal is not None
    return orjson.dumps(ended.refusal.body(ended.request_id))


def _json(body: bytes, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status, headers, "application/json")
