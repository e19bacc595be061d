"""The board: numbers of the engine process that all workers read, and a few of theirs, in one file that all map.

A number is one aligned word, so that it is read whole. Nothing is locked: what stands here may be a moment old.
"""

import mmap
import os
import time
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

NUMBERS = (
    "version",
    "beat",
    "waiting",
    "clients",
    "largest",
    "full",
    "free_at",
    "lag",
    "rows",
    "whole_s",
    "one_s",
    "most",
)
PLACES = 2**16  # of clients, by a keyed hash of their names
SLOTS = 64  # workers at most
OF_SLOT = ("beat", "connections")
KEY = 16  # bytes
NUMBERS_AT, SLOTS_AT, CLIENTS_AT = 64, 1024, 4096
BYTES = CLIENTS_AT + 2 * PLACES


class Board:
    """A Board is mapped by the engine process, which writes `numbers` and `clients`, and by each worker, which writes
    its own slot.

    numbers: version: number of what answers. beat: when the engine process was last seen to run. waiting, clients:
    requests in the queue, and how many clients have some. largest: the most that one has, while full is 1. free_at,
    lag, rows, whole_s, one_s: when the running batch ends, and how long batches with the default beams take: one of
    `rows` requests, and one of a single request. most: that may wait. Times are of time.monotonic(), in seconds.
    """

    def __init__(self, path: Path, make: bool = False):
        """Open the file. make: it is new, made by the engine process."""
        if make:
            path.write_bytes(os.urandom(KEY) + bytes(BYTES - KEY))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), BYTES)
        self._key = self._map[:KEY]
        self._numbers = np.frombuffer(self._map, np.float64, len(NUMBERS), NUMBERS_AT)
        self._slots = np.frombuffer(self._map, np.float64, SLOTS * len(OF_SLOT), SLOTS_AT).reshape(SLOTS, -1)
        self._clients = np.frombuffer(self._map, np.uint16, PLACES, CLIENTS_AT)
        self._place = lru_cache(4096)(self._placed)

    def put(self, **numbers: float) -> None:
        for name, value in numbers.items():
            self._numbers[NUMBERS.index(name)] = value

    def get(self, name: str) -> float:
        return float(self._numbers[NUMBERS.index(name)])

    def queued(self, client: str, own: int, waiting: int, clients: int, largest: int) -> None:
        """Say that a client has `own` requests in the queue. largest: the most that one has where it is full."""
        self._clients[self._place(client)] = min(own, 2**16 - 1)
        self.put(waiting=waiting, clients=clients, largest=largest, full=bool(largest))

    def own(self, client: str) -> int:
        """Return how many requests of a client wait; with a chance of clients / 2^16, those of another."""
        return int(self._clients[self._place(client)])

    def has_room(self, client: str) -> bool:
        """Say what `FairQueue.has_room` would."""
        return not self.get("full") or self.get("largest") > self.own(client) + 1

    def shortest_wait(self, client: str) -> float:
        """Return in how many seconds a further request of a client would be answered at the earliest; see `Batcher`.

        Of each other client at least one request is served before it.
        """
        own, now = self.own(client), time.monotonic()
        ahead = own + max(0, self.get("clients") - bool(own))
        batches, before = divmod(ahead, max(1.0, self.get("rows")))
        one, whole, rows = self.get("one_s"), self.get("whole_s"), self.get("rows")
        last = one if rows <= 1 else one + (whole - one) * before / (rows - 1)
        return self.get("lag") + max(0.0, self.get("free_at") - now) + batches * whole + last

    @property
    def silent_s(self) -> float:
        """Return for how many seconds nothing was seen of the engine process; 0 before it was seen at all."""
        beat = self.get("beat")
        return time.monotonic() - beat if beat else 0.0

    @staticmethod
    def left_s(deadline: float) -> float:
        return deadline - time.monotonic()

    def beats(self, slot: int, connections: int) -> None:
        """Say that a worker runs, and how many connections it has."""
        self._slots[slot] = time.monotonic(), connections

    def seen(self, slot: int) -> float:
        """Return when a worker was last seen to run; 0 for one that is only starting."""
        return float(self._slots[slot, 0])

    def clear(self, slot: int) -> None:
        self._slots[slot] = 0

    def connections(self) -> int:
        """Return how many connections all workers have."""
        return int(self._slots[:, 1].sum())

    def _placed(self, client: str) -> int:
        """Return the place of a client, which nobody who lacks the key can aim at."""
        digest = blake2b(client.encode("utf-8", "surrogateescape"), key=self._key, digest_size=2).digest()
        return int.from_bytes(digest, "little")
