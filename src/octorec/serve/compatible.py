"""Addresses of other servers' clients: from a body in their shape to an answer in it, by way of the one engine."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
from fastapi import Request, Response

from octorec.engine.engine import Engine
from octorec.serve.access import HungUp, unless_hung_up
from octorec.serve.asking import Asking, Ended, request_id_of
from octorec.serve.beam_schemas import ignored_header
from octorec.serve.beams import NO_PROMPTS, Beams, beams_of
from octorec.serve.problems import problem
from octorec.serve.refusal import STATUS, Refusal
from octorec.serve.schemas import checked


@dataclass(frozen=True)
class Asked:
    """An Asked is a body of another server's client, read.

    requests: bodies to /v1/recommend, one a prompt. answer: makes the JSON objects to send, of the beams of each prompt
    and the request's id: one, or the chunks of a stream. ignored: fields that were not obeyed. names: how the client
    spells the fields of /v1/recommend. ids: of the requests, where the client gives them.
    """

    requests: list[dict[str, Any]]
    answer: Callable[[list[Beams], str], list[Any]]
    stream: bool
    ignored: list[str]
    names: Mapping[str, str] = field(default_factory=dict)
    ids: list[str] | None = None


Read = Callable[[object, Engine], Asked]


class Compatible:
    """A Compatible answers at one address. read: reads a body; a Refusal says what is wrong with it."""

    def __init__(self, asking: Asking, read: Read):
        self.asking, self.config, self.read = asking, asking.config, read

    async def __call__(self, http: Request) -> Response:
        request_id = request_id_of(http)
        headers = {"X-Request-ID": request_id}
        path = http.url.path
        try:
            client, asked = await self._read(http)
            async with unless_hung_up(http):
                ended = await self._all(asked, request_id, client)
        except HungUp:  # each request was counted where it was cancelled
            return Response(b"", STATUS["cancelled"], headers)
        except Refusal as refusal:  # of the body as a whole
            self.asking.refused(refusal, request_id)
            return problem(refusal, path, headers)
        headers |= ignored_header(asked.ignored)
        if (refused := next((one.refusal for one in ended if one.refusal is not None), None)) is not None:
            return problem(_respelt(refused, asked.names), path, headers)
        found = asked.answer([one.made for one in ended if one.made is not None], request_id)
        if asked.stream:
            return Response(_events(found), 200, headers, "text/event-stream")
        return Response(_json(found[0]), 200, headers, "application/json")

    async def _read(self, http: Request) -> tuple[str, Asked]:
        await self.asking.door.holder_of(http)
        self.asking.service.refuse_unless_ready()
        engine = self.asking.service.serving.engine
        if engine.prompts is None:
            raise Refusal("not_found", f"{http.url.path}: {NO_PROMPTS}")
        client, raw = await self.asking.door.enter(http)
        asked = self.read(raw, engine)
        if not 1 <= len(asked.requests) <= self.config.http.max_list:
            field = asked.names.get("text", "prompt")
            said = f"{field}: got {len(asked.requests)} prompts; 1 to {self.config.http.max_list}"
            raise Refusal("invalid", said, field)
        return client, asked

    async def _all(self, asked: Asked, request_id: str, client: str) -> list[Ended[Beams]]:
        ids = asked.ids or [request_id]
        if len(ids) < len(asked.requests):
            ids = [f"{request_id}-{number}" for number in range(len(asked.requests))]
        pairs = zip(asked.requests, ids, strict=True)
        one = self.asking.one
        several = (one(raw, partial(checked, raw, self.config), beams_of, id, client) for raw, id in pairs)
        return await asyncio.gather(*several)


def _respelt(refusal: Refusal, names: Mapping[str, str]) -> Refusal:
    """Name the field as the client spells it."""
    field = refusal.field or ""
    top, _, rest = field.partition(".")
    name = names.get(field) or (f"{names[top]}.{rest}".rstrip(".") if top in names else field)
    return Refusal(refusal.outcome, refusal.message.replace(f"{field}: ", f"{name}: ", 1), name or None)


def _events(chunks: list[Any]) -> bytes:
    """Return server-sent events: all of them at once, as a search has no answer before its last step."""
    return b"".join(b"data: " + data + b"\n\n" for data in (*map(_json, chunks), b"[DONE]"))


def _json(value: Any) -> bytes:
    return orjson.dumps(value)
