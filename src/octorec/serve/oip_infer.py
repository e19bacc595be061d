"""A ModelInfer call, from its first byte to its last: the way of a body of /v1/recommend, with the same refusals."""

import asyncio
import logging
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError
from starlette.requests import Request

from octorec.engine.rank import Ranked
from octorec.serve.access import BETWEEN_S, LARGE
from octorec.serve.asking import REQUEST_ID, Asking, request_id_of
from octorec.serve.oip_answers import Answered, encode_batch
from octorec.serve.oip_messages import ModelInferRequest
from octorec.serve.oip_requests import FIELDS, read_batch, require_model
from octorec.serve.oip_tensors import wrong
from octorec.serve.pending import Serving
from octorec.serve.refusal import Refusal
from octorec.serve.schemas import RecommendRequest, checked
from octorec.serve.service import Service
from octorec.serve.spans import traced
from octorec.serve.way_out import SHUTTING_DOWN

logger = logging.getLogger(__name__)
BACK_MS = 5.0  # of a call's deadline: for the answer to arrive, and for a refusal to be counted as one
LONGEST_FIELD = 100  # characters of a field's name in a trailer
CODES = {  # outcome -> code of gRPC
    "malformed": grpc.StatusCode.INVALID_ARGUMENT,
    "unauthorized": grpc.StatusCode.UNAUTHENTICATED,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "timeout": grpc.StatusCode.DEADLINE_EXCEEDED,
    "too_large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "cancelled": grpc.StatusCode.CANCELLED,
    "failed": grpc.StatusCode.INTERNAL,
    "nonfinite": grpc.StatusCode.INTERNAL,
    "queue_full": grpc.StatusCode.UNAVAILABLE,
    "overloaded": grpc.StatusCode.UNAVAILABLE,
    "not_ready": grpc.StatusCode.UNAVAILABLE,
    "draining": grpc.StatusCode.UNAVAILABLE,
    "deadline": grpc.StatusCode.DEADLINE_EXCEEDED,
}
Context = Any  # grpc.aio.ServicerContext, of messages that are bytes


class _RowRefused(Exception):
    """A _RowRefused says that one request of a batch was refused; it was counted where it happened."""

    def __init__(self, refusal: Refusal):
        super().__init__(refusal.message)
        self.refusal = refusal


class Infer:
    """An Infer answers ModelInfer calls. To gRPC these are streams, so that one is refused before its message is read.

    The requests of a batch wait for the device as requests of their own. Where one is refused so is the call, and the
    others are cancelled.
    """

    def __init__(self, service: Service):
        self.service, self.config = service, service.config
        self.asking = Asking(service, FIELDS)
        self._large, self._open = asyncio.Lock(), 0

    async def call(self, _: object, context: Context) -> None:
        """Answer one call."""
        asked = as_http(context)
        request_id = request_id_of(asked)
        about = {"rpc.system": "grpc", "rpc.method": "ModelInfer"}
        self._open += 1
        try:
            with traced(self.service.spans, asked.scope["headers"], "ModelInfer", about) as call:
                answer = await self._ended(asked, context, request_id)
                trailers = (("x-request-id", request_id), *call.context.headers.items())
                if isinstance(answer, Refusal):
                    call.ended("rpc.grpc.status_code", CODES[answer.outcome].value[0])
                    await refuse(context, answer, trailers)
                else:
                    call.ended("rpc.grpc.status_code", 0)
                    context.set_trailing_metadata(trailers)
                    await self._send(context, answer)
        finally:
            self._open -= 1

    async def _ended(self, asked: Request, context: Context, request_id: str) -> bytes | Refusal:
        """Return the answer, or the refusal that was counted."""
        try:
            async with self.service.way_out.open():
                return await self._answer(asked, context, request_id)
        except _RowRefused as row:
            return row.refusal
        except Refusal as found:
            refusal = found
        except TimeoutError:  # the server gives up what is open
            refusal = Refusal("draining", SHUTTING_DOWN)
            self.service.way_out.unanswered += 1
        except Exception:
            logger.exception("a call failed", extra={"request_id": request_id})
            refusal = Refusal("failed", "the server failed on this request; the log has the reason")
        self.asking.refused(refusal, request_id)
        return refusal

    async def _send(self, context: Context, answer: bytes) -> None:
        try:
            async with self.service.way_out.open(), asyncio.timeout(self.config.http.answer_timeout_s):
                await context.write(answer)
        except TimeoutError:  # the client does not read, so that no status can be sent either
            self.service.metrics.connections_ended.labels("unread").inc()
            raise asyncio.CancelledError from None

    async def _answer(self, asked: Request, context: Context, request_id: str) -> bytes:
        client = await self.asking.door.client_of(asked)
        if self._open > self.config.http.max_connections:
            raise Refusal("queue_full", f"max_connections = {self.config.http.max_connections} calls are open")
        message = await self._message(context, request_id)
        left_s = context.time_remaining()
        batch = read_batch(message, self.config.http, None if left_s is None else left_s * 1e3 - BACK_MS)
        if message.model_version:
            require_model(message.model_version, self.service.serving.model, "model_version")
        if message.id and not REQUEST_ID.fullmatch(message.id):
            raise wrong("id", "must be 1 to 128 printable characters of ASCII, without spaces")
        rows = await self._rows(batch.bodies, message.id or request_id, client)
        name = self.config.http.model_name
        return encode_batch(rows, batch.outputs, name, message.id).SerializeToString()

    async def _message(self, context: Context, request_id: str) -> Any:
        """Return the message of a call, read within the time that a body has."""
        try:
            async with asyncio.timeout(self.config.http.body_timeout_s):
                read = await context.read()
        except TimeoutError:
            said = f"the message did not arrive within {self.config.http.body_timeout_s:g} s"
            raise Refusal("timeout", said, "body") from None
        except asyncio.CancelledError:
            self.asking.refused(Refusal("cancelled", "the client hung up"), request_id)
            raise
        if read is grpc.aio.EOF:  # none came, or one that gRPC has refused
            raise Refusal("too_large", f"body: no message of at most {self.config.http.max_body_bytes} bytes", "body")
        if len(read) > LARGE:  # as decoding it holds the loop, others have a moment first
            async with self._large:
                await asyncio.sleep(BETWEEN_S)
        try:
            return ModelInferRequest.FromString(read)
        except DecodeError:
            raise Refusal("malformed", "body: is no ModelInferRequest", "body") from None

    async def _rows(self, bodies: list[dict[str, Any]], request_id: str, client: str) -> list[Answered]:
        if len(bodies) == 1:
            return [await self._row(bodies[0], request_id, client, "")]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._row(body, f"{request_id}-{number}", client, f"row {number}: "))
                    for number, body in enumerate(bodies)
                ]
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _row(self, body: dict[str, Any], request_id: str, client: str, where: str) -> Answered:
        ended = await self.asking.one(body, partial(checked, body, self.config), _answered, request_id, client)
        if ended.made is not None:
            return ended.made
        assert ended.refusal is not None
        refusal = ended.refusal
        raise _RowRefused(Refusal(refusal.outcome, where + refusal.message, refusal.field, refusal.retry_after_s))


def _answered(asked: RecommendRequest, request_id: str, ranked: Ranked, serving: Serving) -> Answered:
    return Answered(ranked, serving.model)


async def refuse(context: Context, refusal: Refusal, more: tuple[tuple[str, str], ...] = ()) -> None:
    """End a call without an answer: its outcome, field and when to ask again are trailers, beside `more` of them."""
    trailers: list[tuple[str, str | bytes]] = [("octorec-outcome", refusal.outcome), *more]
    if refusal.field is not None:
        trailers.append(("octorec-field-bin", refusal.field[:LONGEST_FIELD].encode()))
    if (seconds := refusal.headers.get("Retry-After")) is not None:
        trailers += [("retry-after", seconds), ("grpc-retry-pushback-ms", str(1000 * int(seconds)))]
    await context.abort(CODES[refusal.outcome], refusal.message, tuple(trailers))


def as_http(context: Context) -> Request:
    """Return what a token and a client are known by, as a request over HTTP has it."""
    headers = [
        (key.encode(), value.encode("utf-8", "surrogateescape"))
        for key, value in context.invocation_metadata() or ()
        if isinstance(value, str)
    ]
    host = unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")
    return Request({"type": "http", "headers": headers, "client": (host, 0)})
