"""Beam search over the item trie: what runs on the device between a batch's tensors and its ranked code tuples.

A search also bounds what it did not find. Log-probabilities are at most 0, so a prefix's score bounds the scores of all
items below it, and the highest score that a step dropped bounds all items that it gave up (best-first beam search,
Meister et al. 2020; exact decoding, Stahlberg and Byrne 2019). Where the k-th best item scores above all of these, no
wider beam can change the answer: it is exact.

Letters: B requests, W beams, S context items, L levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from octorec.engine.widths import Widths
from octorec.kernels.ops import DEAD, Beams, NodeFilter, Ops, TrieLevel
from octorec.models.model import Choose, Force, Inputs, Logits, Model, Step


@dataclass(frozen=True)
class SearchBatch:
    """A SearchBatch is a batch as the device sees it.

    inputs: what the model reads. roots [B, 1] int64: the trie node that each request's search starts at, of the catalog
    version that answers it. widths [L, B] int64: each request's beam width at each level. filters: one a level.
    """

    inputs: Inputs
    roots: Tensor
    widths: Tensor
    filters: tuple[NodeFilter, ...]


class Searched(NamedTuple):
    """Searched is what a search finds: code tuples by score descending, tuple ascending, and what bounds the others.

    scores [B, W] float32, -inf where a request has fewer. nodes [B, W] int64: leaves of the trie, DEAD where it has
    fewer. bounds [B, 2] float32: the highest score that an earlier step dropped, and that the last scored step dropped;
    -inf where nothing was. An item of the first kind may score as much as its bound, whatever its codes; one of the
    second that scores as much as its bound comes after all tuples that are here. All of a request are NaN where the
    model gave it logits that are not finite.
    """

    scores: Tensor
    nodes: Tensor
    bounds: Tensor


def search(model: Model, trie: tuple[TrieLevel, ...], batch: SearchBatch, widths: Widths, ops: Ops) -> Searched:
    """Find the best code tuples of each request. widths: room for beams, by level; no request asks for more."""
    return searched(model, model.prefill(batch.inputs), trie, batch, widths, ops)


def searched(
    model: Model, state: Any, trie: tuple[TrieLevel, ...], batch: SearchBatch, widths: Widths, ops: Ops
) -> Searched:
    """Do what `search` does of requests that were read: `state` is what the model goes on from."""
    scores = torch.zeros(batch.roots.shape, device=batch.roots.device)
    earlier = dropped = torch.full_like(scores[:, 0], -torch.inf)
    beams = Beams(scores, batch.roots, None, None, dropped)  # type: ignore[arg-type]  # the root extends nothing
    counted = scored(model.steps)
    last = counted[-1]
    for number, step in enumerate(model.steps):
        logits = model.decode(number, beams.codes, beams.parents, state)
        if isinstance(step, Force):
            beams = forced(beams, logits, step, ranked=number == last)
        else:
            beams = ops.beam_step(
                logits.values, within_level(beams, logits), beams.nodes, trie[step.level], batch.widths[step.level],
                widths[step.level], batch.filters[step.level], ranked=number == last,
            )  # fmt: skip
        if number in counted:
            earlier, dropped = torch.maximum(earlier, dropped), beams.dropped
    return Searched(beams.scores, beams.nodes, torch.stack((earlier, dropped), 1))


def scored(steps: Sequence[Step]) -> list[int]:
    """Return the numbers of the steps whose log-probabilities, of what each chooses or forces, make a beam's score."""
    return [number for number, step in enumerate(steps) if isinstance(step, Choose) or step.scored]


def within_level(beams: Beams, logits: Logits) -> Tensor:
    """Add to the scores [B, W] the log-probability, at most 0, that the next token is one of the level's codes at all.

    A live beam gets NaN where that is not finite. `beam_step` adds the log-probability of each code among them.
    """
    if logits.log_norm is None:
        return beams.scores
    inside = (logits.values.logsumexp(-1) - logits.log_norm).clamp(max=0)
    inside = inside.masked_fill(~inside.isfinite(), float("nan"))
    return torch.where(beams.nodes == DEAD, beams.scores, beams.scores + inside)


def log_probability(logits: Logits, codes: Tensor) -> Tensor:
    """Return the log-probability of each beam's code [B, W], at most 0; NaN where that of any code is not finite."""
    values, norm = logits
    log_p = (values.log_softmax(-1) if norm is None else values - norm[..., None]).clamp(max=0)
    broken = ~log_p.isfinite().all(-1)
    return log_p.gather(-1, codes[..., None])[..., 0].masked_fill(broken, float("nan"))


def forced(beams: Beams, logits: Logits, step: Force, ranked: bool) -> Beams:
    """Extend each beam by the step's code, and drop none.

    ranked: sort by score descending, position ascending; dead beams stay dead.
    """
    scores, nodes = beams.scores, beams.nodes
    code = torch.full_like(nodes, step.code)
    if step.scored:
        more, alive = log_probability(logits, code), nodes != DEAD
        broken = (more.isnan() & alive).any(1, keepdim=True)
        scores = torch.where(alive, scores + more, scores).masked_fill(broken, float("nan"))
        nodes = nodes.masked_fill(broken, DEAD)
    order = torch.arange(scores.shape[1], device=scores.device).expand_as(scores).contiguous()  # as kernels read it
    if ranked:
        order = scores.sort(dim=1, descending=True, stable=True).indices
    dropped = torch.full_like(scores[:, 0], -torch.inf).masked_fill(scores.isnan().any(1), float("nan"))
    return Beams(scores.gather(1, order), nodes.gather(1, order), order, code, dropped)


def score(model: Model, inputs: Inputs, codes: Tensor) -> Tensor:
    """Return teacher-forced log-probabilities [B, scored steps] float32 of the codes [B, L].

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
