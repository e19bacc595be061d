"""Weights are refreshed in place: compared on recent requests, then copied into the engine's memory between batches.

Where the device has room for both, the new weights are asked beside the old ones, which answer meanwhile. Where it has
not, they are asked once they are copied, while requests wait, and the old ones come back if they are not alike.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from octorec.engine.model_folder import is_adapter
from octorec.engine.refresh import Weights, engine_beside, exchange, fits_beside, on_host, read_weights
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.evaluate.live import Agreement, still_askable
from octorec.serve.comparing import Comparing, again
from octorec.serve.pending import Serving
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service

logger = logging.getLogger(__name__)
Placed = tuple[Weights, Agreement | None]  # the weights before, and how alike those after answer


@dataclass(frozen=True)
class Read:
    """A Read is a checkpoint that was read and checked. beside: whether the device has room for it and the engine's."""

    name: str
    weights: Weights
    beside: bool


@dataclass(frozen=True)
class Refreshed:
    """Refreshed says what the newest change of weights found. paused_s: for which no batch could run.

    requests: that were compared; agreement: what was found, None where nothing was compared, as in a rollback.
    """

    model: str
    requests: int
    agreement: Agreement | None
    paused_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        found = {} if self.agreement is None else asdict(self.agreement)
        return {"model": self.model, "requests": self.requests, "paused_s": round(self.paused_s, 4), **found}


class InPlace:
    """An InPlace changes the weights of the engine that serves, and keeps those before for a rollback.

    changing: the lock of all that changes what is served. newest: None where this engine had no other weights.
    """

    def __init__(self, service: Service, changing: AbstractAsyncContextManager[Any]):
        self.service, self.config, self.changing = service, service.config, changing
        self.comparing = Comparing(service)
        self.newest: Refreshed | None = None
        self._before: tuple[str, Weights] | None = None

    @property
    def previous(self) -> str | None:
        """Return the version that a rollback goes back to."""
        return None if self._before is None else self._before[0]

    def forget(self) -> None:
        """Give up the weights before, as they are of another engine."""
        self._before = self.newest = None

    def read(self, folder: Path, name: str) -> Read:
        """Read a checkpoint and check it whole, beside the service; raises as `refresh.read_weights`."""
        engine, own = self.service.serving.engine, self.config.engine
        base = own.base if is_adapter(folder) else None
        beside = fits_beside(engine, folder, own.context_module, base)
        device = engine.device if beside else "cpu"
        return Read(name, read_weights(engine, folder, device, own.context_module, base), beside)

    async def put(self, read: Read, force: bool) -> None:
        """Let the weights that were read answer from the next batch on, where they are alike.

        force: also where they differ by more than the limits, and where there are few requests to compare by.
        """
        requests = await self.comparing.requests(read.name, force)
        put = self._put_at_once if read.beside else self._put_and_ask
        await put(read, requests, force)

    async def _put_at_once(self, read: Read, requests: Sequence[Request], force: bool) -> None:
        """Ask the new weights beside the old ones, then put them in place."""
        candidate = engine_beside(self.service.serving.engine, read.weights)
        found = await self._in_time(self.comparing.beside(candidate, requests), read.name)
        self.comparing.check(read.name, len(requests), found, force)
        async with self.changing:
            await self._switch(read.name, len(requests), lambda: (self._exchanged(read.weights), found))

    async def _put_and_ask(self, read: Read, requests: Sequence[Request], force: bool) -> None:
        """Put the new weights in place and ask them, all while requests wait; put the old ones back if they differ."""
        engine = self.service.serving.engine

        def put() -> Placed:
            before = exchange(engine, read.weights)
            try:
                found = again(engine, said)
                self.comparing.check(read.name, len(requests), found, force)
            except BaseException:
                exchange(engine, before)
                raise
            return before, found

        async with self.changing:  # the catalog stays what it was when the old weights were asked
            requests = await asyncio.to_thread(still_askable, engine, requests)
            said = await self._in_time(self.comparing.asked(engine, requests), read.name)
            await self._switch(read.name, len(requests), put)

    async def roll_back(self) -> None:
        """Let the weights before the newest refresh answer again; another time, those after it."""
        if self._before is None:
            raise InputError("model", "no earlier weights", "refresh them first: load a version with in_place")
        name, weights = self._before
        async with self.changing:
            await self._switch(name, 0, lambda: (self._exchanged(weights), None))

    async def _switch(self, name: str, requests: int, put: Callable[[], Placed]) -> None:
        """Let weights answer as `name` from the next batch on, once `put()` has put them in place."""
        if self.service.state != "ready":
            raise Refusal("busy", "the server is not ready")

        def switch() -> Weights:
            start, serving = time.monotonic(), self.service.serving
            before, found = put()
            self.service.now_serving(Serving(serving.engine, name))
            self._before = serving.model, before
            self.newest = Refreshed(name, requests, found, time.monotonic() - start)
            return before

        before = await self.service.batcher.between_batches(switch)
        assert self.newest is not None
        self.service.metrics.refresh_paused.set(self.newest.paused_s)
        logger.info("weights refreshed", extra={"refresh": self.newest.to_dict()})
        await asyncio.to_thread(on_host, before)

    def _exchanged(self, weights: Weights) -> Weights:
        return exchange(self.service.serving.engine, weights)

    async def _in_time(self, comparison: Any, name: str) -> Any:
        """Return what a comparison finds, within the time that a load may take."""
        limit = self.config.admin.load_timeout_s
        try:
            async with asyncio.timeout(limit):
                return await comparison
        except TimeoutError:
            allowed = f"was not compared within load_timeout_s = {limit:g} s: lower refresh_requests, or raise that"
            raise InputError("version", name, allowed) from None
