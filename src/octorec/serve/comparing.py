"""Weights that are to answer are compared with those that do, on recent requests, within the settings' limits."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.evaluate.live import Agreement, Compared, Lists, agreement, compared, log_probs, still_askable
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service

Made = TypeVar("Made")
logger = logging.getLogger(__name__)
SHARE = 0.1  # of the device's time that a comparison takes while requests are answered
SCORED = 10  # items of an answer, the best, whose log-probabilities are compared


@dataclass(frozen=True)
class Said:
    """Said is what an engine answered to some requests. log_probs [m, levels]: of the best items of each list."""

    requests: Sequence[Request]
    lists: Lists
    log_probs: np.ndarray


class Comparing:
    """A Comparing asks engines of a service on its device's thread, a few requests between two batches."""

    def __init__(self, service: Service):
        self.service, self.limits = service, service.config.admin

    async def requests(self, name: str, force: bool) -> list[Request]:
        """Return the requests to compare by; an InputError about version `name` where they are too few."""
        engine = self.service.serving.engine
        found = await asyncio.to_thread(still_askable, engine, self.service.recent.all())
        wanted = self.limits.refresh_requests
        if len(found) < wanted and not force:
            allowed = (
                f"only {len(found)} of refresh_requests = {wanted} requests were answered that it may be compared by: "
                "wait, or say force"
            )
            raise InputError("version", name, allowed)
        return found

    async def asked(self, engine: Engine, requests: Sequence[Request]) -> list[Said]:
        """Return what an engine answers, while others are answered too."""
        return [await self._said(engine, chunk) for chunk in _chunks(engine, requests)]

    async def beside(self, candidate: Engine, requests: Sequence[Request]) -> Agreement | None:
        """Return how alike another engine over the same catalog answers; None where there was nothing to ask.

        What is asked while the catalog is replaced says nothing, and is left out.
        """
        engine, found = self.service.serving.engine, list[Compared]()
        for chunk in _chunks(engine, requests):
            catalog = engine.catalog
            try:
                one = await self._compared(engine, candidate, chunk)
            except InputError:
                if engine.catalog is catalog:
                    raise
                continue
            if engine.catalog is catalog:
                found.append(one)
        return _summed(found)

    async def _compared(self, engine: Engine, candidate: Engine, chunk: Sequence[Request]) -> Compared:
        now = await self._said(engine, chunk)
        then = await self._on_device(partial(candidate.lists, chunk))
        after = await self._on_device(partial(log_probs, candidate, chunk, _best(now.lists)))
        return compared(now.lists, then, now.log_probs, after)

    async def _said(self, engine: Engine, chunk: Sequence[Request]) -> Said:
        lists = await self._on_device(partial(engine.lists, chunk))
        return Said(chunk, lists, await self._on_device(partial(log_probs, engine, chunk, _best(lists))))

    async def _on_device(self, ask: Callable[[], Made]) -> Made:
        """Return what `ask()` gives between two batches, and leave the device to others for a while."""
        if self.service.state != "ready":
            raise Refusal("busy", "the server is not ready")

        def timed() -> tuple[Made, float]:
            start = time.monotonic()
            return ask(), time.monotonic() - start

        found, seconds = await self.service.batcher.between_batches(timed)
        await asyncio.sleep(seconds * (1 / SHARE - 1))
        made: Made = found
        return made

    def check(self, name: str, requests: int, found: Agreement | None, force: bool) -> None:
        """Raise InputError about version `name` where answers differ by more than the limits; log what was found."""
        if found is None:
            if requests and not force:
                allowed = f"none of {requests} recent requests has an item to compare by: try again, or say force"
                raise InputError("version", name, allowed)
            return
        logger.info("weights compared", extra={"version": name, "requests": requests, **asdict(found)})
        self.service.metrics.refresh_overlap.set(found.overlap)
        self.service.metrics.refresh_drift.set(found.mean_drift)
        least, most = self.limits.refresh_min_overlap, self.limits.refresh_max_drift
        if (found.overlap >= least and found.mean_drift <= most) or force:
            return
        said = (
            f"answers to {requests} recent requests share {found.overlap:.1%} of their items with those that are given "
            f"now (refresh_min_overlap = {least:.0%}), and log-probabilities differ by {found.mean_drift:.3f} a level "
            f"(refresh_max_drift = {most:g}): load another, or say force"
        )
        raise InputError("version", name, said)


def again(engine: Engine, before: Sequence[Said]) -> Agreement | None:
    """Return how alike an engine answers as it, or another, did before; on the device's thread, all at once."""
    return _summed([_again(engine, said) for said in before])


def _again(engine: Engine, said: Said) -> Compared:
    then = engine.lists(said.requests)
    return compared(said.lists, then, said.log_probs, log_probs(engine, said.requests, _best(said.lists)))


def _summed(found: Sequence[Compared]) -> Agreement | None:
    return agreement(found) if any(len(one.drift) for one in found) else None


def _best(lists: Lists) -> Lists:
    return [items[:SCORED] for items in lists]


def _chunks(engine: Engine, requests: Sequence[Request]) -> list[Sequence[Request]]:
    """Return requests as they are asked: on a GPU a batch takes as long with one, on a CPU each takes its time."""
    size = engine.config.batch_sizes[-1] if engine.rows_are_fixed else 1
    return [requests[start : start + size] for start in range(0, len(requests), size)]
