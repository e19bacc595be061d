"""Lists of semantic IDs stand beside lists of items where the two are not one: several items share a semantic ID.

A list of items gives all items of a semantic ID, one after another, so that k items are fewer semantic IDs. The list by
semantic ID has k of them: the k best of the search, whatever the number of their items. Published figures of language
models that write semantic IDs count those.

Letters: n examples, k names a list, L levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from octorec.data.splits import Example
from octorec.engine.rank import Ranked
from octorec.engine.request import Request
from octorec.errors import MismatchError
from octorec.evaluate.metrics import RankedItems, ranked_items, ranks_of

Codes = tuple[int, ...]


@dataclass(frozen=True)
class BySid:
    """A BySid is the answers by semantic ID, which is written as its codes with commas.

    ranked [n, k], as `metrics.ranked_items` lays it. targets: those of each row, each once.
    """

    ranked: RankedItems
    targets: Sequence[tuple[str, ...]]

    @cached_property
    def ranks(self) -> np.ndarray:
        """Return the places of the targets, as `metrics.ranks_of` gives them."""
        return ranks_of(self.ranked, self.targets)

    def at(self, rows: np.ndarray) -> "BySid":
        """Return those of the examples `rows` [m]."""
        return BySid(self.ranked[rows], [self.targets[row] for row in np.arange(len(self.targets))[rows]])


def sids_wanted(engine: Any, examples: Sequence[Example]) -> bool:
    """Say whether an engine's lists of semantic IDs are not its lists of items, or the rows say the targets' SIDs."""
    shared = getattr(engine.catalog, "n_sharing", 0) > 0 or any(example.sids for example in examples)
    return shared and hasattr(engine, "lists")


def ask(engine: Any, requests: Sequence[Request], sids: bool) -> list[tuple[list[str], list[Codes]]]:
    """Return the items of each answer of `engine`, and its semantic IDs where `sids` asks for them.

    An engine that has `lists`, as ours, makes no more than those.
    """
    if sids:
        return [*engine.lists(requests, Ranked.items_and_sids)]
    if lists := getattr(engine, "lists", None):
        return [(items, []) for items in lists(requests)]
    return [(answer.items, []) for answer in engine.recommend(requests)]


def by_sid(engine: Any, examples: Sequence[Example], lists: Sequence[Sequence[Codes]], k: int) -> BySid:
    """Lay lists of semantic IDs beside the targets': what a row says of them, else those of its items in the catalog.

    Raises MismatchError where most rows say other semantic IDs of items than the catalog: the two are of two runs.
    """
    ranked = ranked_items([[_name(codes) for codes in row] for row in lists], k)
    said = [_of_catalog(engine.catalog, example.targets) for example in examples]
    _check_same_run(examples, said)
    targets = [tuple(map(_name, example.sids or found)) for example, found in zip(examples, said, strict=True)]
    return BySid(ranked, targets)


def _name(codes: Codes) -> str:
    return ",".join(map(str, codes))


def _of_catalog(catalog: Any, targets: Sequence[str]) -> tuple[Codes, ...]:
    """Return the semantic IDs of the targets that the catalog has, each once."""
    index: Mapping[str, int] = catalog.index
    found = [tuple(catalog.codes[index[target]].tolist()) for target in targets if target in index]
    return tuple(dict.fromkeys(found))


def _check_same_run(examples: Sequence[Example], said: Sequence[Sequence[Codes]]) -> None:
    both = [(one, found) for one, found in zip(examples, said, strict=True) if one.sids and found]
    differ = [(one, found) for one, found in both if not set(one.sids) & set(found)]
    if 2 * len(differ) > len(both):
        example, found = differ[0]
        counts = f"{len(differ):,} of {len(both):,} rows differ: the catalog is of another run or domain"
        allowed = f"the catalog says {_name(found[0])}; {counts}"
        raise MismatchError(f"semantic ID of item {example.target}", _name(example.sids[0]), allowed)
