"""Split interactions into what a model may learn from and what it must predict."""

from dataclasses import dataclass

import numpy as np

from octorec.data.interactions import Interactions
from octorec.errors import InputError


@dataclass(frozen=True)
class Example:
    """An Example is one prediction to make: `history`, oldest first, then `target`.

    A row of a benchmark may have several targets, `others` after the first, or none: target "". sids: codes of the
    targets' semantic IDs where the row says them, each once. messages: of a chat, each an object of role and content,
    where the row brings a prompt instead of a history.
    """

    user_id: str
    history: tuple[str, ...]
    target: str
    others: tuple[str, ...] = ()
    sids: tuple[tuple[int, ...], ...] = ()
    messages: tuple[dict[str, str], ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Return all targets; none where there is none."""
        return (self.target, *self.others) if self.target else ()


def leave_last_out(interactions: Interactions, last: int = 1) -> tuple[Interactions, list[Example]]:
    """Keep each user's `last` newest interactions out of the training part and predict them one at a time.

    An example's history is everything before its target, earlier targets included. A user with `last` interactions or
    fewer keeps the oldest for training, and a user with a single one has no example. Examples come user by user in the
    order of the interactions, each user's from the oldest to the newest.
    """
    if last < 1:
        raise InputError("last", last, "must be 1 or more")
    examples = []
    kept = _first_held_out(interactions, last) - interactions.user_starts()[:-1]
    for (user_id, items), held_out in zip(interactions.histories().items(), kept, strict=True):
        examples += [Example(user_id, tuple(items[:at]), items[at]) for at in range(held_out, len(items))]
    return training_part(interactions, last), examples


def validation_examples(interactions: Interactions, hold_out: int) -> list[Example]:
    """Return the oldest of each user's `hold_out` held-out interactions as an example; none where it is 0.

    The newer ones stay unseen while a model trains. A user with `hold_out` interactions or fewer has no example.
    """
    return leave_last_out(training_part(interactions, hold_out - 1))[1] if hold_out else []


def training_part(interactions: Interactions, hold_out: int) -> Interactions:
    """Return the interactions without the `hold_out` newest of each user, of whom the oldest one
    stays; 0: all of them.
    """
    if hold_out < 0:
        raise InputError("hold_out", hold_out, "must be 0 or more")
    table = interactions.table.filter(~targets_of(interactions, hold_out)).combine_chunks()
    return Interactions(table, interactions.held_out + hold_out)


def targets_of(interactions: Interactions, hold_out: int) -> np.ndarray:
    """Return [n] bool: the interactions that `training_part` leaves out and `leave_last_out` predicts."""
    lengths = np.diff(interactions.user_starts())
    return np.arange(len(interactions)) >= np.repeat(_first_held_out(interactions, hold_out), lengths)


def _first_held_out(interactions: Interactions, hold_out: int) -> np.ndarray:
    """Return [users]: the row of each user's first interaction that is held out."""
    starts = interactions.user_starts()
    hold_out = min(hold_out, len(interactions))
    return np.maximum(starts[1:] - hold_out, starts[:-1] + 1)
