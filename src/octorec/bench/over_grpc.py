"""A client asks the Open Inference Protocol's endpoint: calls of several histories, each a request of the report."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc

from octorec.bench.client import Reply
from octorec.bench.config import BenchConfig
from octorec.bench.messages import messages
from octorec.bench.result import ANSWERED
from octorec.bench.token import authorization
from octorec.errors import InputError
from octorec.serve.oip_messages import SERVICE, ModelInferResponse

MODEL = "octorec"  # the name that a server has unless it is given another
NO_LIMIT = [("grpc.max_receive_message_length", -1)]


def model_of(url: str) -> str:
    """Return the name of the model, which is the path of the address."""
    return urlsplit(url).path.strip("/") or MODEL


def asked_of(url: str, bodies: Sequence[bytes], config: BenchConfig) -> list[bytes]:
    """Return what is sent to `url`."""
    return messages(bodies, config.rows_per_call, model_of(url))


class OverGrpc:
    """An OverGrpc calls ModelInfer over one channel, whose library has threads of its own: the time that asking takes
    is that of the process."""

    def __init__(self, channel: grpc.aio.Channel, config: BenchConfig):
        self.call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        self.metadata = [(name.lower(), value) for name, value in authorization(config.token_file).items()]
        self.timeout_s, self.rows, self.clock = config.timeout_s, config.rows_per_call, time.process_time

    async def infer(self, message: bytes) -> bytes:
        """Return the answer to a call; AioRpcError where it has none."""
        answer: bytes = await self.call(message, timeout=self.timeout_s, metadata=self.metadata)
        return answer

    async def send(self, body: bytes) -> Reply:
        try:
            return Reply(ANSWERED, len(await self.infer(body)))
        except grpc.aio.AioRpcError as error:
            kind = dict(error.trailing_metadata() or ()).get("octorec-outcome", "")
            return Reply(error.code().name, kind=str(kind))


@asynccontextmanager
async def over(url: str, config: BenchConfig) -> AsyncIterator[OverGrpc]:
    """Open a channel to a server."""
    try:
        parts = urlsplit(url)
        target = parts.netloc if parts.hostname and parts.port else ""
    except ValueError:  # the port is no number, or too large
        target = ""
    if not target:
        raise InputError("url", url, "must be grpc://HOST:PORT, or grpc://HOST:PORT/MODEL")
    async with grpc.aio.insecure_channel(target, options=NO_LIMIT) as channel:
        yield OverGrpc(channel, config)


async def about(url: str, asked: Sequence[bytes], config: BenchConfig) -> dict[str, Any]:
    """Return the versions that answer one call; raise an InputError where it is not answered."""
    async with over(url, config) as way:
        try:
            answer = ModelInferResponse.FromString(await way.infer(asked[0]))
        except grpc.aio.AioRpcError as error:
            said = f"has no OctoRec server that answers over gRPC ({error.code().name}: {error.details()})"
            raise InputError("url", url, said[:500]) from error
    return {"model": answer.model_version, "catalog": answer.parameters["catalog"].string_param}
