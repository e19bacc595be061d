"""A language model of transformers behind the seam, by recomputing whole sequences: slow, simple, and a specification.

Letters: B requests, W beams, T ids of a prompt, V rows of the vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octorec.models.model import Choose, Force, Inputs, InputSpec, Logits, Reading, Step
from octorec.models.sid_tokens import SidTokens

NEVER = -1e30  # the logit of a code that has no token: finite, never chosen, counted as nothing


@dataclass
class State:
    """What is kept of a batch: its prompts, and the tokens [B, W, steps so far] of each present beam."""

    prompts: list[Tensor]
    paths: Tensor


class WholeSequences:
    """A causal model answers as a seam Model; nothing is cached between steps."""

    codebook_fingerprint, user_fields = None, ()

    def __init__(self, model: Any, sids: SidTokens):
        self._model, self._sids = model, sids
        self.codebook_sizes = sids.codebook_sizes
        self.max_history = self.max_tokens = model.config.max_position_embeddings
        over_all = sids.scores_over == "vocabulary"
        codes: list[Step] = [Choose(level) for level in range(len(sids.levels))]
        self.steps: tuple[Step, ...] = (*codes, *(Force(0, end.scored and over_all) for end in sids.end))
        self._rows = [*map(torch.from_numpy, sids.levels), *(torch.tensor([end.id]) for end in sids.end)]

    def inputs(self, longest: int) -> dict[str, InputSpec]:
        return {"tokens": InputSpec((longest,), torch.int64), "lengths": InputSpec((), torch.int64, 1)}

    def write(self, reading: Reading, put: Callable[[str, np.ndarray], None]) -> None:
        assert reading.tokens is not None
        put("tokens", reading.tokens)
        put("lengths", np.array(len(reading.tokens), np.int64))

    def prefill(self, inputs: Inputs) -> State:
        pairs = zip(inputs["tokens"], inputs["lengths"].tolist(), strict=True)
        prompts = [tokens[:length] for tokens, length in pairs]
        return State(prompts, torch.zeros(len(prompts), 1, 0, dtype=torch.int64))

    def decode(self, step: int, codes: Tensor | None, parents: Tensor | None, state: State) -> Logits:
        if codes is not None and parents is not None:
            before = state.paths.gather(1, parents[..., None].expand(-1, -1, state.paths.shape[2]))
            token = self._rows[step - 1][codes].clamp(min=0)  # a dead beam may have any code
            state.paths = torch.cat([before, token[..., None]], 2)
        logits = torch.stack([self._next(*pair) for pair in zip(state.prompts, state.paths, strict=True)])  # [B, W, V]
        rows = self._rows[step]
        values = torch.where(rows >= 0, logits[..., rows.clamp(min=0)], NEVER)
        over_all = self._sids.scores_over == "vocabulary"
        return Logits(values, logits.logsumexp(-1) if over_all else None)

    def _next(self, prompt: Tensor, paths: Tensor) -> Tensor:
        """The logits [W, V] that follow a prompt and the paths of its beams."""
        ids = torch.cat([prompt.expand(len(paths), -1), paths], 1)
        return self._model(ids, use_cache=False, logits_to_keep=1).logits[:, 0].float()

    def forced(self, inputs: Inputs, codes: Tensor) -> list[Logits]:
        state, own, before = self.prefill(inputs), torch.zeros_like(codes[:, :1]), None
        out = []
        for number, step in enumerate(self.steps):
            out.append(self.decode(number, before, None if before is None else own, state))
            before = codes[:, step.level : step.level + 1] if isinstance(step, Choose) else torch.zeros_like(own)
        return out

    def data_rows(self, inputs: Inputs) -> Mapping[str, Tensor]:
        return {}
