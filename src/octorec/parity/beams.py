"""A beam is what a search returns: tokens after the prompt, and how probable they are."""

from typing import NamedTuple

import torch
from torch import Tensor

from octorec.models.sid_tokens import SidTokens


class Beam(NamedTuple):
    """A Beam is the tokens that follow a prompt. score: the sum of their log-probabilities, without length penalty."""

    tokens: tuple[int, ...]
    score: float


class TokenStep(NamedTuple):
    """A TokenStep says how the token at one place after the prompt counts.

    token: the one that is forced; None where a code of `level` is chosen. scored: its log-probability counts.
    """

    level: int | None
    token: int | None
    scored: bool


def token_steps(sids: SidTokens) -> list[TokenStep]:
    """Return the steps of one item: each level's code, then the tokens that end it."""
    codes = [TokenStep(level, None, True) for level in range(len(sids.levels))]
    over_all = sids.scores_over == "vocabulary"  # else a forced token has probability 1
    return codes + [TokenStep(None, end.id, end.scored and over_all) for end in sids.end]


def item_tokens(sids: SidTokens, codes: Tensor) -> Tensor:
    """Return the tokens [n, L + end tokens] int64 of the items with these codes [n, L]; -1 for a code without one."""
    levels = [torch.from_numpy(ids)[codes[:, level]] for level, ids in enumerate(sids.levels)]
    ends = [torch.full_like(codes[:, 0], end.id) for end in sids.end]
    return torch.stack([*levels, *ends], 1)


def counted(sids: SidTokens, step: TokenStep, log_p: Tensor) -> Tensor:
    """Return what each token of the vocabulary counts at a step, of log-probabilities [n, V] over all of it.

    Over a level, the softmax is over the level's tokens; a token that is not scored counts 0.
    """
    if not step.scored:
        return torch.zeros_like(log_p)
    if sids.scores_over == "level" and step.level is not None:
        ids = sids.levels[step.level]
        return log_p - log_p[:, torch.from_numpy(ids[ids >= 0])].logsumexp(-1, keepdim=True)
    return log_p
