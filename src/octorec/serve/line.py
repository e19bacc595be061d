"""The seam between requests and the device: what hands them over, in this process or to another."""

from typing import Any, Protocol

from octorec.engine.widths import Widths
from octorec.serve.pending import Pending, Serving
from octorec.serve.refusal import Refusal


class Line(Protocol):
    """A Line has requests wait for the device. `Batcher` has the device itself; `workers.remote.Remote` has it not."""

    drop_unknown: bool

    @property
    def serving(self) -> Serving | None:
        """Return what answers now; None until something was loaded."""

    @property
    def waiting(self) -> int:
        """Return how many requests wait, of all clients."""

    @property
    def stuck(self) -> str | None:
        """Return why the device will not go on, or None."""

    def refuse_if_full(self, client: str = "") -> None:
        """Raise a Refusal where no further request of a client may wait."""

    def refuse_if_late(self, client: str, deadline: float, widths: Widths | None = None) -> None:
        """Raise a Refusal where a further request cannot be answered by its deadline; see `Batcher`."""

    def submit(self, pending: Pending) -> None:
        """Let a request wait, until its `future` is settled; or raise a Refusal."""

    def leave(self, pending: Pending) -> None:
        """Drop a request that nobody waits for any more."""

    def give_up(self, refusal: Refusal) -> Any:
        """End every request that waits or runs."""
