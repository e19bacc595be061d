"""Item ids that a catalog lacks are left out of a request and counted, or refused, as a server does."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from octorec.data.splits import Example
from octorec.engine.request import Request, check_unknown_items
from octorec.errors import InputError

SHOWN = 5  # unknown items that are named


@dataclass(frozen=True)
class Unknown:
    """An Unknown says what was left out.

    items: item ids that the catalog lacks, once for each user who met them; users: who did.

    first: the first few as (user, item). not_asked: examples of whose history nothing is left, and whose user sends no
    fields, so that there is nothing to ask: misses. by_popularity: the same where popularity answers.
    Of requests without users each one is a user of its own.
    """

    items: int = 0
    users: int = 0
    first: tuple[tuple[str, str], ...] = ()
    not_asked: int = 0
    by_popularity: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        first = [{"user": user, "item": item} for user, item in self.first]
        counts = {"not_asked": self.not_asked, "by_popularity": self.by_popularity}
        return {"items": self.items, "users": self.users, "first": first, **counts}

    def lines(self, users: str = "users") -> list[str]:
        """Return what a person should know of it, in words."""
        lines = []
        if self.items:
            some = ", ".join(f"{item[:40]!r} of {user[:40]}" for user, item in self.first)
            lines.append(f"Items not in the catalog, left out: {self.items} of {self.users} {users}, such as {some}")
        if self.not_asked:
            lines.append(f"Not asked, as nothing of the history is in the catalog: {self.not_asked}")
        if self.by_popularity:
            said = "Answered by popularity, as nothing of the history is in the catalog"
            lines.append(f"{said}: {self.by_popularity}")
        return lines


NOTHING = Unknown()


def known_ids(
    lists: Iterable[tuple[str, Sequence[str]]], items: AbstractSet[str], policy: str, field: str = "history"
) -> tuple[list[tuple[str, ...]], Unknown]:
    """Return each list of (whose it is, item ids) without ids that are not in `items`, and what was left out.

    policy: drop or refuse; to refuse is an InputError that names the first, and `field`.
    """
    check_unknown_items(policy)
    kept: list[tuple[str, ...]] = []
    left_out: dict[tuple[str, str], None] = {}  # ordered
    for whose, ids in lists:
        unknown = [item for item in ids if item not in items]
        if unknown and policy == "refuse":
            allowed = "is no item of the catalog; leave it out, or set unknown_items to drop"
            raise InputError(f"{field} of {whose}", unknown[0], allowed)
        left_out.update(((whose, item), None) for item in unknown)
        kept.append(tuple(item for item in ids if item in items) if unknown else tuple(ids))
    users = {whose for whose, _ in left_out}
    return kept, Unknown(len(left_out), len(users), tuple(left_out)[:SHOWN])


def askable(
    examples: Sequence[Example], item_ids: Iterable[str], users: Mapping[str, Mapping[str, Any]], policy: str = "drop"
) -> tuple[list[Example], Unknown]:
    """Return the examples that can be asked and have a target that can be scored, its first, without unknown items in
    their histories.

    Raises InputError where there is none.
    """
    items = frozenset(item_ids)
    histories, unknown = known_ids(((example.user_id, example.history) for example in examples), items, policy)
    cleaned = [replace(example, history=kept) for example, kept in zip(examples, histories, strict=True)]
    asked = [example for example in cleaned if example.history or example.messages or users.get(example.user_id)]
    found = [
        replace(example, target=target)
        for example in asked
        if (target := next((target for target in example.targets if target in items), None)) is not None
    ]
    if examples and not found:
        raise InputError("examples", len(examples), "of none of them are the target and an item of the history known")
    return found, replace(unknown, not_asked=len(examples) - len(asked))


def askable_requests(
    requests: Sequence[Request], items: AbstractSet[str], policy: str = "drop"
) -> tuple[list[tuple[int, Request]], Unknown]:
    """Return requests without unknown ids in history and exclude, each with its number from 1.

    Those of whose history nothing is left, and that have neither user fields nor features nor a prompt, are not asked.
    """
    named = [(f"request {number}", request) for number, request in enumerate(requests, 1)]
    histories, _ = known_ids(((name, request.history) for name, request in named), items, policy)
    excluded, _ = known_ids(((name, request.exclude) for name, request in named), items, policy, "exclude")
    _, unknown = known_ids(((name, (*request.history, *request.exclude)) for name, request in named), items, policy)
    cleaned = [
        replace(request, history=history, exclude=exclude)
        for request, history, exclude in zip(requests, histories, excluded, strict=True)
    ]
    asked = [
        (number, request)
        for number, request in enumerate(cleaned, 1)
        if request.history or request.user or request.features or request.prompted or request.histories
    ]
    return asked, replace(unknown, not_asked=len(requests) - len(asked))
