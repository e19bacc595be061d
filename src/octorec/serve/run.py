"""`octorec serve`: the application on its port, signals, logs, and the way out."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI

from octorec.engine.model_folder import require_model
from octorec.errors import InputError
from octorec.reading import reason
from octorec.serve.admin import create_admin_app
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.connections import Connections, affordable, look_for_descriptors
from octorec.serve.examples import with_examples
from octorec.serve.leaving import leave
from octorec.serve.loads import hanging
from octorec.serve.logs import end_now, log_as_json
from octorec.serve.metrics import Metrics
from octorec.serve.protocol import Bounded
from octorec.serve.service import Service
from octorec.serve.tokens import Tokens, warn_if_open
from octorec.serve.variants import has_ended, read_variants
from octorec.serve.versions import load_engine, versions

logger = logging.getLogger(__name__)
TICKS = 10  # of uvicorn a second


class Server(uvicorn.Server):
    """A Server leaves signals to `run`, and logs the port that it listens on, unless it is `quiet`."""

    quiet = False

    def __init__(self, config: uvicorn.Config, open_ones: Connections):
        super().__init__(config)
        self.open_ones = open_ones

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            look_for_descriptors(self.open_ones.metrics)
        return await super().on_tick(counter)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started and not self.quiet:
            log_listening(self.config.app.title, self.servers[0].sockets[0])  # type: ignore[union-attr, arg-type]


def serve(checkpoint: str | Path, config: ServeConfig) -> None:
    """Serve a checkpoint until SIGTERM or SIGINT; the second of them ends the process at once.

    Raises InputError where what is served cannot be loaded.
    """
    if config.http.http_workers:
        from octorec.serve.workers.run import refuse_with_workers

        refuse_with_workers(config)
    if config.http.grpc_port is not None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # lines of its own that are no JSON
        import octorec.serve.oip_server  # noqa: F401 - says what to install before anything is loaded
    if config.http.spans:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401 - as gRPC
    for path in (config.http.token_file, config.admin.admin_token_file):
        Tokens(path)  # refuses a missing file before anything is loaded
    if config.engine.compare is not None:
        require_model(config.engine.compare, config.engine.catalog, "compare")
    config = with_examples(checkpoint, config)
    for root in filter(None, (config.admin.catalog_root, config.admin.model_root)):
        versions(root)
    variants = None if config.ab.experiment is None else read_variants(checkpoint, config)
    sockets = [listen(config.http.host, config.http.port, "host")]
    if config.admin.admin_port is not None:
        sockets.append(listen(config.admin.admin_host, config.admin.admin_port, "admin_host"))
    lines = log_as_json()
    for path in filter(None, (config.http.token_file, config.admin.admin_token_file)):
        warn_if_open(path)
    if variants is not None and has_ended(variants):  # a restart must not take the service down
        logger.warning("experiment has ended: take it out of the settings", extra={"experiment": config.ab.experiment})
        variants = None
    model = Path(checkpoint).resolve().name
    make_engine = partial(load_engine, checkpoint, config.engine.catalog, config, own=True)
    service: Service
    if config.http.http_workers:
        from octorec.serve.workers.run import CrewService, serve_with_workers

        service = CrewService(make_engine, model, config)
        running = serve_with_workers(service, sockets, lines)
    else:
        service = Service(make_engine, model, config, variants)
        running = _serve(service, config, sockets)
    service.metrics.watch_log(lines.lost)
    uvloop.run(running)  # hands requests over faster than asyncio's own loop
    if service.error is not None:
        raise service.error
    if not service.stopped:
        logger.error("the device thread does not end")
    failed = bool(service.way_out.unanswered) or not service.stopped
    if failed or hanging():  # a load that hangs may be in a library that does not survive the end of the interpreter
        end_now(int(failed))


def log_listening(application: str, socket: Any) -> None:
    host, port = socket.getsockname()[:2]
    logger.info("listening", extra={"application": application, "host": host, "port": port})


def listen(host: str, port: int, field: str) -> list[socket.socket]:
    """Open sockets on every address that the name `host` has; an InputError about `field` where one cannot be had."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [socket.create_server(address[:2], family=family) for family, _, _, _, address in dict.fromkeys(found)]
    except (OSError, ValueError) as error:  # ValueError: a name that is none
        raise InputError(field, f"{host}:{port}", f"cannot be listened on ({reason(error)})") from error


async def _serve(service: Service, config: ServeConfig, sockets: list[list[socket.socket]]) -> None:
    open_ones = Connections(affordable(config.http.max_connections), service.metrics)
    servers = [server_on(create_app(service), config.http.host, config.http.port, config, open_ones)]
    if config.admin.admin_port is not None:
        admin = config.admin.admin_host, config.admin.admin_port
        servers.append(server_on(create_admin_app(service), *admin, config, open_ones))
    on_signals(partial(leave, service, servers))
    async with AsyncExitStack() as beside:
        if config.http.grpc_port is not None:
            from octorec.serve.oip_server import open_inference

            await beside.enter_async_context(open_inference(service))
        watching = asyncio.create_task(end_if_loading_fails(service, servers))
        await asyncio.gather(*(server.serve(each) for server, each in zip(servers, sockets, strict=True)))
        watching.cancel()


def on_signals(leave: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `leave` at the first SIGTERM or SIGINT, and end at once at the second."""
    ending: list[asyncio.Task[None]] = []

    def on_signal() -> None:
        if ending:
            logger.warning("ended by a second signal")
            end_now(1)
        ending.append(asyncio.create_task(leave()))

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


def server_on(app: FastAPI, host: str, port: int, config: ServeConfig, open_ones: Connections | None = None) -> Server:
    """Make the server of an application. open_ones: the connections that it shares with other servers."""
    own = Connections(config.http.max_connections, Metrics()) if open_ones is None else open_ones
    protocol: Any = partial(Bounded, options=config.http, open_ones=own)
    options: dict[str, Any] = {"log_config": None, "access_log": False, "ws": "none", "server_header": False}
    options |= {"timeout_keep_alive": max(1, round(config.http.keep_alive_s)), "timeout_graceful_shutdown": 1}
    return Server(uvicorn.Config(app, host, port, http=protocol, proxy_headers=False, **options), own)  # see `clients`


async def end_if_loading_fails(service: Service, servers: list[Server]) -> None:
    """End the servers where nothing can be loaded."""
    while service.state == "loading":
        await asyncio.sleep(0.1)
    if service.state == "failed":
        for server in servers:
            server.should_exit = True
