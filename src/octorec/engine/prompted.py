"""Requests become prompts of a model that reads tokens, on the host."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.engine.items import lookup
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.models.messages import refuse_thinking
from octorec.models.prompts import Prompt, Prompts

if TYPE_CHECKING:
    from octorec.engine.engine import Engine

HISTORY_ONLY = ("task", "histories", "user")  # what goes into the words around a history


@dataclass(frozen=True)
class Prompting:
    """A Prompting is what an engine knows of its model's prompts.

    longest: tokens of a prompt at most. catalogs: whose items may stand in a prompt. own: the domains that this
    engine's catalog answers; None: all.
    """

    prompts: Prompts
    longest: int
    catalogs: tuple[Catalog, ...]
    own: frozenset[str] | None = None


def prompting(engine: "Engine") -> Prompting | None:
    """Return what an engine knows of its model's prompts; None for a model that reads codes."""
    if engine.prompts is None:
        return None
    catalogs = {id(one.catalog): one.catalog for one in (engine, *engine.domains.values())}
    own = frozenset(engine.own_domains) if engine.domains else None
    return Prompting(engine.prompts, engine.longest, tuple(catalogs.values()), own)


def prompt_of(
    request: Request, known: Prompting, catalog: Catalog, history: np.ndarray, most: int, notes: list[str], drop: bool
) -> Prompt | None:
    """Return a request's prompt; None where it tells nothing of its user, so that popularity answers.

    history: the items of its history that `catalog` has, of which the newest `most` are read. notes: gets what was left
    out. drop: whether unknown items are left out.
    Raises InputError as `Prompts` does, for fields that do not go together, and for semantic IDs in messages or text
    that no catalog has.
    """
    prompts, longest = known.prompts, known.longest
    if request.enable_thinking:
        refuse_thinking((), request.enable_thinking)
    if request.prompted is None:
        if not len(history) and not request.user and not request.histories:
            return None
        prompt = _of_history(request, known, catalog, history[-most:], notes if drop else None)
        if left_out := prompt.left_out + max(0, len(history) - most):
            notes.append(f"history: the {left_out} oldest items are left out of the prompt of {len(prompt.ids)} tokens")
    else:
        _refuse_beside(request)
        if request.messages is not None:
            prompt = prompts.of_messages(request.messages, request.domain, request.enable_thinking, longest)
        else:
            prompt = _whole(request, prompts, longest)
        if request.prompted != "input_ids":  # which are taken as they are
            _check_known(request.prompted, prompt.codes, known, notes if drop else None)
    if known.own is not None and prompt.domain not in known.own:
        raise InputError("domain", prompt.domain, f"this engine answers for {', '.join(sorted(known.own))}")
    return prompt


def domain_of(request: Request, prompts: Prompts) -> str:
    """Return the domain whose catalog answers: the one asked for, or that of the begin token which a prompt ends with.

    Raises InputError where that is none with a catalog.
    """
    if request.text is not None or request.input_ids is not None:
        return _whole(request, prompts, None).domain
    return prompts.domain_of(request.domain)


def refuse_prompt(request: Request) -> None:
    """Refuse what only a model that reads tokens can be asked."""
    for name in ("messages", "text", "input_ids", "domain", "task", "histories", "enable_thinking"):
        if getattr(request, name) not in (None, "", {}):
            raise InputError(name, getattr(request, name), "this model reads items' codes, not a prompt: leave it out")


def items_with(catalog: Catalog, codes: np.ndarray) -> np.ndarray:
    """Return the items [m] int64 that have one of the tuples `codes` [n, L]."""
    found = [leaf for row in codes.tolist() if (leaf := _leaf(catalog, row)) is not None]
    first = catalog.trie.leaf_items
    return np.concatenate([np.arange(first[leaf], first[leaf + 1]) for leaf in found] or [np.zeros(0, np.int64)])


def _leaf(catalog: Catalog, row: Sequence[int]) -> int | None:
    """Return the leaf of a tuple of codes; None where no item has it."""
    node = 0
    for level, code in zip(catalog.trie.levels, row, strict=True):
        start, end = level.child_start[node], level.child_start[node + 1]
        at = int(start) + int(level.child_code[start:end].searchsorted(code))
        if at == end or level.child_code[at] != code:
            return None
        node = at
    return node


def _whole(request: Request, prompts: Prompts, longest: int | None) -> Prompt:
    """Return a prompt that is given whole."""
    if request.text is not None:
        return prompts.of_text(request.text, request.domain, longest)
    assert request.input_ids is not None
    return prompts.of_ids(request.input_ids, request.domain, longest)


def _of_history(
    request: Request, known: Prompting, catalog: Catalog, history: np.ndarray, dropped: list[str] | None
) -> Prompt:
    others = {
        name: _codes(catalog, lookup(catalog, f"histories.{name}", items, dropped))
        for name, items in request.histories.items()
    }
    how: Mapping[str, Any] = {"others": others, "texts": request.user, "longest": known.longest}
    return _in_our_words(
        lambda: known.prompts.of_history(_codes(catalog, history), request.domain, request.task, **how)
    )


def _in_our_words(make: Callable[[], Prompt]) -> Prompt:
    """Name the user's words in errors as a request does."""
    try:
        return make()
    except InputError as error:
        if not error.field.startswith("texts."):
            raise
        raise InputError(f"user.{error.field.removeprefix('texts.')}", error.value, error.allowed) from None


def _codes(catalog: Catalog, places: np.ndarray) -> np.ndarray:
    """Return the codes [n, L] int64 of items."""
    return catalog.codes.take(places, 0).astype(np.int64)


def _refuse_beside(request: Request) -> None:
    for name in HISTORY_ONLY:
        if value := getattr(request, name):
            raise InputError(name, value, f"goes with a history; {request.prompted} is a whole prompt: leave it out")


def _check_known(field: str, codes: np.ndarray, known: Prompting, dropped: list[str] | None) -> None:
    """Refuse semantic IDs in a prompt's `field` that no item has, or note them in `dropped`."""
    has = [any(_leaf(catalog, row) is not None for catalog in known.catalogs) for row in codes.tolist()]
    unknown = codes[~np.array(has, bool)]
    if not len(unknown):
        return
    said = known.prompts.shown(unknown[0])
    if dropped is None:
        raise InputError(field, said, f"is no item of the catalog, as {len(unknown)} of {len(codes)} are")
    dropped.append(f"{field}: {len(unknown)} of {len(codes)} semantic IDs are of no item, such as {said}")
