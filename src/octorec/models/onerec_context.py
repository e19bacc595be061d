"""The context processor: a user's history and fields as context items of width d_context.

It is one way to make `context [B, S, d_context]`; a module of the user's can make it of named features in its place.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octorec.kernels.ops import Ops
from octorec.models.layers import Linear
from octorec.models.onerec_config import OneRecConfig

FIELD = "field_"  # before a user field's name in memory, where torch has names of its own (`type`, `training`)


@dataclass(frozen=True)
class ContextBatch:
    """A ContextBatch is what the model reads of a batch of requests.

    S counts context items, oldest first; what lies beyond a length is ignored.

    lengths [B] int64, 1..S. codes [B, S, levels] int64, -1 in the one item that an empty history leaves.
    user [B, fields] float32 as `encode_user` gives it, [B, 0] without fields.
    context [B, S, d_context], or None: given, it replaces what the processor would make of codes and user.
    features: [B, *shape] by name, as a context module of the user's declares them.
    """

    lengths: Tensor
    codes: Tensor
    user: Tensor
    context: Tensor | None = None
    features: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


class FieldEmbed(nn.ModuleDict):
    """FieldEmbed has a table of embeddings for each user field, under its name with FIELD before it."""

    def disk_name(self, child: str) -> str:
        return child.removeprefix(FIELD)


class ContextProcessor(nn.Module):
    """ContextProcessor makes the context of each item from its embeddings.

    [code embeddings of all levels | recency | each user field] -> one Linear to d_context.
    """

    def __init__(self, config: OneRecConfig, ops: Ops):
        super().__init__()
        width = config.embed_dim
        self.code_embed = nn.ModuleList([nn.Embedding(size, width) for size in config.codebook_sizes])
        self.recency_embed = nn.Embedding(config.recency_buckets, width)
        self.field_embed = FieldEmbed()
        for field in config.user_fields:  # a number scales row 1 and adds row 0; a category picks its row
            rows = len(field.values) + 1 if field.kind == "category" else 2
            self.field_embed[FIELD + field.name] = nn.Embedding(rows, width)
        features = len(config.codebook_sizes) + 1 + len(config.user_fields)
        self.proj = Linear(features * width, config.d_context, ops)
        self.config = config

    def forward(self, batch: ContextBatch) -> Tensor:
        """Return context [B, S, d_context]."""
        parts = [*self._codes(batch.codes), self._recency(batch.lengths, batch.codes.shape[1])]
        shape = parts[0].shape
        parts += [field[:, None].expand(shape) for field in self._user(batch.user)]
        return self.proj(torch.cat(parts, -1).flatten(0, 1)).unflatten(0, shape[:2])

    def _codes(self, codes: Tensor) -> list[Tensor]:
        present = (codes[..., :1] >= 0).to(self.recency_embed.weight.dtype)  # [B, S, 1]
        codes = codes.clamp(min=0)
        return [embed(codes[..., level]) * present for level, embed in enumerate(self.code_embed)]

    def _recency(self, lengths: Tensor, size: int) -> Tensor:
        """Return the embedding of each item's distance from the newest (0), in buckets that widen with it."""
        age = (lengths[:, None] - 1 - torch.arange(size, device=lengths.device)).clamp(min=0)  # [B, S]
        return self.recency_embed(recency_bucket(age, self.config.recency_buckets, self.config.max_context))

    def _user(self, user: Tensor) -> list[Tensor]:
        out = []
        for column, field in enumerate(self.config.user_fields):
            table = self.field_embed[FIELD + field.name].weight
            assert isinstance(table, Tensor)
            value = user[:, column]
            if field.kind == "category":
                out.append(table[value.long()])
            else:
                out.append(table[0] + value[:, None].to(table.dtype) * table[1])
        return out


def recency_bucket(age: Tensor, buckets: int, max_context: int) -> Tensor:
    """Return T5's relative-position buckets, one-sided: the first half exact, the second logarithmic to max_context."""
    exact = buckets // 2
    if max_context <= buckets:
        return age.clamp(max=buckets - 1)
    ratio = (age.clamp(min=1).float() / exact).log() / math.log(max_context / exact)
    return torch.where(age < exact, age, (exact + ratio * (buckets - exact)).long().clamp(max=buckets - 1))
