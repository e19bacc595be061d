"""Splitting interactions into what a model may learn from and what it must predict."""

from dataclasses import dataclass

import numpy as np

from octorec.data.interactions import Interactions
from octorec.errors import InputError


@dataclass(frozen=True)
class Example:
    """One prediction to make: `history`, oldest first, then `target`."""

    user_id: str
    history: tuple[str, ...]
    target: str


def leave_last_out(interactions: Interactions, last: int = 1) -> tuple[Interactions, list[Example]]:
    """Keep each user's `last` newest interactions out of the training part and predict them one at a time.

    An example's history is everything before its target, earlier targets included. A user with `last` interactions or
    fewer keeps the oldest for training, and a user with a single one has no example. Examples come user by user in the
    order of the interactions, each user's from the oldest to the newest.
    """
    if last < 1:
        raise InputError("last", last, "must be 1 or more")
    last = min(last, len(interactions))
    starts = interactions.user_starts()
    first_held_out = np.maximum(starts[1:] - last, starts[:-1] + 1)
    rows = np.arange(len(interactions))
    user = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    train = Interactions(interactions.table.filter(rows < first_held_out[user]).combine_chunks())
    examples = []
    for (user_id, items), held_out in zip(interactions.histories().items(), first_held_out - starts[:-1], strict=True):
        examples += [Example(user_id, tuple(items[:at]), items[at]) for at in range(held_out, len(items))]
    return train, examples
