"""The engine process's side of the workers: it starts and watches them, and takes their requests."""

import asyncio
import logging
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import zmq
from prometheus_client import multiprocess

from octorec.catalog.catalog import Catalog
from octorec.engine.desk import Desk
from octorec.errors import InputError
from octorec.reading import reason
from octorec.serve.batcher import Batcher
from octorec.serve.config import ServeConfig
from octorec.serve.loads import beside
from octorec.serve.metrics import Metrics
from octorec.serve.pending import Pending, Serving
from octorec.serve.settle import Outcome
from octorec.serve.trace_context import TraceContext
from octorec.serve.workers import messages
from octorec.serve.workers.board import Board
from octorec.serve.workers.mapped import write
from octorec.serve.workers.private import PrivateFolder
from octorec.serve.workers.reply import Reply
from octorec.serve.workers.start import Files, Started, hashed, start_worker
from octorec.serve.workers.wire import Arrays, Frames, Wire, unframed

logger = logging.getLogger(__name__)
BEAT_S = 0.1
OPEN_S = 30.0  # that a worker may take to open a version
SILENT_S = 30.0  # after which a worker that does not run is ended
RESTART_S = 1.0  # from one start of a worker to the next


@dataclass(eq=False)
class Worker:
    """A Worker is a process that runs. pending: its requests that wait or run, by its numbers. opened: numbers of
    versions."""

    name: bytes
    slot: int
    started: Started
    pending: dict[int, Pending] = field(default_factory=dict)
    opened: set[int] = field(default_factory=set)
    ready: bool = False  # to be told things
    ended: bool = False
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, eq=False)
class Version:
    """A Version is what may answer: an engine with a catalog, and the message that has a worker open it."""

    serving: Serving
    catalog: Catalog
    folder: Path  # with the catalog's files, which equal catalogs share
    message: list[Any]


class Crew:
    """A Crew is the workers of one server.

    told: returns how the engine process is. ending: no worker that ends is started again. failed: how many ended
    otherwise than they should on the way out.
    """

    def __init__(
        self,
        config: ServeConfig,
        batcher: Batcher,
        metrics: Metrics,
        told: Callable[[], messages.Told],
        listening: Callable[[], None],
    ):
        """Make the private folder and the socket. listening: called when the first worker takes requests."""
        self.config, self.batcher, self.metrics, self.told = config, batcher, metrics, told
        self._listening: Callable[[], None] | None = listening
        self.private = PrivateFolder()
        self.files = Files(self.private.path)
        self.files.make()
        self.board = Board(self.files.board, make=True)
        self.workers: dict[bytes, Worker] = {}
        self._gone: set[bytes] = set()  # names of those that have ended
        self.versions: dict[int, Version] = {}
        self.ending, self.failed = False, 0
        self._numbers, self._names = count(1), count()
        self._last_told = messages.Told("loading")
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wire = Wire(zmq.Context.instance(), zmq.ROUTER, self._took)
        self._wire.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._wire.socket.bind(self.files.address)

    def open(self, sockets: list[Any]) -> None:
        """Begin to start workers on sockets that listen, on the event loop that runs."""
        self._loop, self._sockets = asyncio.get_running_loop(), sockets
        self._wire.open()
        self.batcher.watch(self._queued, self._took_batch)
        for slot in range(self.config.http.http_workers):
            self._task(self._start(slot, 0.0))
        self._task(self._beat())

    async def announce(self, serving: Serving, catalog: Catalog) -> None:
        """Write the files of a version that is to answer, and wait until every worker has opened it. An equal catalog
        that is there already is not written again. Raises InputError where they cannot be written."""
        number = next(self._numbers)
        folder = self._folder_of(catalog)
        if folder is None:
            folder = self.files.catalog(number)
            await beside(partial(_written, catalog, folder))
        desk: Desk = replace(serving.engine.desk(catalog), catalog=None)  # type: ignore[arg-type]
        opened = messages.Opened(number, str(folder), desk, serving.model)
        version = Version(serving, catalog, folder, [messages.OPEN, pickle.dumps(opened)])
        self.versions[number] = version
        asked = [worker for worker in self.workers.values() if worker.ready]
        for worker in asked:
            self._send(worker, version.message)
        until = time.monotonic() + OPEN_S
        while left := [worker for worker in asked if not worker.ended and number not in worker.opened]:
            if time.monotonic() > until:
                for worker in left:
                    self._kill(worker, "a worker does not open a version")
            await self._change(0.5)

    def _folder_of(self, catalog: Catalog) -> Path | None:
        """Return the folder of an equal catalog's files; None where there is none."""
        wanted = catalog.version, catalog.fingerprint
        folders = {(one.catalog.version, one.catalog.fingerprint): one.folder for one in self.versions.values()}
        return folders.get(wanted)

    def now_serving(self, serving: Serving) -> None:
        """Let a version answer, in all workers at once; called on the device thread, between two batches."""
        catalog = serving.engine.catalog
        found = [n for n, one in self.versions.items() if one.serving is serving and one.catalog is catalog]
        number = found[-1]
        self.board.put(version=number)
        self._loop.call_soon_threadsafe(self._retire, number)

    def tell(self) -> None:
        """Tell all workers how the engine process is, if that has changed."""
        told = self.told()
        if told != self._last_told:
            self._last_told = told
            for worker in self.workers.values():
                self._send(worker, [messages.TELL, pickle.dumps(told)])

    async def ended(self) -> None:
        """Wait until every worker has ended, each as it leaves by itself."""
        self.ending = True
        while self.workers:
            await self._change(0.5)

    async def close(self) -> None:
        """End what is left of the workers, and remove all files."""
        self.ending = True
        for task in [*self._tasks]:
            task.cancel()
        for worker in [*self.workers.values()]:
            self._kill(worker, "a worker does not end")
        while self.workers:
            await self._change(0.5)
        self._wire.close()
        self.private.remove()

    def kill(self) -> None:
        """End all workers at once, where nothing else can be waited for."""
        for worker in [*self.workers.values()]:
            worker.started.kill(signal.SIGKILL)

    # Workers
    async def _start(self, slot: int, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        if self.ending:
            return
        name = b"%d-%d" % (slot, next(self._names))
        self.board.clear(slot)
        started = await beside(partial(start_worker, name, slot, self.files, self.config, self._sockets))
        worker = self.workers[name] = Worker(name, slot, started)
        self._loop.add_reader(started.sentinel, self._ended, worker)
        if self.ending:
            self._kill(worker, "a worker came too late")

    def _ended(self, worker: Worker) -> None:
        """Go on without a worker: what it held leaves the queue, and another is started."""
        self._loop.remove_reader(worker.started.sentinel)
        code = worker.started.exit_code()
        worker.ended = True
        del self.workers[worker.name]
        self._gone.add(worker.name)
        for pending in worker.pending.values():
            self.batcher.leave(pending)
        self.board.clear(worker.slot)
        multiprocess.mark_process_dead(worker.started.pid, str(self.files.metrics))  # type: ignore[no-untyped-call]
        self._changed.set()
        if self.ending:
            self.failed += bool(code)
            return
        about = {"worker": worker.slot, "exit_code": code, "requests": len(worker.pending)}
        logger.error("a worker has ended: another is started", extra=about)
        self._task(self._start(worker.slot, max(0.0, worker.at + RESTART_S - time.monotonic())))

    def _kill(self, worker: Worker, why: str) -> None:
        logger.error(why, extra={"worker": worker.slot})
        worker.started.kill(signal.SIGKILL)

    async def _beat(self) -> None:
        """Say on the board that this process runs, tell workers what has changed, and end those that do not run."""
        while True:
            now = time.monotonic()
            self.board.put(beat=now)
            try:
                self.tell()
            except Exception:  # the beat goes on
                logger.exception("the workers cannot be told how the engine process is")
            for worker in [*self.workers.values()]:
                if (seen := self.board.seen(worker.slot)) and now - seen > SILENT_S:
                    self._kill(worker, "a worker does not run")
            await asyncio.sleep(BEAT_S)

    def _task(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop keeps no reference of its own
        task.add_done_callback(self._tasks.discard)

    async def _change(self, most_s: float) -> None:
        """Wait until something of the workers has changed, or some time."""
        self._changed.clear()
        try:
            async with asyncio.timeout(most_s):
                await self._changed.wait()
        except TimeoutError:
            return

    # Messages
    def _send(self, worker: Worker, frames: list[Any]) -> None:
        if worker.ready:
            self._wire.send([worker.name, *frames])

    def _took(self, frames: Frames) -> None:
        worker = self.workers.get(frames[0])
        if worker is None:  # it said hello before its start was noticed, or has ended
            if frames[1] == messages.HELLO and frames[0] not in self._gone:
                self._loop.call_later(0.01, self._took, frames)
            return
        word, head, arrays = unframed(frames[1:])
        if word == messages.ASK:
            self._asked(worker, head, arrays)
        elif word == messages.LEAVE:
            if (pending := worker.pending.pop(head["n"], None)) is not None:
                self.batcher.leave(pending)
        elif word == messages.COUNT:
            families = pickle.dumps(list(self.metrics.registry.collect()))
            self._send(worker, [messages.COUNTS, b"%d" % head["n"], families])
        elif word == messages.OPENED:
            worker.opened.add(head["n"])
            self._changed.set()
        elif word == messages.HELLO:
            self._greet(worker)

    def _greet(self, worker: Worker) -> None:
        """Tell a new worker what to open, and how the engine process is."""
        worker.ready = True
        for version in self.versions.values():
            self._send(worker, version.message)
        self._send(worker, [messages.TELL, pickle.dumps(self.told())])
        if self._listening is not None:
            self._listening()
            self._listening = None

    def _asked(self, worker: Worker, head: dict[str, Any], arrays: Arrays) -> None:
        number = head["n"]
        version = self.versions.get(head["version"])
        if version is None:
            self._send(worker, messages.framed(messages.AGAIN, {"n": number}))
            return
        try:
            pending = self._pending(worker, head, arrays, version)
            worker.pending[number] = pending
            self.batcher.submit(pending)
        except Exception as error:  # a Refusal, or what is wrong with the message
            worker.pending.pop(number, None)
            self._send(worker, messages.refused(number, error))

    def _pending(self, worker: Worker, head: dict[str, Any], arrays: Arrays, version: Version) -> Pending:
        """Return a worker's request as it waits here."""
        parsed = messages.parsed_of(head, arrays, version.catalog)
        reply = Reply(partial(self._reply, worker, head["n"]))
        times = {"deadline": head["deadline"], "arrived": head["arrived"], "queued": head["queued"]}
        about = {"client": head["client"], "again": head["again"], "request_id": head["request_id"]}
        about["trace"] = None if head["trace"] is None else TraceContext(*head["trace"])
        return Pending(None, version.serving, parsed, future=reply, **times, **about)  # type: ignore[arg-type]

    def _reply(self, worker: Worker, number: int, outcome: Outcome) -> None:
        """Send what came of a request, unless nobody waits for it any more."""
        pending = worker.pending.pop(number, None)
        if isinstance(outcome, Exception) or self._last_told.not_live:  # the device may fail on everything, or no more
            self.tell()
        if pending is not None and not worker.ended:
            self._send(worker, messages.outcome_of(number, outcome, pending))

    # The board
    def _queued(self, client: str, own: int) -> None:
        queue = self.batcher.queue
        full = len(queue) >= queue.most
        self.board.put(most=queue.most)
        self.board.queued(client, own, len(queue), queue.clients, queue.largest if full else 0)

    def _took_batch(self) -> None:
        self.board.put(**self.batcher.outlook())

    def _retire(self, number: int) -> None:
        """Forget the versions before the one that answers."""
        for old in [one for one in self.versions if one < number]:
            folder = self.versions.pop(old).folder
            for worker in self.workers.values():
                self._send(worker, [messages.CLOSE, b"%d" % old])
            if folder not in [one.folder for one in self.versions.values()]:
                shutil.rmtree(folder, ignore_errors=True)


def _written(catalog: Catalog, folder: Path) -> None:
    """Write what workers map of a catalog."""
    try:
        write(catalog, folder)
        hashed(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        allowed = f"the catalog of http_workers cannot be written there ({reason(error)}): set TMPDIR"
        raise InputError("TMPDIR", os.fspath(folder.parent.parent), allowed) from error
