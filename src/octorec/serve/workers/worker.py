"""A worker: HTTP and everything of a request but the device."""

import asyncio
import logging
import multiprocessing
import os
import shutil
import signal
from typing import Any, cast

import uvloop

from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.connections import Connections, affordable
from octorec.serve.front import Front
from octorec.serve.leaving import leave
from octorec.serve.logs import end_now, log_as_json
from octorec.serve.metrics import LOST, Metrics
from octorec.serve.refusal import Refusal
from octorec.serve.run import server_on
from octorec.serve.service import keep_for_good, share_the_host
from octorec.serve.workers.board import Board
from octorec.serve.workers.counts import merged
from octorec.serve.workers.messages import Told
from octorec.serve.workers.remote import GONE, Remote
from octorec.serve.workers.start import Files

logger = logging.getLogger(__name__)
BEAT_S = 0.1
LAST_S = 0.3  # that requests are refused for once the engine process is gone
LATE = "another version is being opened"


class WorkerFront(Front):
    """A WorkerFront answers through a line to the engine process, whose state it has."""

    line: Remote

    def __init__(self, config: ServeConfig, remote: Remote, metrics: Metrics, files: Files):
        super().__init__("", config, metrics, remote, share=1 / config.http.http_workers)
        self.files = files

    async def start(self) -> None:
        share_the_host()
        self.loaded = asyncio.get_running_loop().create_future()
        self.loaded.set_result(None)
        self.line.open()

    async def stop(self) -> None:
        self.drain()
        await self.spans_sent()

    @property
    def not_live(self) -> str | None:
        return self.line.stuck

    def refuse_unless_ready(self) -> None:
        if self.line.gone:
            raise Refusal("not_live", GONE)
        super().refuse_unless_ready()
        if self.line.serving is None:
            raise Refusal("not_ready", LATE)

    def told(self, told: Told) -> None:
        """Take over how the engine process is; the way out is this process's own."""
        if self.state in ("loading", "ready") and told.state in ("loading", "ready", "failed"):
            if told.state == "ready" and self.state != "ready":
                keep_for_good()
            self.state = cast(Any, told.state)

    async def metrics_text(self) -> bytes:
        families = await self.line.counts()
        return await asyncio.to_thread(merged, str(self.files.metrics), families)


def work(name: bytes, slot: int, files: Files, config: ServeConfig, sockets: list[Any]) -> None:
    """Run a worker until the engine process has it end, or has ended."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the engine process says when
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(files.metrics)
    lines = log_as_json()
    try:
        lines.share(files.log)
        metrics, board = Metrics(), Board(files.board)
    except FileNotFoundError:  # the server has ended meanwhile, and its files with it
        end_now(0)
    lost = metrics.lines_lost()

    async def run() -> None:
        ending: list[asyncio.Task[None]] = []

        def on_told(told: Told) -> None:
            front.told(told)
            if told.state in ("ending", "draining", "failed") and not ending:
                ending.append(asyncio.create_task(leave(front, [server])))

        drop = config.engine.unknown_items == "drop"
        remote = Remote(name, files.address, board, drop, config.batch.stuck_after_s, on_told)
        front = WorkerFront(config, remote, metrics, files)

        def elsewhere(own: int) -> int:
            board.beats(slot, own)
            return board.connections() - own

        open_ones = Connections(affordable(config.http.max_connections), metrics, elsewhere)
        server = server_on(create_app(front), config.http.host, config.http.port, config, open_ones)
        server.quiet = True
        parent = multiprocessing.parent_process()
        assert parent is not None
        asyncio.get_running_loop().add_reader(parent.sentinel, _engine_gone, remote, files)

        async def beat() -> None:
            while True:
                board.beats(slot, len(open_ones))
                metrics.connections.set(len(open_ones))
                for why in LOST:
                    lost.labels(why).set(lines.lost[why])
                await asyncio.sleep(BEAT_S)

        beating = asyncio.create_task(beat())
        await server.serve(sockets)
        beating.cancel()
        await asyncio.sleep(0)
        if front.way_out.unanswered:
            end_now(1)

    uvloop.run(run())
    end_now(0)


def _engine_gone(remote: Remote, files: Files) -> None:
    """Refuse what waits and what comes, and end soon."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(multiprocessing.parent_process().sentinel)  # type: ignore[union-attr]
    logger.error(GONE)
    remote.end()

    def end() -> None:
        shutil.rmtree(files.folder, ignore_errors=True)
        end_now(1)

    loop.call_later(LAST_S, end)
