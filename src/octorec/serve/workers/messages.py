"""A parsed request and its row of a batch, as they pass between a worker and the engine process.

Letters: L levels, W beams.
"""

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.engine.batch import ParsedRequest
from octorec.engine.desk import Desk
from octorec.engine.items import NONE, ItemFilter
from octorec.engine.rank import Found
from octorec.serve.pending import Pending, Stale
from octorec.serve.refusal import Refusal
from octorec.serve.settle import Outcome
from octorec.serve.workers.wire import Arrays, Frames, framed

# of a worker
HELLO, OPENED, ASK, LEAVE, COUNT = b"hello", b"opened", b"ask", b"leave", b"count"
# of the engine process
TELL, OPEN, CLOSE, FOUND, AGAIN, REFUSED, COUNTS = (
    b"tell",
    b"open",
    b"close",
    b"found",
    b"again",
    b"refused",
    b"counts",
)
FEATURE, BANNED = "feature ", "banned "  # before names of arrays
FAILED = "the engine failed on this request; the log has the reason"


@dataclass(frozen=True)
class Opened:
    """An Opened is what a worker has to open before a version answers: its number, the catalog's folder, the rest of
    its Desk, and the checkpoint's version."""

    number: int
    folder: str
    desk: Desk  # with no catalog
    model: str


@dataclass(frozen=True)
class Told:
    """A Told is how the engine process is. state: as `Front` has it. not_live: why it should be ended, or None."""

    state: str
    not_live: str | None = None


def asked(number: int, version: int, pending: Pending, again: bool) -> list[Any]:
    """Return the message of a request that is to wait for the device. number: that its answer names.

    again: it waited before, and was parsed for another version.
    """
    parsed = pending.parsed
    arrays = {"codes": parsed.codes, "user": np.array(parsed.user, np.float64)}
    if parsed.filter.sets is not None:
        arrays["sets"] = parsed.filter.sets
    arrays |= {f"{BANNED}{level}": nodes for level, nodes in enumerate(parsed.banned)}
    arrays |= {f"{FEATURE}{name}": values for name, values in parsed.features.items()}
    head = {"n": number, "version": version, "client": pending.client, "deadline": pending.deadline}
    head |= {"arrived": pending.arrived, "queued": pending.queued, "widths": parsed.widths, "again": again}
    head |= {"request_id": pending.request_id, "trace": None if pending.trace is None else astuple(pending.trace)}
    return framed(ASK, head, arrays)


def parsed_of(head: dict[str, Any], arrays: Arrays, catalog: Catalog) -> ParsedRequest:
    """Return what the engine reads of a parsed request; what only ranking needs is not here."""
    banned = [arrays[f"{BANNED}{level}"] for level in range(len(head["widths"]))]
    features = {name.removeprefix(FEATURE): array for name, array in arrays.items() if name.startswith(FEATURE)}
    what = catalog, arrays["codes"], arrays["user"].tolist(), ItemFilter(NONE, arrays.get("sets")), banned
    return ParsedRequest(*what, head["widths"][-1], tuple(head["widths"]), [], features=features)


def found_row(number: int, found: Found, row: int, pending: Pending) -> list[Any]:
    """Return the message of a request's row of its batch: scores [W], nodes [W], bounds [2]."""
    head = {"n": number, "started": pending.started, "finished": pending.finished}
    head |= {"first_leaf": found.first_leaf, "margin": found.margin}
    arrays = {"scores": found.scores[row], "nodes": found.nodes[row], "bounds": found.bounds[row]}
    return framed(FOUND, head, arrays)


def found_of(head: dict[str, Any], arrays: Arrays, desk: Desk) -> Found:
    """Return a batch of the one row that was sent."""
    scores, nodes, bounds = (arrays[name][None] for name in ("scores", "nodes", "bounds"))
    about = head["first_leaf"], desk.catalog, desk.checkpoint, head["margin"]
    return Found(scores, nodes, bounds, *about)


def refused(number: int, error: Exception) -> list[Any]:
    """Return the message of a request that ends without a row. What is no Refusal was logged where it was met."""
    refusal = error if isinstance(error, Refusal) else Refusal("failed", FAILED)
    about = {"outcome": refusal.outcome, "message": refusal.message, "field": refusal.field}
    return framed(REFUSED, {"n": number, **about, "retry_after_s": refusal.retry_after_s})


def refusal_of(head: dict[str, Any]) -> Refusal:
    return Refusal(head["outcome"], head["message"], head["field"], head["retry_after_s"])


def number_of(frames: Frames) -> int:
    """Return the number of a version that a message names."""
    return int(frames[1])


def outcome_of(number: int, outcome: Outcome, pending: Pending) -> list[Any]:
    """Return the message of what came of a request."""
    if isinstance(outcome, Stale):
        return framed(AGAIN, {"n": number})
    if isinstance(outcome, Exception):
        return refused(number, outcome)
    return found_row(number, *outcome, pending)
