"""What each policy answers beside 512 beams, and what the host waits for it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.rows.exact import BatchTimesRow, ExactDifferenceRow, PolicyAnswersRow, ScheduleVerdict
from benchmarks.rows.verdicts import Interval
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.engine.widths import AUTO, BeamWidth, shown
from octorec.evaluate.compare import compare_predictions
from octorec.evaluate.metrics import ndcg_at, recall_at
from studies.exact.asked import Asked, Deadline, Lists, predictions, ranks_of
from studies.exact.searches import Searches
from studies.exact.settings import CUTOFFS, MARGIN, NEAR, REFERENCE, SCHEDULES, TIMED, Policy
from studies.exact.subject import Subject
from studies.exact.temperature import target_log_probs
from studies.quality.answers import beam_overlap

BATCH = 32  # requests that are timed together


@dataclass(frozen=True)
class Side:
    """Side is what one policy answers."""

    policy: BeamWidth
    k: int
    lists: Lists

    @property
    def name(self) -> str:
        return shown(self.policy)


def policies(subject: Subject, engine: Engine, asked: Asked, which: Sequence[Policy], deadline: Deadline) -> None:
    """Ask `engine`, the subject's or one over a larger catalog, by every policy; record each beside the reference."""
    searches = Searches(engine, asked)
    reference = Side(REFERENCE, REFERENCE, searches.lists(REFERENCE, REFERENCE, deadline))
    _record(subject, asked, reference, reference)
    log_probs = target_log_probs(engine, asked, deadline)
    for width, k in which:
        side = Side(width, k, searches.lists(width, k, deadline))
        _record(subject, asked, side, reference)
        if width == AUTO:
            found = differences(side.lists, reference.lists, k)
            row = subject.row(ExactDifferenceRow, asked, policy=side.name, k=k, **vars(found))
            of = f"{row.differ} of {row.both_exact} exact answers differ, {row.near_ties} near ties"
            print(f"  {subject.name}, {side.name}, k {k}: {of}", flush=True)
        if width in SCHEDULES:
            _judge(subject, asked, side, reference, log_probs)


def _record(subject: Subject, asked: Asked, side: Side, reference: Side) -> None:
    lists, cuts = side.lists, [cut for cut in CUTOFFS if cut <= side.k]
    ranks = ranks_of(lists.places, asked.targets)
    shared = {cut: beam_overlap(lists.places[:, :cut], reference.lists.places[:, :cut]) for cut in cuts}
    row = subject.row(
        PolicyAnswersRow, asked, policy=side.name, k=side.k,
        recall={str(cut): round(float(recall_at(ranks, cut).mean()), 6) for cut in cuts},
        ndcg={str(cut): round(float(ndcg_at(ranks, cut).mean()), 6) for cut in cuts},
        overlap={str(cut): round(share, 6) for cut, share in shared.items()},
        found=round(float(lists.found.mean()), 3), exact=round(float(lists.exact.mean()), 6),
        repeated=round(float(lists.repeated.mean()), 6), beam_width=round(float(lists.width.mean()), 3),
    )  # fmt: skip
    print(f"  {subject.name}, {side.name}, k {side.k}: recall {row.recall}, overlap {row.overlap}, exact "
          f"{row.exact:.4f}, repeated {row.repeated:.4f}, found {row.found:.1f}", flush=True)  # fmt: skip


def _judge(subject: Subject, asked: Asked, side: Side, reference: Side, log_probs: np.ndarray) -> None:
    for cut in CUTOFFS:
        before, after = (predictions(asked, one.lists, cut, log_probs) for one in (reference, side))
        found = compare_predictions(before, after, MARGIN)
        ratios = {name: found.differences[name] for name in found.verdict.metrics}
        ratios = {name: one for name, one in ratios.items() if math.isfinite(one.value)}
        subject.row(
            ScheduleVerdict, asked, policy=side.name, k=cut,
            relative_difference={name: Interval(**one.to_dict()) for name, one in ratios.items()},
            verdict=found.verdict.outcome, users_needed=found.verdict.users_needed, margin=MARGIN,
        )  # fmt: skip
        print(f"  {subject.name}, {side.name} at {cut}: {found.verdict.outcome}", flush=True)


@dataclass(frozen=True)
class Differences:
    """Differences are the fields of an `ExactDifferenceRow`."""

    both_exact: int
    differ: int
    near_ties: int
    equal_scores: float
    score_difference: float


def differences(lists: Lists, reference: Lists, k: int) -> Differences:
    """Compare answers of k items that are flagged exact with the first k of those that 512 beams found exact too.

    A near tie has the same items in another order; scores of each item, and at each place, differ by `NEAR` at most.
    """
    both = lists.exact & reference.certified(k)
    sides = [(one.places[both, :k], one.scores[both, :k].astype(np.float64)) for one in (lists, reference)]
    (ours, scores), (theirs, other_scores) = sides
    other = (ours != theirs).any(1)
    (items, by_item), (other_items, other_by_item) = map(_by_item, sides)
    same_items = (items == other_items).all(1)
    apart = _apart(by_item, other_by_item)[same_items]
    near = other & same_items & (_apart(scores, other_scores) <= NEAR)
    near[same_items] &= apart <= NEAR
    equal = float((_apart(scores, other_scores) == 0).mean()) if both.any() else 1.0
    return Differences(
        int(both.sum()), int((other & ~near).sum()), int(near.sum()), equal, float(apart.max(initial=0.0))
    )


def _by_item(side: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lists [n, k] and their scores in the order of the items."""
    order = side[0].argsort(1)
    return np.take_along_axis(side[0], order, 1), np.take_along_axis(side[1], order, 1)


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[n]: the largest |difference| of each row; behind the end of both lists there is none."""
    with np.errstate(invalid="ignore"):
        return np.where(first == second, 0.0, np.abs(first - second)).max(1, initial=0.0)


def times(subject: Subject, asked: Asked, batches: int, deadline: Deadline) -> None:
    """Time batches of 32 requests by every policy, after each batch was asked once."""
    size = min(BATCH, len(asked))
    for width, k in TIMED:
        requests = [Request(example.history, k=k, beam_width=width) for example in asked.examples]
        parts = [requests[start : start + size] for start in range(0, len(requests) - size + 1, size)]
        repeated, milliseconds = 0, []
        for part in parts:  # compiles, captures
            deadline.check()
            first = subject.engine.policy.widths(width, k)[-1]
            found = [answer.beam_width for answer in subject.engine.recommend(part)]
            repeated += sum(one != first for one in found) if width == AUTO else 0
        for number in range(batches):
            deadline.check()
            before = time.perf_counter()
            subject.engine.recommend(parts[number % len(parts)])
            milliseconds.append(1e3 * (time.perf_counter() - before))
        p50, p99 = np.percentile(milliseconds, (50, 99))
        row = subject.row(
            BatchTimesRow, asked, policy=shown(width), k=k, batch=size, batches=batches,
            p50_ms=round(float(p50), 3), p99_ms=round(float(p99), 3), repeated=round(repeated / (size * len(parts)), 6),
        )  # fmt: skip
        print(f"  {subject.name}, {row.policy}, k {k}: p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
