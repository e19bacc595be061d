"""A training example is an interaction of a user, predicted from the ones before it.

Letters: n examples, S context items, L levels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import digest
from octorec.data.interactions import Interactions
from octorec.errors import InputError
from octorec.models.onerec_context import ContextBatch
from octorec.models.user import UserField, encode_user


@dataclass(frozen=True)
class TrainingSet:
    """A TrainingSet holds all examples as flat arrays.

    codes [interactions, L]: the codes of every user's items, user after user.

    first [n]: where the example's user begins in `codes`; target [n]: where its target lies; user [n, fields] float32.
    """

    codes: Tensor
    first: Tensor
    target: Tensor
    user: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that another set of examples does not have."""
        parts = (self.codes, self.first, self.target, self.user)
        return digest(self.codes.shape, *(part.cpu().numpy() for part in parts))

    def batch(self, index: Tensor, size: int) -> tuple[ContextBatch, Tensor]:
        """Return the examples `index` [B]: the newest `size` items before each target, and the
        target's codes [B, L].
        """
        target = self.target[index]
        lengths = (target - self.first[index]).clamp(max=size)
        slots = (target - lengths)[:, None] + torch.arange(size, device=target.device)  # [B, S]
        codes = self.codes[slots.clamp(max=len(self.codes) - 1)]
        codes = codes.masked_fill((lengths == 0)[:, None, None], -1)  # an empty history is one item without codes
        return ContextBatch(lengths.clamp(min=1), codes, self.user[index]), self.codes[target]

    def to(self, device: str | torch.device) -> "TrainingSet":
        return TrainingSet(*(t.to(device) for t in (self.codes, self.first, self.target, self.user)))


def drop_items(context: ContextBatch, rate: float) -> ContextBatch:
    """Leave out context items; the others move together, and the newest stays when all go.

    Each example draws the probability of its items from 0 .. 2 * rate (at most 1), so that long and short contexts are
    both learned: also from what stood further back, as a Markov chain over a window counts it. Random numbers come from
    torch's default generator.
    """
    size = context.codes.shape[1]
    slot = torch.arange(size, device=context.codes.device)
    real = slot < context.lengths[:, None]  # [B, S]
    drop = (2 * rate * torch.rand(len(real), 1, device=slot.device)).clamp(max=1)
    kept = real & (torch.rand(real.shape, device=slot.device) >= drop)
    newest = slot == context.lengths[:, None] - 1
    kept |= newest & ~kept.any(1, keepdim=True)
    order = (~kept).to(torch.int8).sort(dim=1, stable=True).indices  # the kept ones first, oldest first
    codes = context.codes.gather(1, order[..., None].expand_as(context.codes))
    return ContextBatch(kept.sum(1), codes, context.user)


def training_set(
    interactions: Interactions,
    catalog: Catalog,
    fields: tuple[UserField, ...] = (),
    users: dict[str, dict[str, Any]] | None = None,
) -> TrainingSet:
    """Make the examples of `interactions`. With user fields a user's first item is one too, from an empty history."""
    histories = interactions.histories()
    skip = 0 if fields else 1
    items: list[str] = []
    first: list[int] = []
    target: list[int] = []
    user: list[list[float]] = []
    for user_id, history in histories.items():
        begin = len(items)
        items += history
        count = max(len(history) - skip, 0)
        first += [begin] * count
        target += range(begin + skip, begin + skip + count)
        known = (users or {}).get(user_id, {})
        user += [encode_user(fields, {field.name: known.get(field.name) for field in fields})] * count
    if not target:
        raise InputError("interactions", f"{len(items)} rows", "need at least one user with two interactions")
    unknown = next((item for item in items if item not in catalog.index), None)
    if unknown is not None:
        raise InputError("interactions: item_id", unknown, "is no item of the catalog")
    codes = catalog.codes[np.array([catalog.index[item] for item in items])].astype(np.int64)
    return TrainingSet(
        torch.from_numpy(codes),
        torch.tensor(first),
        torch.tensor(target),
        torch.tensor(user, dtype=torch.float32).view(len(target), len(fields)),
    )
