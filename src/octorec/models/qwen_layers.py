"""The layers of a Qwen3 or Qwen2 decoder, from the embeddings to the last norm, and the tokens of a level.

Letters as in `kernels.ops`; V counts the codes of a level, N the rows of the vocabulary.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from octorec.kernels.ops import Kept, Operand, Ops
from octorec.models.layers import Attending, DenseFFN, Linear, RMSNorm
from octorec.models.names import Parts
from octorec.models.qwen_config import QwenConfig

Attend = Callable[[int, Tensor, Tensor, Tensor], Operand]  # layer, and what `Attention` returns -> [T, H * D]


class Bias(nn.Module):
    """A Bias is added to a product of several parts on disk, apart from its weight, which may be in FP8."""

    def __init__(self, parts: Parts):
        super().__init__()
        self.parts = parts
        self.bias = nn.Parameter(torch.empty(sum(rows for _, rows in parts)))

    def forward(self, rows: int) -> Tensor:
        """Return [rows, N], for a product to be added to."""
        return self.bias.repeat(rows, 1)


class Attention(Attending):
    """An Attention has q, k and v in one product, with norms of their heads (Qwen3) or biases (Qwen2)."""

    def __init__(self, config: QwenConfig, ops: Ops):
        super().__init__()
        width, q, kv, eps = config.hidden_size, config.q_width, config.kv_width, config.rms_norm_eps
        parts = ("q_proj", q), ("k_proj", kv), ("v_proj", kv)
        self.qkv_proj = Linear(width, q + 2 * kv, ops, parts)
        self.qkv_bias = Bias(parts) if config.biased else None
        self.q_norm = RMSNorm(config.head_dim, eps, ops) if config.normed else None
        self.k_norm = RMSNorm(config.head_dim, eps, ops) if config.normed else None
        self.o_proj = Linear(q, width, ops)
        self.heads, self.head_width, self.eps, self.ops = config.num_attention_heads, config.head_dim, eps, ops

    def forward(self, x: Operand, turns: Tensor, positions: Tensor, kept: Kept | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return q [T, H, D], k and v [T, G, D] of x [T, C], with q and k turned by `positions` [T].

        With `kept`, k and v are written there, and its pools are returned in their place.
        """
        qkv = self.qkv_proj(x, None if self.qkv_bias is None else self.qkv_bias(len(positions)))
        norms = None if self.q_norm is None or self.k_norm is None else (self.q_norm.weight, self.k_norm.weight)
        return self.ops.rope(qkv, turns, positions, self.heads, norms, self.eps, kept)


class Layer(nn.Module):
    """A Layer is attention and a SwiGLU, each on the norm of the residual stream."""

    def __init__(self, config: QwenConfig, ops: Ops):
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(width, eps, ops)
        self.self_attn = Attention(config, ops)
        self.post_attention_layernorm = RMSNorm(width, eps, ops)
        self.mlp = DenseFFN(width, config.intermediate_size, ops)

    def forward(
        self,
        h: Tensor,
        turns: Tensor,
        positions: Tensor,
        attend: Callable[..., Operand],
        kept: Kept | None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Map the residual stream h [T, C] -> the same. attend(q, k, v): the attention's result [T, H * D].

        wanted [n]: the rows of h that the result has, and q; None: all. Keys and values are of every row.
        """
        attention = self.self_attn
        x = self.input_layernorm(h, attention.qkv_proj.input_granularity)
        q, k, v = attention(x, turns, positions, kept)
        if wanted is not None:
            h, q = h[wanted], q[wanted]
        h = attention.o_proj(attend(q, k, v), h)
        return self.mlp(self.post_attention_layernorm(h, self.mlp.input_granularity), h)


class Decoder(nn.Module):
    """A Decoder is all but the head. turns [P, D] float32: what `ops.rope` turns by; no file holds it."""

    def __init__(self, config: QwenConfig, ops: Ops):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config, ops) for _ in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, ops)
        self.turns: Tensor
        self.register_buffer("turns", torch.empty(0), persistent=False)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        kept: list[Kept] | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Return the residual stream [T, C] after the last layer, of tokens [T] at `positions` [T].

        kept: where each layer keeps the tokens' keys and values; None: nowhere but in what `attend` gets. wanted [n]:
        the tokens whose stream is returned, [n, C], which spares the last layer the others; None: all.
        """
        h, last = self.embed_tokens(tokens), len(self.layers) - 1
        for place, layer in enumerate(self.layers):
            attend_there = lambda *qkv, place=place: attend(place, *qkv)  # noqa: E731
            keeps = None if kept is None else kept[place]
            h = layer(h, self.turns, positions, attend_there, keeps, wanted if place == last else None)
        return h


class Level(nn.Module):
    """A Level is the tokens that a step chooses from: one a code, and the head's rows of them. No file holds it."""

    tokens: Tensor
    missing: Tensor
    head: Tensor

    def __init__(self, tokens: np.ndarray):
        """Take the token of each code, -1 where there is none."""
        super().__init__()
        self.ids = tokens
        for name in ("tokens", "missing", "head"):
            self.register_buffer(name, torch.empty(0), persistent=False)

    def derive(self, head: Tensor) -> None:
        """Copy the rows of the head [N, C]: tokens [V] int64, missing [V] bool, head [V, C]."""
        ids = torch.from_numpy(self.ids).to(head.device)
        self.tokens, self.missing = ids.clamp(min=0), ids < 0
        self.head = head.detach()[self.tokens]


def turns_of(config: QwenConfig, device: torch.device) -> Tensor:
    """Return the cosines and sines [P, D] float32 of each position, in transformers' rounding."""
    if device.type == "meta":
        return torch.empty(config.max_position_embeddings, config.head_dim, device=device)
    halves = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.arange(config.max_position_embeddings)[:, None] * (1.0 / config.rope_theta**halves)
    return torch.cat([angles.cos(), angles.sin()], 1).to(device)
