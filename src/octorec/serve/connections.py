"""All connections of a process, of both ports: one limit, who has to go when it is reached, and why others went."""

import errno
import logging
import os
import resource
from collections.abc import Callable
from typing import Protocol

from octorec.serve.metrics import Metrics

logger = logging.getLogger(__name__)
SPARE = 128  # descriptors for everything else: files of a version that is loaded, logs, libraries
LEAST = 8


class Connection(Protocol):
    """A Connection is what can be dropped."""

    def drop(self) -> None:
        """End it at once, whatever waits to be sent."""


class Connections:
    """Connections are all that are open. Where one too many comes, the one goes that has waited longest without a
    whole request: first of those that never sent one, then of the idle ones. Health is answered so, however many
    connections are held.

    most: how many may be open, also less than `max_connections` where the process has too few descriptors.
    elsewhere: told how many this process has, returns how many other processes of the server have.
    """

    def __init__(self, most: int, metrics: Metrics, elsewhere: Callable[[int], int] = lambda _: 0):
        self.most, self.metrics, self._elsewhere = most, metrics, elsewhere
        self._new: dict[Connection, None] = {}  # no whole request came yet; oldest first
        self._idle: dict[Connection, None] = {}  # between two requests; oldest first
        self._busy: set[Connection] = set()
        metrics.connections.set_function(self.__len__)

    def __len__(self) -> int:
        return len(self._new) + len(self._idle) + len(self._busy)

    def opened(self, one: Connection) -> None:
        """Take in a new connection, and drop another one where there are too many."""
        self._new[one] = None
        if len(self) + self._elsewhere(len(self)) > self.most:
            victim = next((old for waiting in (self._new, self._idle) for old in waiting if old is not one), one)
            self.ended("limit")
            self._forget(victim)
            victim.drop()

    def has_request(self, one: Connection) -> None:
        """Keep a connection, whose request has arrived."""
        self._forget(one)
        self._busy.add(one)

    def is_idle(self, one: Connection) -> None:
        """Let a connection wait for its next request."""
        self._forget(one)
        self._idle[one] = None

    def closed(self, one: Connection) -> None:
        self._forget(one)
        self._elsewhere(len(self))

    def ended(self, why: str) -> None:
        """Count a connection that the server ended. why: one of a few words."""
        self.metrics.connections_ended.labels(why).inc()

    def _forget(self, one: Connection) -> None:
        self._new.pop(one, None)
        self._idle.pop(one, None)
        self._busy.discard(one)


def affordable(most: int) -> int:
    """Return how many connections the process has descriptors for, at most `most`; raises the soft limit for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most
    fewer = max(soft - min(SPARE, soft // 2), LEAST)
    logger.warning("fewer connections than max_connections", extra={"connections": fewer, "descriptors": soft})
    return fewer


def look_for_descriptors(metrics: Metrics) -> bool:
    """Return whether the process can open anything more; log and count it where it cannot."""
    try:
        os.close(os.dup(0))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return True  # no standard input
        metrics.no_descriptors.inc()
        logger.error("no descriptor is left: new connections are closed unheard")
        return False
    return True
