"""A request of another process waits with a reply: its outcome is sent, and nothing of this process awaits it."""

from collections.abc import Callable
from typing import Any

from octorec.serve.settle import Outcome


class Reply:
    """A Reply is settled as a future is, once, and calls `send` with the outcome."""

    def __init__(self, send: Callable[[Outcome], None]):
        self._send: Callable[[Outcome], None] | None = send

    def done(self) -> bool:
        return self._send is None

    def set_result(self, found: Any) -> None:
        self._settle(found)

    def set_exception(self, error: Exception) -> None:
        self._settle(error)

    def _settle(self, outcome: Outcome) -> None:
        send, self._send = self._send, None
        assert send is not None
        send(outcome)
