"""Two engines on requests without labels: how alike they answer, before anyone knows what was clicked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.evaluate.compare import Agreement
from octorec.evaluate.metrics import overlap, ranked_items
from octorec.evaluate.predictions import Engine, Progress


@dataclass(frozen=True)
class Shadow:
    """requests, and answers: the baseline's items whose log-probabilities under both engines make the drift."""

    requests: int
    answers: int
    agreement: Agreement

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"requests": self.requests, "answers": self.answers, "agreement": vars(self.agreement)}


def shadow(
    baseline: Engine, candidate: Engine, requests: Sequence[Request], batch: int = 256, progress: Progress | None = None
) -> Shadow:
    """Overlap of both engines' top k, and drift of the log-probabilities of the baseline's own top k.

    batch: requests handed over at a time. progress: called after each batch with the requests done and their number.
    """
    if not requests:
        raise InputError("requests", 0, "give at least one request")
    if batch < 1:
        raise InputError("batch", batch, "must be 1 or more")
    shared, drift = [], []
    for start in range(0, len(requests), batch):
        chunk = requests[start : start + batch]
        answers = [[answer.items for answer in engine.recommend(chunk)] for engine in (baseline, candidate)]
        longest = max(request.k for request in chunk)
        shared.append(overlap(*(ranked_items(lists, longest) for lists in answers)))
        drift.append(_drift(baseline, candidate, chunk, answers[0], batch))
        if progress is not None:
            progress(start + len(chunk), len(requests))
    scored = np.concatenate(drift)
    if not len(scored):
        raise InputError(
            "requests", len(requests), "the baseline answers none of them with an item: nothing to compare"
        )
    return Shadow(len(requests), len(scored), Agreement.of(np.concatenate(shared), scored))


def _drift(
    baseline: Engine, candidate: Engine, requests: Sequence[Request], answers: Sequence[Sequence[str]], batch: int
) -> np.ndarray:
    """|difference| of the log-probabilities of `answers`, one row an item: [items, levels]."""
    pairs = [(request, item) for request, items in zip(requests, answers, strict=True) for item in items]
    parts = []
    for start in range(0, len(pairs), batch):
        asked, items = zip(*pairs[start : start + batch], strict=True)
        before, after = (engine.score(asked, items) for engine in (baseline, candidate))
        parts.append(np.abs(after.astype(np.float64) - before))
    return np.concatenate(parts) if parts else np.empty(0)
