"""Qwen3 and Qwen2 (2.5) dense decoders recommend by tokens of semantic IDs.

Qwen keeps the promises of `models.model.Model`: `prefill` reads a batch's prompts once, `decode` goes on a token a
beam. Its layers are in `models.qwen_layers`.
Letters as in `kernels.ops`; V counts the codes of a level, N the rows of the vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.ops import Kept, Operand, Ops, Spans
from octorec.models.layers import Head
from octorec.models.model import Choose, Force, Inputs, InputSpec, Logits, Packed, Reading, Step
from octorec.models.qwen_config import SID_TOKENS, QwenConfig, checked_config
from octorec.models.qwen_layers import Attention, Decoder, Layer, Level, turns_of
from octorec.models.qwen_work import batch_work
from octorec.models.sid_tokens import SidTokens
from octorec.models.user import UserField
from octorec.models.work import Work

FEW = 64  # rows that the last layer has of a prompt at least, of whatever number of requests
NO_TOKEN = -1e30  # the logit of a code that the vocabulary has no token for: finite, and counted as nothing


@dataclass
class PromptKV:
    """A PromptKV holds what is kept of a batch between its steps.

    hidden [B, C]: of each prompt's last token, normed. pools: keys and values [R, G, D] of each layer, once a request:
    lengths [B] rows from first [B] on. past[layer][place]: keys and values [B, W, G, D] that the beams of an earlier
    step left. ancestors[place] [B, W]: the beam of that step which each present beam descends from.
    """

    hidden: Tensor
    pools: list[tuple[Tensor, Tensor]]
    first: Tensor
    lengths: Tensor
    past: list[list[tuple[Tensor, Tensor]]]
    ancestors: list[Tensor] = field(default_factory=list)

    def follow(self, parents: Tensor) -> None:
        """Let `parents` [B, W] of the present beams take their place; a prompt's one beam left nothing of its own."""
        if self.past[0]:
            self.ancestors = [ancestor.gather(1, parents) for ancestor in self.ancestors] + [parents]


class Qwen(nn.Module):
    """Qwen is the whole model. `ops` are the operations it runs on; the references by default.

    max_tokens: the longest prompt, in tokens.
    """

    codebook_fingerprint: str | None = None
    user_fields: tuple[UserField, ...] = ()

    def __init__(self, config: QwenConfig, ops: Ops = reference):
        super().__init__()
        sids = config.sids
        self.config, self.ops = config, ops
        self.model = Decoder(config, ops)
        self.lm_head = None if config.tie_word_embeddings else Head(config.hidden_size, config.vocab_size, ops)
        ends = [np.array([token.id], np.int64) for token in sids.end]
        self.levels = nn.ModuleList([Level(tokens) for tokens in (*sids.levels, *ends)])  # one a step
        scored = [token.scored and sids.scores_over == "vocabulary" for token in sids.end]
        choices = [Choose(level) for level in range(len(sids.levels))]
        self.steps: tuple[Step, ...] = (*choices, *(Force(0, each) for each in scored))
        self.last_scored = max(number for number, each in enumerate([True] * len(choices) + scored) if each)

    @staticmethod
    def complete(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Return config.json's object with `sid_tokens`, which the tokenizer's files in `folder` say."""
        if SID_TOKENS in raw:
            return {**raw}
        from octorec.models.sid_tokens import read

        return {**raw, SID_TOKENS: read(folder).to_dict()}

    @staticmethod
    def read_config(raw: dict[str, Any], shapes: Mapping[str, tuple[int, ...]], where: str) -> QwenConfig:
        """Read config.json's object; raises as `qwen_config.checked_config` does."""
        return checked_config(raw, shapes, where)

    @staticmethod
    def parse(raw: dict[str, Any]) -> QwenConfig:
        """Read config.json's object, without a look at the tensors."""
        return QwenConfig.from_dict(raw)

    @staticmethod
    def work(config: QwenConfig, batch: int, beam: int, context: int) -> Work:
        """Say what a batch computes; see `qwen_work`."""
        return batch_work(config, batch, beam, context)

    def derive(self) -> None:
        """Make what follows from weights and configuration: a head shared where it is the embeddings, rows of the head
        for each level, and the angles of all positions.
        """
        embedding = self.model.embed_tokens.weight
        if self.lm_head is not None and not embedding.is_meta and self.lm_head.weight.equal(embedding):
            self.lm_head = None
        for level in self.levels:
            assert isinstance(level, Level)
            level.derive(self.head)
        self.model.turns = turns_of(self.config, embedding.device)

    @property
    def head(self) -> Tensor:
        """Return the rows [N, C] that score the whole vocabulary."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.config.sids.codebook_sizes

    @property
    def sids(self) -> SidTokens:
        """Return how the vocabulary writes items."""
        return self.config.sids

    @property
    def max_tokens(self) -> int:
        return self.config.max_position_embeddings - (len(self.steps) - 1)

    @property
    def max_history(self) -> int:
        """Return how many items a prompt can hold at most."""
        return max(1, self.max_tokens // len(self.codebook_sizes))

    def inputs(self, longest: int) -> dict[str, InputSpec]:
        """Describe a prompt of up to `longest` tokens; a row without a request is one token 0."""
        return {"tokens": InputSpec((longest,), torch.int64), "lengths": InputSpec((), torch.int64, 1)}

    def write(self, reading: Reading, put: Callable[[str, np.ndarray], None]) -> None:
        """Write the prompt's tokens. Raises InputError for none, and as `check_prompt`."""
        tokens = np.zeros(0, np.int64) if reading.tokens is None else reading.tokens
        self.check_prompt(tokens)
        put("tokens", tokens)
        put("lengths", np.array(len(tokens), np.int64))

    def check_prompt(self, tokens: np.ndarray) -> None:
        """Raise InputError for a prompt without tokens, one of too many, and ids without a row."""
        if not 1 <= len(tokens) <= self.max_tokens:
            allowed = f"a prompt has 1 to {self.max_tokens:,} tokens here"
            raise InputError("input_ids", f"{len(tokens)} tokens", allowed)
        outside = tokens[(tokens < 0) | (tokens >= self.config.vocab_size)]
        if len(outside):
            raise InputError("input_ids", int(outside[0]), f"ids are 0 to {self.config.vocab_size - 1:,}")

    def prefill(self, inputs: Inputs) -> PromptKV:
        packed = _packed(inputs["tokens"], inputs["lengths"])
        pool, hidden = self.pool(len(packed.tokens)), self.hidden(len(inputs["lengths"]))
        self.read(packed, pool, hidden)
        return self.begun(hidden, pool, packed.spans.first, packed.spans.lengths)

    def pool(self, rows: int) -> Tensor:
        """Return room [layers, 2, rows, G, D]: of each layer keys, then values."""
        shape = self.config.num_key_value_heads, self.config.head_dim
        return self.model.embed_tokens.weight.new_empty(len(self.model.layers), 2, rows, *shape)

    def hidden(self, size: int) -> Tensor:
        """Return room for the residual stream of the last tokens."""
        return self.model.embed_tokens.weight.new_empty(size, self.config.hidden_size)

    def read(self, packed: Packed, pool: Tensor, hidden: Tensor) -> None:
        queries, size = packed.spans.queries, len(hidden)
        rows = max(size, min(FEW, len(packed.tokens)))  # the rest is padding
        last = F.pad((queries[1:] - 1).clamp(min=0), (0, rows - size))
        h = self._stream(packed, pool, last)[:size]
        hidden.copy_(torch.where((queries[1:] > queries[:-1])[:, None], h, hidden))

    def begun(self, hidden: Tensor, pool: Tensor, first: Tensor, lengths: Tensor) -> PromptKV:
        pools = _by_layer(pool)
        return PromptKV(self.model.norm(hidden), pools, first, lengths, past=[[] for _ in pools])

    def decode(self, step: int, codes: Tensor | None, parents: Tensor | None, state: PromptKV) -> Logits:
        batch = len(state.lengths)
        if codes is None or parents is None:
            return self._logits(step, state.hidden, batch)
        if step > self.last_scored:  # nothing reads these
            return Logits(torch.zeros(*codes.shape, 1, device=codes.device))
        state.follow(parents)

        def attend(place: int, *qkv: Tensor) -> Operand:
            q, k, v = (t.unflatten(0, (batch, -1)) for t in qkv)
            quantize_to = self._attention(place).o_proj.input_granularity
            past, context = state.past[place], (*state.pools[place], state.first, state.lengths)
            out = self.ops.beam_attention(q, k, v, past, state.ancestors, *context, quantize_to)
            past.append((k, v))
            return out

        positions = (state.lengths.long()[:, None] + (step - 1)).expand(codes.shape).contiguous().flatten()
        h = self.model(self._tokens(step - 1, codes).flatten(), positions, attend)
        return self._logits(step, self.model.norm(h), batch)

    def forced(self, inputs: Inputs, codes: Tensor) -> list[Logits]:
        """Read each prompt with its item behind it, in one pass."""
        tokens, lengths = inputs["tokens"], inputs["lengths"]
        count = self.last_scored  # tokens of the item that are read
        given = torch.cat([codes, torch.zeros_like(codes[:, :1]).expand(-1, len(self.steps))], 1)  # an end has code 0
        item = torch.stack([self._tokens(step, given[:, step]) for step in range(count)], 1)
        place = lengths[:, None] + torch.arange(count + 1, device=tokens.device) - 1  # of what tells each step
        whole = F.pad(tokens, (0, count)).scatter(1, place[:, 1:], item)
        packed = _packed(whole, lengths + count)
        h = self._stream(packed, self.pool(len(packed.tokens)))
        h = self.model.norm(h[packed.spans.queries[:-1, None] + place])  # [B, count + 1, C]
        found = [self._logits(step, h[:, step].contiguous(), len(h)) for step in range(count + 1)]
        return found + [Logits(torch.zeros(len(h), 1, 1, device=h.device))] * (len(self.steps) - len(found))

    def data_rows(self, inputs: Inputs) -> dict[str, Tensor]:
        """There is no padding: rows are tokens of prompts and items alone."""
        return {}

    def _stream(self, packed: Packed, pool: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Return the residual stream [T, C] of tokens, whose keys and values are written to `pool`.

        wanted [n]: the tokens whose stream is returned, one of each request first; None: all.
        """
        spans, last = packed.spans, len(self.model.layers) - 1
        of_last = spans if wanted is None else _one_each(spans)

        def attend(place: int, q: Tensor, keys: Tensor, values: Tensor) -> Operand:
            quantize_to = self._attention(place).o_proj.input_granularity
            return self.ops.prefill_attention(q, keys, values, of_last if place == last else spans, quantize_to)

        kept = [Kept(keys, values, packed.rows) for keys, values in _by_layer(pool)]
        return self.model(packed.tokens, packed.positions, attend, kept, wanted)

    def _tokens(self, step: int, codes: Tensor) -> Tensor:
        level = self.levels[step]
        assert isinstance(level, Level)
        return level.tokens[codes]

    def _attention(self, place: int) -> Attention:
        layer = self.model.layers[place]
        assert isinstance(layer, Layer)
        return layer.self_attn

    def _logits(self, step: int, h: Tensor, batch: int) -> Logits:
        """Return the logits of a step's tokens, given the normed stream h [B*W, C]."""
        level = self.levels[step]
        assert isinstance(level, Level)
        values = self.ops.head(h, level.head).masked_fill(level.missing, NO_TOKEN).unflatten(0, (batch, -1))
        if self.config.sids.scores_over == "level":
            return Logits(values)
        return Logits(values, self.ops.log_norm(h, self.head).unflatten(0, (batch, -1)))


def _one_each(spans: Spans) -> Spans:
    """Return the spans of one query a request."""
    count = spans.queries
    return spans._replace(queries=torch.arange(len(count), dtype=count.dtype, device=count.device))


def _by_layer(pool: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return each layer's keys and values [R, G, D] in a pool."""
    return [(pool[layer, 0], pool[layer, 1]) for layer in range(len(pool))]


def _packed(tokens: Tensor, lengths: Tensor) -> Packed:
    """Pack the tokens [B, S] of whole prompts, each of which has rows of a pool of its own; on the meta device, which
    has no lengths, with padding.
    """
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    inside = slice(None) if tokens.is_meta else positions < lengths[:, None]
    queries = F.pad(lengths.cumsum(0), (1, 0)).int()
    ids, places = tokens[inside].flatten(), positions[inside].flatten()
    rows = torch.arange(len(ids), device=tokens.device)
    return Packed(ids, places, rows, Spans(queries, queries[:-1], lengths.int()))
