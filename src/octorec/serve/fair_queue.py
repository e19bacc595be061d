"""Requests that wait for the device: clients take turns, and where there is no room the one with most gives way."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Generic, Protocol, TypeVar


class Waiter(Protocol):
    """A Waiter is what waits. client: whose it is. turn: set by the queue, the round in which it is served."""

    client: str
    turn: int


W = TypeVar("W", bound=Waiter)


class FairQueue(Generic[W]):
    """A FairQueue is in order of turns, and of arrival within a turn: each client's next request is in the next turn.

    A client alone has the whole queue, in order of arrival. Beside others it waits no longer for its first request than
    one request of each.
    """

    def __init__(self, most: int):
        self.most = most
        self._of: dict[str, dict[W, None]] = defaultdict(dict)  # by client, in order of arrival
        self._all: dict[W, None] = {}
        self._turn = 0  # that is being served
        self.changed: Callable[[str, int], None] | None = None  # told of a client how many of its requests wait

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[W]:
        if len(self._of) <= 1:
            return iter(list(self._all))
        return iter(sorted(self._all, key=attrgetter("turn")))

    @property
    def clients(self) -> int:
        """Return how many clients have requests that wait."""
        return len(self._of)

    @property
    def largest(self) -> int:
        """Return how many requests wait of the client with most of them."""
        return len(self._of[self._largest()]) if self._of else 0

    def __contains__(self, one: W) -> bool:
        return one in self._all

    @property
    def oldest(self) -> W:
        return next(iter(self._all))

    def has_room(self, client: str) -> bool:
        """Say whether a request of `client` may wait: in a free place, or in that of one who has more."""
        return len(self._all) < self.most or len(self._of[self._largest()]) > len(self._of.get(client, ())) + 1

    def add(self, one: W) -> W | None:
        """Let a request wait for which there is room; returns the one that has to give way to it, if any."""
        gone = None
        if len(self._all) >= self.most:
            gone = next(reversed(self._of[self._largest()]))
            self.remove(gone)
        own = self._of[one.client]
        one.turn = max(self._turn, next(reversed(own)).turn + 1) if own else self._turn
        own[one] = self._all[one] = None
        self._tell(one.client)
        return gone

    def remove(self, one: W) -> None:
        """Take a request out, if it is in."""
        if one in self._all:
            del self._all[one]
            own = self._of[one.client]
            del own[one]
            if not own:
                del self._of[one.client]
            self._tell(one.client)

    def serve(self, one: W) -> None:
        """Take a request out for the device."""
        self._turn = max(self._turn, one.turn)
        self.remove(one)

    def ahead(self, client: str) -> int:
        """Return how many requests would be served before a further one of `client`."""
        own = len(self._of.get(client, ()))
        return own + sum(min(len(others), own + 1) for name, others in self._of.items() if name != client)

    def _tell(self, client: str) -> None:
        if self.changed is not None:
            self.changed(client, len(self._of.get(client, ())))

    def _largest(self) -> str:
        return max(self._of, key=lambda client: len(self._of[client]))
