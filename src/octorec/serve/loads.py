"""Loading beside the service, in threads that nobody waits for where they hang."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from octorec.errors import InputError
from octorec.serve.refusal import Refusal

Made = TypeVar("Made")
NAME = "load"  # of such a thread
MOST_HANGING = 4  # threads that were given up, before nothing more is loaded


async def beside(work: Callable[[], Made]) -> Made:
    """Return what `work()` gives in a thread of its own, which does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(found: Any, error: BaseException | None) -> None:
        if future.done():  # given up
            return
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)

    def run() -> None:
        found, error = None, None
        try:
            found = work()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the event loop has ended: nobody waits
            loop.call_soon_threadsafe(settle, found, error)

    threading.Thread(target=run, name=NAME, daemon=True).start()
    return await future


def hanging() -> int:
    """Return how many such threads there are."""
    return sum(thread.name == NAME for thread in threading.enumerate())


async def within(seconds: float, work: Callable[[], Made], field: str, value: str, setting: str) -> Made:
    """Return what `work()` gives beside the event loop; where that takes too long, an InputError about `field`.

    setting: the name of what says how long it may take. Refuses where too many before have not come back.
    """
    if hanging() >= MOST_HANGING:
        raise Refusal("busy", f"{MOST_HANGING} loads that were given up have not come back: restart the server")
    try:
        async with asyncio.timeout(seconds):
            return await beside(work)
    except TimeoutError:
        raise InputError(field, value, f"was not loaded within {setting} = {seconds:g} s") from None
