"""Tell where the targets of an evaluation come from, and whether what is judged had learned from them before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.data.learned import Learned, targets_seen
from octorec.data.sampled import Sample
from octorec.data.splits import targets_of

Seen = dict[str, dict[str, int | None]]


@dataclass(frozen=True)
class Side:
    """A Side is a checkpoint as its records describe it.

    training: what its weights learned from, None without a record.
    """

    catalog: Catalog
    training: Learned | None


@dataclass(frozen=True)
class Origin:
    """An Origin says where targets come from: they are the `hold_out` newest interactions of each user. users_left_out:
    users without a target, as they have one interaction alone. seen: by checkpoint, then `catalog` and `training`: how
    many targets it had learned from, None where that cannot be told. warnings: sentences about those that are not 0.
    sample: which users were asked about, None where all were; what is counted here is of all. withdrawn: by checkpoint,
    how many targets its catalog has withdrawn: misses, whatever a model does.
    """

    hold_out: int
    users_left_out: int
    seen: Seen
    warnings: tuple[str, ...]
    sample: Sample | None = None
    withdrawn: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "hold_out": self.hold_out,
            "users_left_out": self.users_left_out,
            "targets_seen": self.seen,
            "targets_withdrawn": dict(self.withdrawn),
            "warnings": list(self.warnings),
            "sample": self.sample and self.sample.to_dict(),
        }


def origin_of(
    interactions: Interactions, hold_out: int, sides: Mapping[str, Side], sample: Sample | None = None
) -> Origin:
    """Hold the records of `sides`, checkpoints by name, against the targets among `interactions`."""
    held_out = interactions.table["item_id"].filter(targets_of(interactions, hold_out)).to_pylist()
    targets = len(held_out)
    seen: Seen = {}
    said: dict[str, list[str]] = {}
    for name, side in sides.items():
        seen[name] = {}
        for part, learned in (("catalog", side.catalog.learned), ("training", side.training)):
            seen[name][part] = None if learned is None else targets_seen(learned, interactions, hold_out)
            if seen[name][part] != 0:
                given = part == "catalog" and side.catalog.given_vectors
                sentence = _warning(part, learned, seen[name][part], targets, hold_out, given)
                said.setdefault(sentence, []).append(name)
    warnings = tuple(sentence.format(sides=" and the ".join(names)) for sentence, names in said.items())
    users_left_out = int((np.diff(interactions.user_starts()) == 1).sum())
    withdrawn = {name: _withdrawn(side.catalog, held_out) for name, side in sides.items()}
    return Origin(hold_out, users_left_out, seen, warnings, sample, withdrawn)


def _withdrawn(catalog: Catalog, targets: Sequence[str]) -> int:
    """Return how many of the targets are items that no answer may have."""
    places = catalog.places(targets)
    return int((~catalog.live[places[places >= 0]]).sum())


def _warning(
    part: str, learned: Learned | None, seen: int | None, targets: int, hold_out: int, given_vectors: bool
) -> str:
    """Return what a reader must know; `{sides}` stands for the checkpoints that it is about."""
    subject = f"the {part} of the {{sides}}"
    again = "build the catalog" if part == "catalog" else "train"
    if seen:
        return (
            f"{subject} learned from {seen:,} of the {targets:,} targets, so that recall and NDCG are flattered: "
            f"{again} again with --hold-out {hold_out}"
        )
    unclear = "whether it learned from these targets cannot be told"
    if given_vectors:
        return f"{subject} was built over vectors that its items brought: {unclear}"
    if learned is None:
        return f"{subject} keeps no record of what it learned from: {unclear}"
    return f"{subject} learned from {learned.interactions:,} interactions that are no part of these data: {unclear}"
