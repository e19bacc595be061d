"""Compare two engines on requests without labels: how alike they answer, before anyone knows what was clicked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from octorec.data.sampled import Sample
from octorec.engine.request import UNKNOWN_ITEMS, Request
from octorec.errors import InputError, MismatchError, NonFiniteError
from octorec.evaluate.compare import Agreement
from octorec.evaluate.metrics import overlap, ranked_items
from octorec.evaluate.predictions import BATCH, Engine, item_lists
from octorec.evaluate.unknown import NOTHING, Unknown, askable_requests
from octorec.progress import Progress, silent


@dataclass(frozen=True)
class Shadow:
    """A Shadow says how alike two engines answer requests.

    requests, and answers: the baseline's items whose log-probabilities under both engines make the drift.

    unknown: what was left out of the requests. exclude_seen: whether answers to requests that do not say hold no item
    of the history. sample: which were asked, None where all were.
    """

    requests: int
    answers: int
    agreement: Agreement
    unknown: Unknown = NOTHING
    exclude_seen: bool = False
    sample: Sample | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        counts = {"requests": self.requests, "answers": self.answers, "exclude_seen": self.exclude_seen}
        sample = self.sample and self.sample.to_dict()
        return {**counts, "sample": sample, "agreement": vars(self.agreement), "unknown_items": self.unknown.to_dict()}


def shadow(
    baseline: Engine,
    candidate: Engine,
    requests: Sequence[Request],
    batch: int = BATCH,
    progress: Progress = silent,
    unknown_items: str = UNKNOWN_ITEMS,
) -> Shadow:
    """Measure the overlap of both engines' top k, and the drift of the log-probabilities of the baseline's own top k.

    batch: requests handed over at a time. progress: called after each batch with the requests done and their number.
    unknown_items: drop leaves out and counts ids that one of the catalogs lacks, refuse is an InputError that names
    one. Both engines must have one default for `exclude_seen`.
    Raises NonFiniteError with the number of the request whose scores are NaN or infinity.
    """
    if not requests:
        raise InputError("requests", 0, "give at least one request")
    if batch < 1:
        raise InputError("batch", batch, "must be 1 or more")
    if baseline.exclude_seen != candidate.exclude_seen:
        allowed = f"the baseline's is {baseline.exclude_seen}: such answers cannot be compared"
        raise MismatchError("candidate: exclude_seen", candidate.exclude_seen, allowed)
    items = frozenset(baseline.catalog.item_ids).intersection(candidate.catalog.item_ids)
    asked, unknown = askable_requests(requests, items, unknown_items)
    shared, drift = [np.empty(0)], [np.empty(0)]
    for start in range(0, len(asked), batch):
        numbers, chunk = zip(*asked[start : start + batch], strict=True)
        with _naming(numbers):
            answers = [item_lists(engine, chunk) for engine in (baseline, candidate)]
        longest = max(request.k for request in chunk)
        shared.append(overlap(*(ranked_items(lists, longest) for lists in answers)))
        drift += _drift(baseline, candidate, numbers, chunk, answers[0], batch)
        progress(start + len(chunk), len(asked))
    scored = np.concatenate(drift[1:]) if len(drift) > 1 else drift[0]
    if not len(scored):
        raise InputError(
            "requests", len(requests), "the baseline answers none of them with an item: nothing to compare"
        )
    agreement = Agreement.of(np.concatenate(shared), scored)
    return Shadow(len(requests), len(scored), agreement, unknown, baseline.exclude_seen)


def _drift(
    baseline: Engine,
    candidate: Engine,
    numbers: Sequence[int],
    requests: Sequence[Request],
    answers: Sequence[Sequence[str]],
    batch: int,
) -> list[np.ndarray]:
    """Return |difference| of the log-probabilities of `answers`, one row an item: parts [items, levels]."""
    asked = zip(numbers, requests, answers, strict=True)
    rows = [(number, request, item) for number, request, items in asked for item in items]
    parts = []
    for start in range(0, len(rows), batch):
        places, of, targets = zip(*rows[start : start + batch], strict=True)
        with _naming(places):
            before, after = (engine.score(of, targets) for engine in (baseline, candidate))
        parts.append(np.abs(after.astype(np.float64) - before))
    return parts


@contextmanager
def _naming(numbers: Sequence[int]) -> Iterator[None]:
    """Name the request, as they are numbered from 1, in the error of requests handed over together."""
    try:
        yield
    except NonFiniteError as error:
        found = list(dict.fromkeys(numbers[place] for place in error.places))
        raise NonFiniteError(error.checkpoint, [number - 1 for number in found], f"request {found[0]}") from None
