"""Beam search over the item trie: what runs on the device between a batch's tensors and its ranked code tuples.

Letters: B requests, W beams, S context items, L levels.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from octorec.kernels.ops import Beams, NodeFilter, Ops, TrieLevel
from octorec.models.context import ContextBatch
from octorec.models.onerec import ContextKV


class Model(Protocol):
    """All that an engine asks of a model."""

    def encode_context(self, batch: ContextBatch) -> ContextKV: ...

    def decode_level(self, level: int, codes: Tensor | None, parents: Tensor | None, kv: ContextKV) -> Tensor: ...


@dataclass(frozen=True)
class SearchBatch:
    """A batch as the device sees it. roots [B, 1] int64: the trie node that each request's search starts at, of the
    catalog version that answers it. widths [B] int64: each request's beam width. filters: one a level."""

    context: ContextBatch
    roots: Tensor
    widths: Tensor
    filters: tuple[NodeFilter, ...]


def search(model: Model, trie: tuple[TrieLevel, ...], batch: SearchBatch, width: int, ops: Ops) -> Beams:
    """The `widths[b]` <= `width` best code tuples of each request, by score descending, tuple ascending.

    Beams.nodes are leaves of the trie [B, width], DEAD (with score -inf) where a request has fewer. All scores of a
    request are NaN where the model gave it logits that are not finite.
    """
    kv = model.encode_context(batch.context)
    scores = torch.zeros(batch.roots.shape, device=batch.roots.device)
    beams = Beams(scores, batch.roots, None, None)  # type: ignore[arg-type]  # the root extends nothing
    for number, level in enumerate(trie):
        logits = model.decode_level(number, beams.codes, beams.parents, kv)
        last = number == len(trie) - 1
        beams = ops.beam_step(
            logits, beams.scores, beams.nodes, level, batch.widths, width, batch.filters[number], ranked=last
        )
    return beams


def score(model: Model, context: ContextBatch, codes: Tensor) -> Tensor:
    """Teacher-forced log-probabilities [B, L] float32 of the codes [B, L], over each level's whole codebook.

    NaN at a level where any code's is not finite, as the beam step has it.
    """
    kv = model.encode_context(context)
    parents = torch.zeros_like(codes[:, :1])
    out = []
    for level in range(codes.shape[1]):
        before = None if level == 0 else codes[:, level - 1 : level]
        logits = model.decode_level(level, before, None if level == 0 else parents, kv)[:, 0]  # [B, V]
        log_p = logits.log_softmax(-1)
        broken = ~log_p.isfinite().all(-1, keepdim=True)
        out.append(log_p.gather(1, codes[:, level : level + 1]).masked_fill(broken, float("nan")))
    return torch.cat(out, 1)
