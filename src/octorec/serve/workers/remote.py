"""A worker's line to the device: requests go to the engine process as arrays, and their rows come back."""

import asyncio
import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast
from weakref import WeakValueDictionary

import zmq

from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine
from octorec.engine.widths import Widths
from octorec.errors import InputError
from octorec.serve.pending import Pending, Serving
from octorec.serve.refusal import Refusal, invalid
from octorec.serve.workers import messages
from octorec.serve.workers.board import Board
from octorec.serve.workers.mapped import open_mapped
from octorec.serve.workers.wire import Arrays, Frames, Wire, framed, unframed

logger = logging.getLogger(__name__)
COUNT_S = 2.0  # that the counts of the engine process are waited for
GONE = "the engine process has ended"
NO_VERSION = -1  # of what answers no more: the request comes back
SILENT = "the engine process has not come back from its work in time"


class Remote:
    """A Remote is a `Line` to another process. It refuses by the board what the queue would refuse, as far as it shows
    that; the queue itself decides.

    name: of this process on the wire. told: how the engine process is. on_told: called when that changes.
    """

    def __init__(
        self,
        name: bytes,
        address: str,
        board: Board,
        drop_unknown: bool,
        stuck_after_s: float,
        on_told: Callable[[messages.Told], None],
    ):
        self.board, self.drop_unknown = board, drop_unknown
        self.stuck_after_s = stuck_after_s
        self.told, self.on_told = messages.Told("loading"), on_told
        self.gone = False
        self._servings: dict[int, Serving] = {}
        self._catalogs = WeakValueDictionary[str, Catalog]()  # by folder: equal ones are opened once
        self._numbers, self._versions = count(), dict[Serving, int]()
        self._pending: dict[int, Pending] = {}
        self._number_of: dict[Pending, int] = {}
        self._counting: dict[int, asyncio.Future[Any]] = {}
        self._wire = Wire(zmq.Context.instance(), zmq.DEALER, self._took)
        self._wire.socket.setsockopt(zmq.IDENTITY, name)
        self._wire.socket.connect(address)

    def open(self) -> None:
        """Ask the engine process for what there is, on the event loop that runs."""
        self._wire.open()
        self._wire.send(framed(messages.HELLO, {}))

    # As a Batcher
    @property
    def serving(self) -> Serving | None:
        return self._servings.get(int(self.board.get("version")))

    @property
    def waiting(self) -> int:
        return int(self.board.get("waiting"))

    @property
    def stuck(self) -> str | None:
        if self.gone:
            return GONE
        return SILENT if self.board.silent_s > self.stuck_after_s else self.told.not_live

    def refuse_if_full(self, client: str = "") -> None:
        if self.board.has_room(client):
            return
        said = f"{self.board.get('most'):.0f} requests are waiting already"
        raise Refusal("queue_full", said, retry_after_s=self.board.shortest_wait(client) / 2)

    def refuse_if_late(self, client: str, deadline: float, widths: Widths | None = None) -> None:
        if not self.waiting:
            return
        wait, left = self.board.shortest_wait(client), self.board.left_s(deadline)
        if wait > left:
            said = f"an answer would take {wait:.2f} s, of which the deadline leaves {max(0.0, left):.2f} s"
            raise Refusal("overloaded", said, "deadline_ms", wait - left)

    def submit(self, pending: Pending) -> None:
        number = next(self._numbers)
        self._pending[number], self._number_of[pending] = pending, number
        self._send(number, pending, again=False)

    def leave(self, pending: Pending) -> None:
        if (number := self._forget(pending)) is not None:
            self._wire.send(framed(messages.LEAVE, {"n": number}))

    def give_up(self, refusal: Refusal) -> None:
        for pending in [*self._number_of]:
            self._settle(pending, error=refusal)

    # Beyond it
    def end(self) -> None:
        """Take note that the engine process is gone: requests that wait for it are refused at once."""
        self.gone = True
        self.give_up(Refusal("not_live", GONE))
        for counting in self._counting.values():
            counting.cancel()

    async def counts(self) -> Any:
        """Return the metrics of the engine process; None where it does not give them."""
        if self.gone:
            return None
        number = next(self._numbers)
        found = self._counting[number] = asyncio.get_running_loop().create_future()
        self._wire.send(framed(messages.COUNT, {"n": number}))
        try:
            async with asyncio.timeout(COUNT_S):
                return await found
        except (TimeoutError, asyncio.CancelledError):
            if not found.cancelled():
                raise
            return None
        finally:
            del self._counting[number]

    def _send(self, number: int, pending: Pending, again: bool) -> None:
        version = self._versions.get(pending.serving, NO_VERSION)
        self._wire.send(messages.asked(number, version, pending, again))

    def _took(self, frames: Frames) -> None:
        word = frames[0]
        if word == messages.TELL:
            self.told = pickle.loads(frames[1])
            self.on_told(self.told)
        elif word == messages.OPEN:
            self._open(pickle.loads(frames[1]))
        elif word == messages.CLOSE:
            serving = self._servings.pop(messages.number_of(frames), None)
            if serving is not None:
                self._versions.pop(serving)
        elif word == messages.COUNTS:
            counting = self._counting.get(messages.number_of(frames))
            if counting is not None and not counting.done():
                counting.set_result(pickle.loads(frames[2]))
        else:
            self._answered(frames)

    def _open(self, opened: messages.Opened) -> None:
        """Open a version that is to answer."""
        catalog = self._catalogs.get(opened.folder) or open_mapped(Path(opened.folder))
        self._catalogs[opened.folder] = catalog
        desk = replace(opened.desk, catalog=catalog)
        serving = Serving(cast(Engine, desk), opened.model)
        self._servings[opened.number], self._versions[serving] = serving, opened.number
        self._wire.send(framed(messages.OPENED, {"n": opened.number}))

    def _answered(self, frames: Frames) -> None:
        """Take what came of a request: its row, an error, or that it is to be parsed again."""
        word, head, arrays = unframed(frames)
        pending = self._pending.get(head["n"])
        if pending is None:  # nobody waits for it any more
            return
        try:
            self._answer(word, head, arrays, pending)
        except Exception as error:
            logger.exception("an answer of the engine process failed")
            self._settle(pending, error=error)

    def _answer(self, word: bytes, head: dict[str, Any], arrays: Arrays, pending: Pending) -> None:
        if word == messages.FOUND:
            pending.started, pending.finished = head["started"], head["finished"]
            desk = cast(Any, pending.serving.engine)
            self._settle(pending, (messages.found_of(head, arrays, desk), 0))
        elif word == messages.AGAIN:
            self._parse_again(head["n"], pending)
        else:
            self._settle(pending, error=messages.refusal_of(head))

    def _parse_again(self, number: int, pending: Pending) -> None:
        """Parse a request for the version that answers by now, and have it wait again."""
        serving = self.serving
        assert serving is not None
        assert pending.request is not None
        try:
            pending.parsed, pending.serving = serving.engine.parse(pending.request, self.drop_unknown), serving
        except InputError as error:
            self._settle(pending, error=invalid(error))
            return
        self._send(number, pending, again=True)

    def _settle(self, pending: Pending, found: Any = None, error: Exception | None = None) -> None:
        self._forget(pending)
        if pending.future.done():
            return
        if error is None:
            pending.future.set_result(found)
        else:
            pending.future.set_exception(error)

    def _forget(self, pending: Pending) -> int | None:
        number = self._number_of.pop(pending, None)
        if number is not None:
            del self._pending[number]
        return number
