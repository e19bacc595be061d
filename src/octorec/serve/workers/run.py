"""The engine process with its workers: it answers on the admin port alone."""

import asyncio
import socket
from contextlib import suppress

from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine
from octorec.errors import InputError
from octorec.serve.admin import create_admin_app
from octorec.serve.config import ServeConfig
from octorec.serve.connections import Connections, affordable
from octorec.serve.leaving import leave
from octorec.serve.logs import Lines
from octorec.serve.pending import Serving
from octorec.serve.run import Server, end_if_loading_fails, log_listening, on_signals, server_on
from octorec.serve.service import Service
from octorec.serve.workers.board import SLOTS
from octorec.serve.workers.crew import Crew
from octorec.serve.workers.messages import Told
from octorec.serve.workers.start import keep_files_in

OWN_SLOT = SLOTS - 1
LEAST_S = 0.2  # for workers to end, whatever is left of the way out
ONE_PROCESS = "0: {} needs all in one process"


class CrewService(Service):
    """A CrewService has an engine whose requests come from workers."""

    crew: Crew

    def open(self, sockets: list[socket.socket]) -> None:
        """Begin to start workers on sockets that listen."""
        self.crew = Crew(
            self.config,
            self.batcher,
            self.metrics,
            lambda: Told(self.state, self.not_live),
            lambda: log_listening("OctoRec", sockets[0]),
        )
        self.crew.open(sockets)

    async def announce(self, serving: Serving, catalog: Catalog) -> None:
        await self.crew.announce(serving, catalog)

    def now_serving(self, serving: Serving) -> None:
        super().now_serving(serving)
        self.crew.now_serving(serving)

    def drain(self) -> None:
        super().drain()
        self.crew.tell()

    async def drained(self) -> None:
        self.crew.tell()
        await self.crew.ended()
        if not self.loaded.done():
            self.crew.private.remove()  # the process ends as it is

    def _loaded_engine(self) -> tuple[Engine, int]:
        engine, max_batch = super()._loaded_engine()
        if engine.prompts is not None:
            allowed = ONE_PROCESS.format("a model that reads tokens")
            raise InputError("http_workers", self.config.http.http_workers, allowed)
        return engine, max_batch


def refuse_with_workers(config: ServeConfig) -> None:
    """Refuse settings that need one process, before anything is loaded."""
    for needs in (config.ab.experiment is not None and "an experiment", config.http.grpc_port is not None and "gRPC"):
        if needs:
            raise InputError("http_workers", config.http.http_workers, ONE_PROCESS.format(needs))


async def serve_with_workers(service: CrewService, sockets: list[list[socket.socket]], lines: Lines) -> None:
    """Serve until the way out has been gone, or nothing could be loaded. lines: of the log of this process."""
    service.open(sockets[0])
    try:
        keep_files_in(service.crew.private.path)
        lines.share(service.crew.files.log)
        await _serve(service, sockets)
    finally:
        service.crew.kill()  # else the interpreter would wait for them


async def _serve(service: CrewService, sockets: list[list[socket.socket]]) -> None:
    servers = [] if service.config.admin.admin_port is None else [_admin(service)]
    left = asyncio.Event()

    async def go() -> None:
        await leave(service, servers)
        left.set()

    async def fail() -> None:
        await end_if_loading_fails(service, servers)
        if service.state == "failed":
            left.set()

    on_signals(go)
    await service.start()
    failing = asyncio.create_task(fail())
    running = [asyncio.create_task(server.serve(each)) for server, each in zip(servers, sockets[1:], strict=True)]
    await left.wait()
    failing.cancel()
    await service.stop()
    with suppress(TimeoutError):
        async with asyncio.timeout(max(LEAST_S, service.left_s / 2)):
            await service.crew.ended()
    await service.crew.close()
    service.way_out.unanswered += service.crew.failed
    await asyncio.gather(*running)


def _admin(service: CrewService) -> Server:
    """Make the server of the admin port, whose connections count beside those of the workers."""
    config, board = service.config, service.crew.board

    def elsewhere(own: int) -> int:
        board.beats(OWN_SLOT, own)
        return board.connections() - own

    open_ones = Connections(affordable(config.http.max_connections), service.metrics, elsewhere)
    return server_on(
        create_admin_app(service), config.admin.admin_host, config.admin.admin_port or 0, config, open_ones
    )
