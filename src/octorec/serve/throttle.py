"""A client that is refused and asks again at once is slowed down: its refusals cost cores that others need."""

import asyncio
import time

from starlette.requests import Request

AT_ONCE_PER_S = 100.0  # refusals of one client
BURST_S = 1.0  # whose refusals may come together
LONGEST_S = 0.2  # that a refusal is held
KEPT = 4096  # clients that are remembered; of more, all are forgotten


class Throttle:
    """A Throttle holds a refusal the longer, the more often its client was refused; of `AT_ONCE_PER_S` a second none.

    It counts as GCRA does: each refusal of a client is due 1 / `AT_ONCE_PER_S` after the one before it, and one that
    comes more than a burst earlier waits for its time.
    """

    def __init__(self) -> None:
        self._due: dict[str, float] = {}  # by client, when one more refusal is due

    async def hold(self, client: str) -> None:
        """Return when a refusal of a client may be sent."""
        if (wait := self.wait_s(client, time.monotonic())) > 0:
            await asyncio.sleep(wait)

    def wait_s(self, client: str, now: float) -> float:
        """Count a refusal at `now`, and return the seconds to hold it."""
        if len(self._due) >= KEPT and client not in self._due:
            self._due.clear()
        due = max(self._due.get(client, now), now)
        self._due[client] = min(due + 1 / AT_ONCE_PER_S, now + BURST_S + LONGEST_S)
        return min(max(due - now - BURST_S, 0.0), LONGEST_S)


def address_of(http: Request) -> str:
    """Return where a request without a token comes from."""
    return http.client.host if http.client else ""
