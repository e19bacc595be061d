"""Beam search over the item trie: what runs on the device between a batch's tensors and its ranked code tuples.

Letters: B requests, W beams, S context items, L levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octorec.kernels.ops import DEAD, Beams, NodeFilter, Ops, TrieLevel
from octorec.models.model import Choose, Force, Inputs, Logits, Model, Step


@dataclass(frozen=True)
class SearchBatch:
    """A SearchBatch is a batch as the device sees it.

    inputs: what the model reads. roots [B, 1] int64: the trie node that each request's search starts at, of the catalog
    version that answers it. widths [B] int64: each request's beam width. filters: one a level.
    """

    inputs: Inputs
    roots: Tensor
    widths: Tensor
    filters: tuple[NodeFilter, ...]


def search(model: Model, trie: tuple[TrieLevel, ...], batch: SearchBatch, width: int, ops: Ops) -> Beams:
    """The `widths[b]` <= `width` best code tuples of each request, by score descending, tuple ascending.

    Beams.nodes are leaves of the trie [B, width], DEAD (with score -inf) where a request has fewer. All scores of a
    request are NaN where the model gave it logits that are not finite.
    """
    state = model.prefill(batch.inputs)
    scores = torch.zeros(batch.roots.shape, device=batch.roots.device)
    beams = Beams(scores, batch.roots, None, None)  # type: ignore[arg-type]  # the root extends nothing
    last = scored(model.steps)[-1]
    for number, step in enumerate(model.steps):
        logits = model.decode(number, beams.codes, beams.parents, state)
        if isinstance(step, Force):
            beams = forced(beams, logits, step, ranked=number == last)
            continue
        scores = within_level(beams, logits)
        beams = ops.beam_step(
            logits.values, scores, beams.nodes, trie[step.level], batch.widths, width, batch.filters[step.level],
            ranked=number == last,
        )  # fmt: skip
    return beams


def scored(steps: Sequence[Step]) -> list[int]:
    """The numbers of the steps whose log-probabilities make a beam's score: a step's, of what it chooses or forces."""
    return [number for number, step in enumerate(steps) if isinstance(step, Choose) or step.scored]


def within_level(beams: Beams, logits: Logits) -> Tensor:
    """Scores [B, W] with the log-probability, at most 0, that the next token is one of the level's codes at all.

    NaN for a live beam where that is not finite. `beam_step` adds the log-probability of each code among them.
    """
    if logits.log_norm is None:
        return beams.scores
    inside = (logits.values.logsumexp(-1) - logits.log_norm).clamp(max=0)
    inside = inside.masked_fill(~inside.isfinite(), float("nan"))
    return torch.where(beams.nodes == DEAD, beams.scores, beams.scores + inside)


def log_probability(logits: Logits, codes: Tensor) -> Tensor:
    """That of each beam's code [B, W], at most 0; NaN for a beam of which any code's is not finite."""
    values, norm = logits
    log_p = values.log_softmax(-1) if norm is None else (values - norm[..., None]).clamp(max=0)
    broken = ~log_p.isfinite().all(-1)
    return log_p.gather(-1, codes[..., None])[..., 0].masked_fill(broken, float("nan"))


def forced(beams: Beams, logits: Logits, step: Force, ranked: bool) -> Beams:
    """Extend each beam by the step's code. ranked: sort by score descending, place ascending; dead beams stay dead."""
    scores, nodes = beams.scores, beams.nodes
    code = torch.full_like(nodes, step.code)
    if step.scored:
        more, alive = log_probability(logits, code), nodes != DEAD
        broken = (more.isnan() & alive).any(1, keepdim=True)
        scores = torch.where(alive, scores + more, scores).masked_fill(broken, float("nan"))
        nodes = nodes.masked_fill(broken, DEAD)
    order = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    if ranked:
        order = scores.sort(dim=1, descending=True, stable=True).indices
    return Beams(scores.gather(1, order), nodes.gather(1, order), order, code)


def score(model: Model, inputs: Inputs, codes: Tensor) -> Tensor:
    """Teacher-forced log-probabilities [B, scored steps] float32 of the codes [B, L].

    Those of a level are over its whole codebook, or over what `Logits.log_norm` says. NaN at a step where any code's is
    not finite, as the beam step has it.
    """
    state = model.prefill(inputs)
    parents = torch.zeros_like(codes[:, :1])
    before, out, counted = None, [], scored(model.steps)
    for number, step in enumerate(model.steps):
        logits = model.decode(number, before, None if before is None else parents, state)
        if isinstance(step, Choose):
            before = codes[:, step.level : step.level + 1]
        else:
            before = torch.full_like(parents, step.code)
        if number in counted:
            out.append(log_probability(logits, before))
    return torch.cat(out, 1)
