"""Messages pass between the processes by zmq: a word, a head in JSON, and arrays as frames of their own.

The engine process takes nothing else from a worker. Workers also take pickles from it, of what they are to open.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import orjson
import zmq

logger = logging.getLogger(__name__)
AT_ONCE = 64  # messages that are taken before others have their turn
Frames = list[bytes]
Arrays = Mapping[str, np.ndarray]


def framed(word: bytes, head: Mapping[str, Any], arrays: Arrays | None = None) -> list[Any]:
    """Return the frames of a message."""
    arrays = {} if arrays is None else arrays
    table = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    packed = orjson.dumps({**head, "arrays": table}, option=orjson.OPT_SERIALIZE_NUMPY)
    return [word, packed, *(np.ascontiguousarray(array).data for array in arrays.values())]


def unframed(frames: Frames) -> tuple[bytes, dict[str, Any], dict[str, np.ndarray]]:
    """Return the word, the head and the arrays of a message."""
    word, head = frames[0], orjson.loads(frames[1])
    table: Iterable[Any] = head.pop("arrays")
    arrays = {
        name: (np.frombuffer(frame, dtype) if frame else np.zeros(0, dtype)).reshape(shape)
        for (name, dtype, shape), frame in zip(table, frames[2:], strict=True)
    }
    return word, head, arrays


class Wire:
    """A Wire is a zmq socket on an event loop. It never waits, and drops nothing: what is asked is bounded elsewhere.

    took: called with the frames of each message.
    """

    def __init__(self, context: zmq.Context[Any], kind: int, took: Callable[[Frames], None]):
        self.socket, self._took = context.socket(kind), took
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            self.socket.setsockopt(option, 0)

    def open(self) -> None:
        """Begin to take messages, on the event loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.socket.getsockopt(zmq.FD), self._take)
        self._loop.call_soon(self._take)

    def send(self, frames: list[Any]) -> bool:
        """Send a message; False where its receiver is gone."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        self._look_again()
        return True

    def close(self) -> None:
        self._loop.remove_reader(self.socket.getsockopt(zmq.FD))
        self.socket.close()

    def _take(self) -> None:
        """Take what is there. The socket tells of a message once, so that all of them are taken, some at a time."""
        for _ in range(AT_ONCE):
            if self.socket.closed:
                return
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.ZMQError:
                return
            try:
                self._took(frames)
            except Exception:  # of one message
                logger.exception("a message between processes failed")
        self._loop.call_soon(self._take)

    def _look_again(self) -> None:
        """Take what came while something was sent, of which the socket may have told already."""
        if self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self._loop.call_soon(self._take)
