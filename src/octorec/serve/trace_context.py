"""W3C trace context says which trace a request belongs to: headers `traceparent` and `tracestate`, or gRPC's metadata.

What is malformed is ignored, as the specification says: the request then begins a trace of its own.
"""

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace

PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
LONGEST_PARENT, LONGEST_STATE = 256, 512  # characters
MOST_MEMBERS = 32  # of a tracestate
KEY = r"[a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
MEMBER = re.compile(rf"({KEY})=[ -+\--<>-~]{{0,255}}[!-+\--<>-~]")
SAMPLED, KNOWN_FLAGS = 1, 3


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A TraceContext is a place in a trace: the span `span_id` of it. state: its tracestate, empty for none."""

    trace_id: str
    span_id: str
    flags: int = 0
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Return whether its spans are recorded."""
        return bool(self.flags & SAMPLED)

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers, or metadata, that say it."""
        said = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"}
        return said | {"tracestate": self.state} if self.state else said

    def child(self) -> "TraceContext":
        """Return a new place below this one."""
        return replace(self, span_id=_random(64))


TRACE: ContextVar[TraceContext | None] = ContextVar("TRACE", default=None)  # of the request that a task answers


def new_trace() -> TraceContext:
    """Begin a trace."""
    return TraceContext(_random(128), _random(64))


def parent_of(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """Return what a request's headers say about its trace; None where they say nothing, or nothing well-formed."""
    parents, states = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    if len(parents) != 1 or len(parents[0]) > LONGEST_PARENT:
        return None
    found = PARENT.fullmatch(parents[0])
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more) or not (trace_id.strip(b"0") and span_id.strip(b"0")):
        return None
    known = int(flags, 16) & KNOWN_FLAGS
    return TraceContext(trace_id.decode(), span_id.decode(), known, _state(states))


def _state(values: list[bytes]) -> str:
    """Return the members of a tracestate; none where one of them is malformed, or there are too many."""
    if not values or sum(map(len, values)) > LONGEST_STATE:
        return ""
    members = [one.strip(" \t") for one in b",".join(values).decode("latin-1").split(",")]
    members = [one for one in members if one]
    found = [MEMBER.fullmatch(one) for one in members]
    keys = {one[1] for one in found if one is not None}
    return ",".join(members) if len(keys) == len(members) <= MOST_MEMBERS else ""


def _random(bits: int) -> str:
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"
