"""A client talks to a server alike with and without asyncio: generators say what to send and how long to wait.

A generator yields a Send, and gets the Reply, or an error of the transport as a Lost; or it yields a Wait, and gets
None. What it returns is the result.
"""

import random
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from octorec.client.answers import Answer, answer_of
from octorec.client.asked import Asked, body_of
from octorec.client.errors import DeadlinePassed, ServerError, Unavailable, error_of

PATH = "/v1/recommend"
PAUSE_S = 0.1  # before a lost connection is tried again, doubled each time
LONGEST_PAUSE_S = 5.0
SPREAD = 0.25  # of a wait at most is added by chance, so that clients do not come back together
LIST = 64  # requests of one body, the server's max_list where it is not changed

Result = TypeVar("Result")


@dataclass(frozen=True)
class Send:
    """A Send is a request to be sent. body: None for GET. timeout_s: for all of it."""

    path: str
    body: Any
    timeout_s: float


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Reply:
    """A Reply is a response. raw: its decoded body, None where that is no JSON."""

    status: int
    retry_after_s: float | None
    raw: Any


@dataclass(frozen=True)
class Lost:
    """A Lost says why no response came."""

    why: str
    timed_out: bool


Talk = Generator[Send | Wait, Any, Result]


def recommend(asked: Asked, timeout_s: float) -> Talk[Answer]:
    """Ask for one answer within `timeout_s`; a ServerError where there is none."""
    ends_at = time.monotonic() + timeout_s
    pause = PAUSE_S
    while True:
        left = ends_at - time.monotonic()
        reply = yield Send(PATH, body_of(asked, left), max(left, 0.001))
        if isinstance(reply, Reply) and reply.status == 200:
            return answer_of(reply.raw)
        error, wait = _ended(reply, timeout_s, pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
        if wait is None or time.monotonic() + wait >= ends_at:
            raise error
        yield Wait(wait)


def recommend_many(several: Sequence[Asked], timeout_s: float) -> Talk[list[Answer | ServerError]]:
    """Ask for several requests, lists of `LIST` at a time; return of each its answer or the error that ended it.

    Requests that the server had no room for are asked again; one that is wrong does not disturb the others.
    """
    ends_at = time.monotonic() + timeout_s
    found: list[Answer | ServerError | None] = [None] * len(several)
    left = list(range(len(several)))
    pause = PAUSE_S
    while left:
        again, longest = [], 0.0
        for start in range(0, len(left), LIST):
            numbers = left[start : start + LIST]
            seconds = max(ends_at - time.monotonic(), 0.001)
            reply = yield Send(PATH, [body_of(several[number], seconds) for number in numbers], seconds)
            for number, one in zip(numbers, _each(reply, len(numbers)), strict=True):
                if isinstance(one, Reply) and one.status == 200:
                    found[number] = answer_of(one.raw)
                    continue
                error, wait = _ended(one, timeout_s, pause)
                found[number] = error
                if wait is not None:
                    again.append(number)
                    longest = max(longest, wait)
        pause = min(2 * pause, LONGEST_PAUSE_S)
        if not again or time.monotonic() + longest >= ends_at:
            break
        yield Wait(longest)
        left = again
    return [one for one in found if one is not None]


def ask(path: str, timeout_s: float) -> Talk[Any]:
    """Ask for what is at an address, once."""
    reply = yield Send(path, None, timeout_s)
    if isinstance(reply, Lost):
        raise _ended(reply, timeout_s, PAUSE_S)[0]
    if reply.status != 200:
        raise error_of(reply.status, reply.raw)
    return reply.raw


def _each(reply: Reply | Lost, count: int) -> list[Reply | Lost]:
    """Return what became of each request of a list."""
    if isinstance(reply, Lost) or reply.status != 200:
        return [reply] * count
    answers = reply.raw.get("answers") if isinstance(reply.raw, dict) else None
    if not isinstance(answers, list) or len(answers) != count:
        return [Lost("the list of answers has another length than that of the requests", False)] * count
    return [Reply(_status(one), None, one) for one in answers]


def _status(raw: Any) -> int:
    error = raw.get("error") if isinstance(raw, dict) else None
    return int(error["status"]) if isinstance(error, dict) and "status" in error else 200


def _ended(reply: Reply | Lost, timeout_s: float, pause: float) -> tuple[ServerError, float | None]:
    """Return the error of a request without an answer, and after how many seconds to ask again; None for never."""
    if isinstance(reply, Lost):
        if reply.timed_out:
            return DeadlinePassed(0, "timeout", f"no answer came within {timeout_s:g} s ({reply.why})"), None
        return Unavailable(0, "unreachable", reply.why), _spread(pause)
    error = error_of(reply.status, reply.raw)
    if not isinstance(error, Unavailable) or error.outcome == "not_live":
        return error, None
    return error, _spread(pause if reply.retry_after_s is None else reply.retry_after_s)


def _spread(seconds: float) -> float:
    return seconds * (1 + SPREAD * random.random())
