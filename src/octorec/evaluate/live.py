"""The shadow of live traffic: what an engine answered lately, asked of the weights that are to take its place.

The measures are those of `evaluate.shadow`. Each question is a call of its own, as requests that wait for the device
are answered between two of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.evaluate.compare import Agreement as Agreement
from octorec.evaluate.metrics import overlap, ranked_items
from octorec.evaluate.unknown import askable_requests

Lists = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Compared:
    """Compared is what was found of some requests. shared [n]: the share of a list that both sides hold.

    drift [m, levels] float64: |difference| of the log-probabilities of each item that answers now.
    """

    shared: np.ndarray
    drift: np.ndarray


def still_askable(engine: Engine, requests: Sequence[Request]) -> list[Request]:
    """Return those of some answered requests that the catalog still has an answer for, without items that are gone."""
    asked, _ = askable_requests(requests, engine.catalog.index.keys(), "drop")
    return [request for _, request in asked if _is_askable(engine, request)]


def _is_askable(engine: Engine, request: Request) -> bool:
    try:
        return engine.parse(request).source == "model"
    except InputError:  # an allow-list that the catalog has no more
        return False


def log_probs(engine: Engine, requests: Sequence[Request], lists: Lists) -> np.ndarray:
    """Return teacher-forced log-probabilities [m, levels] float32 of the items of all lists, one after the other."""
    rows = [(request, item) for request, items in zip(requests, lists, strict=True) for item in items]
    return engine.score([request for request, _ in rows], [item for _, item in rows])


def compared(now: Lists, then: Lists, before: np.ndarray, after: np.ndarray) -> Compared:
    """Compare the lists of both sides, and log-probabilities [m, levels] of the first side's items under both."""
    longest = max((len(items) for lists in (now, then) for items in lists), default=0)
    shared = overlap(ranked_items(now, longest), ranked_items(then, longest))
    return Compared(shared, np.abs(after.astype(np.float64) - before))


def agreement(parts: Sequence[Compared]) -> Agreement:
    """Sum up what was found of all requests."""
    return Agreement.of(np.concatenate([one.shared for one in parts]), np.concatenate([one.drift for one in parts]))
