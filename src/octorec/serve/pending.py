"""A request waits for the device with what is to answer it."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine
from octorec.engine.rank import Found
from octorec.engine.request import Request
from octorec.serve.trace_context import TraceContext


@dataclass(frozen=True, eq=False)
class Serving:
    """A Serving is what answers: an engine and its checkpoint's version."""

    engine: Engine
    model: str


class Stale(Exception):
    """Stale says that another version answers by now than the one that another process parsed a request for."""


@dataclass(eq=False)
class Pending:
    """A Pending is a request between its arrival and its row of a batch. Times are time.monotonic(), in seconds.

    serving: what is to answer it. parsed: by that; the device thread parses again where another version answers then.
    future: its batch's beams and its row in them, or the error that it met. earlier: seconds in the queue and on the
    device of a search before this one, which is repeated with wider beams. client, turn: as `FairQueue` has them.
    request_id, trace: by which logs and spans know it.
    """

    request: Request | None  # None: another process has it, and parses it again
    serving: Serving
    parsed: ParsedRequest
    deadline: float
    future: "asyncio.Future[tuple[Found, int]]"
    arrived: float = field(default_factory=time.monotonic)
    queued: float = field(default_factory=time.monotonic)
    started: float = 0.0
    finished: float = 0.0
    earlier: tuple[float, float] = (0.0, 0.0)
    client: str = ""
    turn: int = 0
    request_id: str = ""
    trace: TraceContext | None = None
    again: bool = False  # it waited before, so that it has its place

    @property
    def queue_s(self) -> float:
        return self.earlier[0] + self.started - self.queued

    @property
    def device_s(self) -> float:
        return self.earlier[1] + self.finished - self.started


def about(batch: list[Pending]) -> dict[str, Any]:
    """Return what the log says of a batch that failed."""
    return {"requests": len(batch), "request_ids": [pending.request_id for pending in batch]}
