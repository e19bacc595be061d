"""The newest answered requests are remembered, to be asked again of weights that are to take the place of others."""

from collections import deque
from collections.abc import Sequence

from octorec.engine.request import Request
from octorec.serve.config import AdminOptions

LONGEST = 4096  # ids, tokens or characters of a request that is remembered: they take memory for as long as it is


class Recent:
    """A Recent holds the newest requests that the model answered, in memory alone, where weights may be refreshed."""

    def __init__(self, admin: AdminOptions):
        self._requests: deque[Request] = deque(maxlen=0 if admin.model_root is None else admin.refresh_requests)

    def add(self, request: Request) -> None:
        """Remember a request, unless it is long."""
        if _length(request) <= LONGEST:
            self._requests.append(request)

    def all(self) -> list[Request]:
        """Return the requests, the oldest first."""
        return list(self._requests)


def _length(request: Request) -> int:
    parts: list[Sequence[object]] = [request.history, request.exclude, request.text or "", request.input_ids or ()]
    parts += [*request.histories.values()]
    words = sum(len(str(one)) for one in (request.messages or (), request.features))
    return sum(map(len, parts)) + words
