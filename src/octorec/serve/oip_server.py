"""The Open Inference Protocol over gRPC runs in the server's own event loop, over the service that HTTP asks too."""

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

import octorec
from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.oip_answers import OUTPUTS
from octorec.serve.oip_health import Health
from octorec.serve.oip_infer import Context, Infer, refuse
from octorec.serve.oip_messages import CALLS, SERVICE
from octorec.serve.oip_requests import inputs_of, require_model
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service

logger = logging.getLogger(__name__)
STOP_S = 0.5  # for refusals that are being written; what was accepted has been waited for before
PING_MS = 30_000  # after so long without a byte a client is asked whether it is there
PONG_MS = 10_000
AGE_MS = 600_000  # of a connection, whose client then makes another; so ends one that reads nothing
Answer = Callable[[Any], dict[str, Any]]


def _without_headers(record: logging.LogRecord) -> bool:
    """Return whether a line of gRPC may be logged: none with a header as it was sent, which may be a token."""
    return not str(record.msg).startswith("Invalid encoding")


logging.getLogger("grpc._cython.cygrpc").addFilter(_without_headers)


@asynccontextmanager
async def open_inference(service: Service) -> AsyncIterator[int]:
    """Answer over gRPC for as long as the block runs, which is given the port; an InputError where it cannot be had."""
    config = service.config
    server = grpc.aio.server(options=_options(config))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, _handlers(service)),))
    health_pb2_grpc.add_HealthServicer_to_server(Health(service), server)
    port = _bind(server, config.http.host, config.http.grpc_port or 0)
    await server.start()
    logger.info("listening", extra={"application": "gRPC", "host": config.http.host, "port": port})
    try:
        yield port
    finally:
        await server.stop(STOP_S)


def _options(config: ServeConfig) -> list[tuple[str, int]]:
    answer_ms = config.http.answer_timeout_s * 1e3
    return [
        ("grpc.so_reuseport", 0),  # a second server on this port is told so, and does not take half of the clients
        ("grpc.max_receive_message_length", config.http.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none, so that a small message is small
        ("grpc.server_handshake_timeout_ms", round(config.http.head_timeout_s * 1e3)),
        ("grpc.max_connection_idle_ms", round(config.http.keep_alive_s * 1e3)),
        ("grpc.keepalive_time_ms", PING_MS),
        ("grpc.keepalive_timeout_ms", PONG_MS),
        ("grpc.max_concurrent_streams", config.http.max_connections),
        ("grpc.max_connection_age_ms", AGE_MS),
        ("grpc.max_connection_age_grace_ms", round(max(config.batch.default_deadline_ms, answer_ms))),
    ]


def _bind(server: Any, host: str, port: int) -> int:
    """Open a port on every address that the name `host` has; without a name on all of this machine."""
    try:
        found = socket.getaddrinfo(host or "::", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = dict.fromkeys(str(address[0]) for *_, address in found)
        ports = [server.add_insecure_port(f"[{one}]:{port}" if ":" in one else f"{one}:{port}") for one in addresses]
        return ports[0]
    except (OSError, ValueError, RuntimeError):  # RuntimeError: gRPC's, which has said why in a line of its own
        raise InputError("grpc_port", f"{host}:{port}", "cannot be listened on") from None


def _handlers(service: Service) -> dict[str, Any]:
    metadata = _ModelCalls(service)
    answers: dict[str, Answer] = {
        "ServerLive": lambda _: {"live": not service.not_live},
        "ServerReady": lambda _: {"ready": not service.not_ready},
        "ServerMetadata": lambda _: {"name": "octorec", "version": octorec.__version__, "extensions": []},
        "ModelReady": metadata.ready,
        "ModelMetadata": metadata.metadata,
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            _call(answer, CALLS[name][1]), CALLS[name][0].FromString, CALLS[name][1].SerializeToString
        )
        for name, answer in answers.items()
    }
    return handlers | {"ModelInfer": grpc.stream_stream_rpc_method_handler(Infer(service).call)}


def _call(answer: Answer, response: Any) -> Callable[[Any, Context], Awaitable[Any]]:
    async def call(request: Any, context: Context) -> Any:
        try:
            return response(**answer(request))
        except Refusal as refusal:
            await refuse(context, refusal)

    return call


class _ModelCalls:
    """_ModelCalls say of the model that is served what the calls about a model want to know."""

    def __init__(self, service: Service):
        self.service = service

    def ready(self, request: Any) -> dict[str, Any]:
        self._require(request)
        return {"ready": not self.service.not_ready}

    def metadata(self, request: Any) -> dict[str, Any]:
        self._require(request)
        serving = self.service.batcher.serving
        outputs = [{"name": name, "datatype": one.datatype, "shape": [-1] * one.axes} for name, one in OUTPUTS.items()]
        about = {"name": request.name, "platform": "octorec", "outputs": outputs}
        if serving is None:
            return {**about, "versions": [], "inputs": []}
        return {**about, "versions": [serving.model], "inputs": inputs_of(serving.engine)}

    def _require(self, request: Any) -> None:
        require_model(request.name, self.service.config.http.model_name, "name")
        serving = self.service.batcher.serving
        if request.version:
            require_model(request.version, "" if serving is None else serving.model, "version")
