"""A batch takes those of the requests that wait whose answers are there by their deadlines."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Due(Protocol):
    """A Due is what has to be done by its deadline, in seconds of time.monotonic()."""

    deadline: float


D = TypeVar("D", bound=Due)


def chosen(waiting: Sequence[D], most: int, now: float, seconds: Callable[[int], float]) -> tuple[list[D], list[D]]:
    """Return the batch to run now, and who is given up: has less time left than it takes, so that no later one helps.

    waiting: in the order in which they are to be served. most: of a batch. seconds: how long a batch of a size takes.
    The batch is the first `most` where all of them are in time. Else it is of the size that serves most a second. Where
    nobody is in time, it has who has most time left: so the pace is measured, and what was slow once is not for ever.
    """
    size = min(most, len(waiting))
    if all(one.deadline >= now + seconds(size) for one in waiting[:size]):
        return list(waiting[:size]), []
    best: list[D] = []
    best_rate, ends_at = 0.0, now + seconds(1)
    while size:
        took = seconds(size)
        batch = [one for one in waiting if one.deadline >= now + took][:size]
        if batch and (rate := len(batch) / took) > best_rate:
            best, best_rate, ends_at = batch, rate, now + took
        size //= 2
    best = best or [max(waiting, key=lambda one: one.deadline)]
    taken = set(map(id, best))
    return best, [one for one in waiting if one.deadline < ends_at and id(one) not in taken]
