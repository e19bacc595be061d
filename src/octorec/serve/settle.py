"""Outcomes of requests and calls are handed to those who wait for them."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from octorec.engine.rank import Found
from octorec.serve.pending import Pending

Outcome = tuple[Found, int] | Exception


def deliver(batch: list[Pending], outcomes: Sequence[Outcome]) -> None:
    """Tell each request of a batch what came of it."""
    for pending, outcome in zip(batch, outcomes, strict=True):
        settle(pending.future, outcome)


def caught(run: Callable[[], Any]) -> Any:
    """Return what `run()` gives, or the error that it raises."""
    try:
        return run()
    except Exception as error:
        return error


def settle(future: "asyncio.Future[Any]", outcome: Any) -> None:
    """Set a future's result or error, unless it has one."""
    if future.done():  # its client hung up, or its deadline passed
        return
    if isinstance(outcome, StopIteration):  # a future takes any exception but this
        future.set_exception(RuntimeError(repr(outcome)))
    elif isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
