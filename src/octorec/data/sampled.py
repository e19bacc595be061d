"""A sample of the users is the same in every run, whatever the order of a table, and spread over all of them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from octorec.data.interactions import Interactions
from octorec.errors import InputError

T = TypeVar("T")
KEY = b"octorec: sample 0"  # the seed, fixed so that nobody draws until a verdict pleases


@dataclass(frozen=True)
class Sample:
    """A Sample says how many were taken, and of how many."""

    taken: int
    of: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {**asdict(self), "chosen": "lowest keyed BLAKE2b hashes"}

    def line(self, what: str, ids: str = "ids") -> str:
        """Return what a reader must know of it as a line; `what` was taken, by its `ids`."""
        return f"{self.taken:,} of {self.of:,} {what}, chosen by a hash of their {ids}: the same ones in every run"


def sampled(ids: Iterable[str], limit: int) -> list[str]:
    """Return the `limit` ids with the lowest hashes, or all of them; a smaller limit takes a part of a larger one's."""
    check_limit(limit)
    return sorted(ids, key=lambda name: hashlib.blake2b(name.encode(), key=KEY, digest_size=16).digest())[:limit]


def sampled_users(interactions: Interactions, limit: int) -> tuple[Interactions, Sample | None]:
    """Return all interactions of at most `limit` of the users who have two or more, so that one of them can be
    predicted, and what was taken; None where that is everybody.
    """
    check_limit(limit)
    starts = interactions.user_starts()
    lengths = np.diff(starts)
    users: Sequence[str] = interactions.table["user_id"].take(starts[:-1][lengths > 1]).to_pylist()
    if limit >= len(users):
        return interactions, None
    taken = set(sampled(users, limit))
    names = interactions.table["user_id"].take(starts[:-1]).to_pylist()
    kept = np.repeat(np.array([name in taken for name in names], dtype=bool), lengths)
    table = interactions.table.filter(pa.array(kept)).combine_chunks()
    return Interactions(table, interactions.held_out), Sample(limit, len(users))


def sampled_requests(requests: list[T], limit: int | None) -> tuple[list[T], Sample | None]:
    """Return at most `limit` of the requests, by the hashes of their numbers, in their order; and what
    was taken, as above.
    """
    if limit is not None:
        check_limit(limit)
    if limit is None or limit >= len(requests):
        return requests, None
    taken = sorted(int(number) for number in sampled(map(str, range(len(requests))), limit))
    return [requests[number] for number in taken], Sample(limit, len(requests))


def check_limit(limit: int) -> None:
    if limit < 1:
        raise InputError("limit", limit, "must be 1 or more")
