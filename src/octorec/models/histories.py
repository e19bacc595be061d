"""A prompt may hold several histories of a user: watched videos, clicked ads. Each is cut to its newest items."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from octorec.errors import InputError, level_name
from octorec.models.prompt_openonerec import Task
from octorec.models.sid_tokens import SidTokens

MAIN = ""  # the name of the request's own history


@dataclass(frozen=True)
class Histories:
    """Histories hold the codes of items, int64 [n, L], the newest last, by name; "" is the request's own history."""

    by_name: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Return the items of all histories."""
        return sum(map(len, self.by_name.values()))

    def of_task(self, name: str, task: Task) -> "Histories":
        """Return the histories by the names of a task's lines, each cut to what the task reads.

        Raises InputError for a name that no line has, and for the task's main history given twice.
        """
        lines = {line.history: line for line in task.lines}
        require_known(self, [one for one in lines if one != task.main], f"task {name}")
        named = {task.main: self.by_name[MAIN], **{one: self.by_name[one] for one in self.by_name if one != MAIN}}
        empty = self.by_name[MAIN][:0]
        return Histories({one: named.get(one, empty)[-line.most :] for one, line in lines.items()})

    def without_oldest(self, count: int) -> "Histories":
        """Return what is left when the oldest `count` items are taken away, each from what is the longest then."""
        left = {name: len(codes) for name, codes in self.by_name.items()}
        for _ in range(min(count, len(self))):
            left[max(left, key=left.__getitem__)] -= 1
        return Histories({name: codes[len(codes) - left[name] :] for name, codes in self.by_name.items()})


def require_known(histories: Histories, known: Collection[str], whose: str) -> None:
    """Refuse histories beside the request's own that have another name than `known`."""
    for name in histories.by_name:
        if name != MAIN and name not in known:
            raise InputError(f"histories.{name}", name, f"{whose} reads {', '.join(known) or 'no other history'}")


def checked_histories(sids: SidTokens, codes: np.ndarray, others: Mapping[str, np.ndarray]) -> Histories:
    """Return the histories of a request; rows of -1, which stand for no item, are left out.

    Raises InputError for arrays of another shape or type, and codes that have no token.
    """
    found = {MAIN: codes, **others}
    if MAIN in others:
        raise InputError("histories", MAIN, "a further history needs a name")
    return Histories(
        {name: _checked(sids, array, f"histories.{name}" if name else "history") for name, array in found.items()}
    )


def _checked(sids: SidTokens, codes: np.ndarray, field: str) -> np.ndarray:
    levels = len(sids.levels)
    codes = np.asarray(codes)
    if codes.size == 0:
        return np.zeros((0, levels), np.int64)
    if codes.ndim != 2 or codes.shape[1] != levels or codes.dtype.kind not in "iu":
        raise InputError(field, codes, f"must be an array of integers [items, {levels}]")
    codes = codes[~(codes == -1).all(1)].astype(np.int64)
    for level, ids in enumerate(sids.levels):
        own = codes[:, level]
        bad = (own < 0) | (own >= len(ids))
        bad |= ids[np.where(bad, 0, own)] < 0
        if bad.any():
            row = codes[bad][0].tolist()
            raise InputError(field, row, f"level {level_name(level)} has no token for code {row[level]}")
    return codes
