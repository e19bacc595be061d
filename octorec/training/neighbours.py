"""Targets drawn from a Markov chain: label smoothing towards what other users took next.

Where a set has a few interactions an item, the one true next item says little of what else could have come. So a share
of the examples gets, in each epoch anew, a target drawn from the counts of `evaluate.baselines.MarkovChain`, learned
from the same training part:

    P(j | h_1 .. h_m) ~ sum over a of decay^a * N(h_(m-a), j)

It is the distillation of a teacher (Hinton et al., arXiv 1503.02531), by samples of its distribution instead of logits.

Letters: V items, M successors kept an item, B examples, A ages.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.evaluate.baselines import MarkovChain
from octorec.training.examples import TrainingSet

SUCCESSORS = 64  # the most frequent ones of an item
AGES = 10  # newest items of a history that are looked at


@dataclass(frozen=True)
class Neighbours:
    """items [interactions]: the place in the catalog of each of TrainingSet's `codes`. codes [V, L]: of every item.

    successors [V, M] places; cumulative [V, M] float32: counts up to and with each; the last column is their sum, 0 for
    an item that nothing followed. decay: of a history's items with their age.
    """

    items: Tensor
    codes: Tensor
    successors: Tensor
    cumulative: Tensor
    decay: float

    def draw(self, data: TrainingSet, index: Tensor) -> tuple[Tensor, Tensor]:
        """A target's codes [B, L] for each of the examples `index` [B], and whether there was anything to draw [B]."""
        target, first = data.target[index], data.first[index]
        age = torch.arange(AGES, device=index.device)
        at = target[:, None] - 1 - age  # [B, A]
        items = self.items[at.clamp(min=0)]
        weight = self.cumulative[items, -1] * self.decay ** age.float() * (at >= first[:, None])
        left = items.gather(1, pick(weight.cumsum(1))[:, None])[:, 0]  # [B]
        drawn = self.successors[left, pick(self.cumulative[left])]
        return self.codes[drawn], weight.sum(1) > 0

    def to(self, device: str | torch.device) -> "Neighbours":
        items, codes = self.items.to(device), self.codes.to(device)
        return Neighbours(items, codes, self.successors.to(device), self.cumulative.to(device), self.decay)


def neighbours(interactions: Interactions, catalog: Catalog) -> Neighbours:
    """Of the interactions that `training_set` was made of, in its order."""
    chain = MarkovChain.fit(interactions)
    place = np.array([catalog.index[item] for item in chain.popularity.item_ids])
    counts = chain.transitions.tocsr()
    successors = np.zeros((len(catalog), SUCCESSORS), dtype=np.int64)
    kept = np.zeros((len(catalog), SUCCESSORS))
    for row in range(counts.shape[0]):
        columns, values = (part[counts.indptr[row] : counts.indptr[row + 1]] for part in (counts.indices, counts.data))
        best = np.argsort(-values, kind="stable")[:SUCCESSORS]
        successors[place[row], : len(best)], kept[place[row], : len(best)] = place[columns[best]], values[best]
    items = [catalog.index[item] for history in interactions.histories().values() for item in history]
    return Neighbours(
        torch.tensor(items),
        torch.from_numpy(catalog.codes.astype(np.int64)),
        torch.from_numpy(successors),
        torch.from_numpy(kept.cumsum(1)).float(),
        chain.decay,
    )


def pick(cumulative: Tensor) -> Tensor:
    """A column for each row [B], drawn by the weights whose sums so far are `cumulative` [B, M]."""
    chance = torch.rand(len(cumulative), 1, device=cumulative.device) * cumulative[:, -1:]
    return (cumulative <= chance).sum(1).clamp(max=cumulative.shape[1] - 1)
