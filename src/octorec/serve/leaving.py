"""The way out of a process: what was accepted is answered, within the limit that the settings say."""

import asyncio
import logging
import threading
from collections.abc import Sequence

import uvicorn

from octorec.serve.front import Front
from octorec.serve.logs import end_now

logger = logging.getLogger(__name__)
LAST_S, LAST_SHARE = 2.0, 0.25  # of the way out, the less of both: for refusals and for what has to be closed
SENT_S = 0.5  # for answers that are being written when the last was found


async def leave(service: Front, servers: Sequence[uvicorn.Server]) -> None:
    """End the servers: ready says 503 at once; then new requests are refused; the end comes with the last answer.

    Near the limit what is left is refused too. The process ends at the limit, whatever hangs.
    """
    logger.info("draining", extra={"accepted": service.accepted})
    service.state = "ending"
    await asyncio.sleep(service.config.drain.drain_delay_s)
    service.drain()
    _end_at_the_limit(service.left_s)
    try:
        async with asyncio.timeout(service.left_s - min(LAST_S, service.left_s * LAST_SHARE)):
            await service.drained()
    except TimeoutError:
        logger.error("ended with requests unanswered", extra={"accepted": service.accepted})
    if not service.loaded.done():
        await service.written()
        end_now(0)  # loading cannot be interrupted, and nothing was accepted
    if not service.accepted:
        await _sent(service)
    await service.give_up()
    for server in servers:
        server.should_exit = True


async def _sent(service: Front) -> None:
    """Wait for answers that are being written, and not long for a client that is slow."""
    for _ in range(round(SENT_S / 0.01)):
        if not len(service.way_out):
            return
        await asyncio.sleep(0.01)


def _end_at_the_limit(seconds: float) -> None:
    def end() -> None:
        logger.error("ended at the limit of the way out")
        end_now(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
