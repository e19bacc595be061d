"""Lists under caps, as they are served, stand beside those that the same searches give without caps.

Letters: n examples, k ranked items, D vector width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from octorec.engine.capping import unit_vectors
from octorec.engine.rank import Ranked
from octorec.evaluate.metrics import RankedItems, metrics_at, ranks_of
from octorec.evaluate.paired import Estimate, estimate, mean

ALIKE = 0.9  # two items of a list whose codebook vectors have a larger cosine are near duplicates
Lists = tuple[list[str], list[tuple[int, ...]], list[str]]


@dataclass(frozen=True)
class Diversity:
    """A Diversity says how unlike the items of lists are, a mean over the lists that are not empty.

    sets: named sets that an item of the list is in. of_one_set: share of the items that are in the list's commonest
    set. near: share of the items that are nearer than ALIKE to one before them; None where the catalog has no vectors.
    """

    sets: float
    of_one_set: float
    near: float | None


@dataclass(frozen=True)
class CapsEffect:
    """A CapsEffect is what caps do to an engine's lists. changed: share of the lists. short: share of fewer than k.

    metrics: recall and NDCG of the whole lists, by side. difference: with caps - without, by metric.
    """

    caps: Mapping[str, Any]
    changed: float
    short: float
    without: dict[str, float]
    under: dict[str, float]
    difference: dict[str, Estimate]
    diversity_without: Diversity
    diversity_under: Diversity

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        sides = {"without": asdict(self.diversity_without), "under": asdict(self.diversity_under)}
        return {
            "caps": dict(self.caps),
            "changed": self.changed,
            "short": self.short,
            "without": self.without,
            "under": self.under,
            "difference": {name: value.to_dict() for name, value in self.difference.items()},
            "diversity": sides,
        }

    def lines(self) -> list[str]:
        """Say it in words."""
        said = [
            f"caps ({caps_in_words(self.caps)}) changed {self.changed:.1%} of the lists; {self.short:.1%} are short"
        ]
        for name, value in self.difference.items():
            ends = f"{value.low:+.4f} to {value.high:+.4f}"
            said.append(f"  {name}: {self.without[name]:.4f} without caps, {self.under[name]:.4f} under them ({ends})")
        before, after = self.diversity_without, self.diversity_under
        said.append(f"  sets a list: {before.sets:.2f} without, {after.sets:.2f} under them")
        said.append(f"  items of the commonest set: {before.of_one_set:.1%} without, {after.of_one_set:.1%} under them")
        if before.near is not None and after.near is not None:
            alike = f"near duplicates (cosine above {ALIKE:g})"
            said.append(f"  {alike}: {before.near:.1%} without, {after.near:.1%} under them")
        return said


def caps_in_words(caps: Mapping[str, Any]) -> str:
    """Return caps as a person writes them: `caps Sci-Fi=3, max_cosine 0.9`."""
    sets = ",".join(f"{name}={most}" for name, most in (caps.get("caps") or {}).items())
    others = [f"{name} {caps[name]:g}" for name in ("distinct_codes", "max_cosine") if caps.get(name) is not None]
    return ", ".join([*([f"caps {sets}"] if sets else []), *others])


def both_lists(ranked: Ranked) -> Lists:
    """Return the items of an answer, its semantic IDs, and the items that the same search gives without caps."""
    plain = ranked if ranked.uncapped is None else ranked.uncapped
    return *ranked.items_and_sids(), plain.items()


def effect(
    catalog: Any,
    caps: Mapping[str, Any],
    under: RankedItems,
    without: RankedItems,
    targets: Sequence[Sequence[str]],
    user_ids: np.ndarray,
) -> CapsEffect:
    """Return what caps do to lists. under, without: [n, k] as `metrics.ranked_items` lays them."""
    k = under.shape[1]
    sides = [metrics_at(ranks_of(lists, targets), [k]) for lists in (without, under)]
    pairs = {name: mean(values, sides[1][name], bounded=True) for name, values in sides[0].items()}
    means = [{name: float(values.mean()) for name, values in side.items()} for side in sides]
    asked = without[:, 0] != ""
    short = float((under[asked][:, -1] == "").mean())
    diverse = diversity(catalog, without[asked]), diversity(catalog, under[asked])
    changed = float((under != without).any(1).mean())
    told = means[0], means[1], estimate(user_ids, pairs)
    return CapsEffect(caps, changed, short, *told, *diverse)


def diversity(catalog: Any, lists: RankedItems) -> Diversity:
    """Return how unlike the items of lists are, none of which is empty."""
    places = [np.array([catalog.index[item] for item in row if item]) for row in lists.tolist()]
    counts = [_counts(catalog, row) for row in places]
    sets = [len(one) for one in counts]
    most = [max(one, default=0) / len(row) for one, row in zip(counts, places, strict=True)]
    near = None if catalog.codebook is None else [_near(catalog, row) for row in places]
    return Diversity(_mean(sets), _mean(most), None if near is None else _mean(near))


def _counts(catalog: Any, row: np.ndarray) -> list[int]:
    """Return how many items of a list are in each of the sets that one of them is in."""
    names = [name for place in row.tolist() for name in catalog.sets[place]]
    return [names.count(name) for name in dict.fromkeys(names)]


def _near(catalog: Any, row: np.ndarray) -> float:
    vectors = unit_vectors(catalog, row)
    return float((np.tril(vectors @ vectors.T, -1) > ALIKE).any(1).mean())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
