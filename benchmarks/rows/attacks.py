"""Rows of `benchmarks.attacks`: what an attack did to the server."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.records import Row


@dataclass(frozen=True)
class AttackRow(Row):
    """One attack on one server, from this machine. Liveness was asked for meanwhile by another process."""

    case: str
    says: str  # what the attack is, in words
    side: Literal["before", "after"]  # the limits that the attack is about
    seconds: float  # that the attack lasted
    live_p99_ms: float | None  # None: not probed
    live_worst_ms: float | None
    live_failed: int  # probes that were not answered by 200 within 5 s
    gained_mb: float  # resident memory at its most, less what it was before, 10^6 bytes
    said: dict[str, int]  # attacking connections by the status they were told, else `closed` or `open`
    still_open: int  # connections that the server had not ended at last
    last_s: float  # when it ended the last of the others
    load: float  # of the machine in the minute before, in processes
    cores: int
    limits: dict[str, float]  # settings other than the defaults


@dataclass(frozen=True)
class AttackAnswerRow(Row):
    """What the server answered to one thing that a client may send, or did while its log was not read."""

    case: str
    says: str
    side: Literal["before", "after"]
    found: str
