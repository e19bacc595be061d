"""The yardstick: a Qwen3 recommender's beam search in stock PyTorch, as a good engineer writes it without a kernel.

SDPA over prompts of one length, torch's flash attention over contexts that are kept once a request, torch.topk, torch's
own row-wise FP8 products, a log-softmax of the whole vocabulary, a mask of the item trie scattered over the codes. Runs
eager, compiled a layer at a time, or compiled and captured into one CUDA graph.
Letters as in `octorec.kernels.ops`; N rows of the vocabulary, V codes of a level, L levels, R = H / G.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.stock import StockLinear, swiglu
from octorec.kernels.ops import TrieLevel
from octorec.models.layers import Linear, RMSNorm
from octorec.models.qwen import Qwen
from octorec.models.qwen_config import QwenConfig
from octorec.models.qwen_layers import Layer

KV = tuple[Tensor, Tensor]
NEVER = float("-inf")


class Beams(NamedTuple):
    """W prefixes a request, the best first, as columns [B, W]; nodes int32, -1 where there is none."""

    scores: Tensor
    nodes: Tensor
    parents: Tensor
    codes: Tensor


class StockLayer(nn.Module):
    """A layer with the weights of one of ours."""

    def __init__(self, layer: Layer, config: QwenConfig, fp8: bool):
        super().__init__()
        attention, ffn = layer.self_attn, layer.mlp
        self.heads, self.groups, self.eps = config.num_attention_heads, config.num_key_value_heads, config.rms_norm_eps
        self.qkv, self.o = _product(attention.qkv_proj, fp8), _product(attention.o_proj, fp8)
        self.up, self.down = _product(ffn.gate_up_proj, fp8), _product(ffn.down_proj, fp8)
        norms = layer.input_layernorm, layer.post_attention_layernorm, attention.q_norm, attention.k_norm
        for name, norm in zip(("before", "after", "q", "k"), norms, strict=True):
            assert isinstance(norm, RMSNorm)
            self.register_buffer(f"{name}_norm", norm.weight.detach())

    def read(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts x [B, S, C] at the positions of turns [S, D] -> x, and k and v [B, G, S, D]."""
        q, k, v = (t.transpose(1, 2) for t in self._parts(x, turns))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self._rest(x, out.transpose(1, 2).flatten(2)), k.contiguous(), v.contiguous()

    def step(self, x: Tensor, turns: Tensor, context: KV, past: Sequence[KV]) -> tuple[Tensor, Tensor, Tensor]:
        """Beams x [B, W, C] at one position, contexts [B, G, S, D], earlier k, v [B, W, G, D] -> x and its own k, v."""
        q, k, v = self._parts(x, turns)
        return self._rest(x, beam_attention(q, [*past, (k, v)], context)), k, v

    def _parts(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, C] -> q [B, T, H, D], k and v [B, T, G, D]."""
        qkv = self.qkv(self._normed(x, self.before_norm)).unflatten(-1, (self.heads + 2 * self.groups, -1))
        q, k, v = qkv.split((self.heads, self.groups, self.groups), 2)
        q, k = self._normed(q, self.q_norm), self._normed(k, self.k_norm)
        return _turned(q, turns), _turned(k, turns), v

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.o(attended)
        return x + self.down(swiglu(self.up(self._normed(x, self.after_norm))))

    def _normed(self, x: Tensor, weight: Tensor | nn.Module) -> Tensor:
        assert isinstance(weight, Tensor)
        return F.rms_norm(x, weight.shape, weight, self.eps)


class StockQwen(nn.Module):
    """All levels of a batch of prompts of one length, with the weights of `model`, which are in 16 bit (or float32).

    trie: levels of the item trie on the device; None: any code may follow.
    """

    def __init__(self, model: Qwen, fp8: bool, trie: Sequence[TrieLevel] | None):
        super().__init__()
        config = model.config
        self.layers = nn.ModuleList([StockLayer(layer, config, fp8) for layer in _layers(model)])
        self.embed, self.head, self.turns = (
            model.model.embed_tokens.weight.detach(),
            model.head.detach(),
            model.model.turns,
        )
        self.norm, self.eps = model.model.norm.weight.detach(), config.rms_norm_eps
        self.tokens = [torch.from_numpy(ids).to(self.embed.device) for ids in config.sids.levels]
        self.trie = trie
        self.most = (
            []
            if trie is None
            else [_most_children(level, len(ids)) for level, ids in zip(trie, self.tokens, strict=True)]
        )
        self.reads: list[Callable[..., tuple[Tensor, Tensor, Tensor]]] = [layer.read for layer in self._layers]
        self.steps: list[Callable[..., tuple[Tensor, Tensor, Tensor]]] = [layer.step for layer in self._layers]
        self.scored = self._scored

    @property
    def _layers(self) -> list[StockLayer]:
        return [layer for layer in self.layers if isinstance(layer, StockLayer)]

    def compile(self) -> None:  # type: ignore[override]
        """Compile a layer's two functions once for all layers, and the scores."""
        self.reads = [torch.compile(call, dynamic=False) for call in self.reads]
        self.steps = [torch.compile(call, dynamic=False) for call in self.steps]
        self.scored = torch.compile(self.scored, dynamic=False)  # type: ignore[method-assign]

    def forward(self, prompts: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """prompts [B, S] int64 -> codes [B, W, L], scores [B, W], the best first; -inf where there are fewer."""
        batch, length = prompts.shape
        x, contexts = self.embed[prompts], list[KV]()
        for read in self.reads:
            x, k, v = read(x, self.turns[:length])
            contexts.append((k, v))
        rows = torch.arange(batch, device=x.device)[:, None]
        zeros = torch.zeros(batch, 1, device=x.device)
        beams = self._choose(0, x[:, -1:], zeros, zeros.int(), width)
        codes, past = beams.codes[..., None], [list[KV]() for _ in contexts]
        for level in range(1, len(self.tokens)):
            x = self.embed[self.tokens[level - 1][beams.codes]]
            for place, step in enumerate(self.steps):
                x, k, v = step(x, self.turns[length + level - 1], contexts[place], past[place])
                past[place].append((k, v))
            beams = self._choose(level, x, beams.scores, beams.nodes, width)
            codes = torch.cat([codes[rows, beams.parents], beams.codes[..., None]], -1)
            if level + 1 < len(self.tokens):
                past = [[(k[rows, beams.parents], v[rows, beams.parents]) for k, v in each] for each in past]
        return codes, beams.scores

    def _choose(self, level: int, x: Tensor, scores: Tensor, nodes: Tensor, width: int) -> Beams:
        trie = None if self.trie is None else (self.trie[level], self.most[level])
        return self.scored(x, self.tokens[level], scores, nodes, trie, width)

    def _scored(
        self, x: Tensor, tokens: Tensor, scores: Tensor, nodes: Tensor, trie: tuple[TrieLevel, int] | None, width: int
    ) -> Beams:
        """The best extensions of beams x [B, W, C] by the codes of `tokens` [V], scored over the whole vocabulary."""
        logits = F.linear(F.rms_norm(x, self.norm.shape, self.norm, self.eps), self.head).float()  # [B, W, N]
        total = logits[..., tokens] - logits.logsumexp(-1, keepdim=True) + scores[..., None]
        child = None if trie is None else _children(nodes, *trie, len(tokens))
        if child is not None:
            total = total.masked_fill(child < 0, NEVER)
        best, index = total.flatten(1).topk(min(width, total[0].numel()), -1)
        found = torch.zeros_like(index) if child is None else child.flatten(1).gather(1, index)
        return Beams(best, found, index // len(tokens), index % len(tokens))


def beam_attention(q: Tensor, own: Sequence[KV], context: KV) -> Tensor:
    """Beams q [B, W, H, D] over contexts [B, G, S, D] and their own k and v [B, W, G, D] -> [B, W, H * D].

    Heads of a group are rows of one attention over its context; the softmax of own positions joins by its sum.
    """
    q = q.unflatten(2, (context[0].shape[1], -1))  # [B, W, G, R, D]
    far, total = _attended(q.transpose(1, 2).flatten(2, 3), *context)  # [B, G, W*R, D] and [B, G, W*R]
    far, total = (t.unflatten(2, q.shape[1:4:2]).transpose(1, 2) for t in (far, total))
    own_k, own_v = (torch.stack(t, 3).float() for t in zip(*own, strict=True))  # [B, W, G, positions, D]
    near = (q.float() * q.shape[-1] ** -0.5) @ own_k.mT  # [B, W, G, R, positions]
    every = torch.logaddexp(total, near.logsumexp(-1))[..., None]
    out = far.float() * (total[..., None] - every).exp() + (near - every).exp() @ own_v
    return out.flatten(2).to(q.dtype)


def _product(linear: Linear | nn.Module, fp8: bool) -> StockLinear:
    assert isinstance(linear, Linear)
    rows, columns = linear.weight.shape
    return StockLinear(columns, rows, linear.weight.dtype, fp8, linear.weight)


def _layers(model: Qwen) -> list[Layer]:
    return [layer for layer in model.model.layers if isinstance(layer, Layer)]


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Heads x [B, T, n, D], turned by turns [T, D] or [D]: cosines, then sines."""
    cos, sin = (turns if turns.dim() == 1 else turns[:, None]).chunk(2, -1)
    one, other = x.float().chunk(2, -1)
    return torch.cat([one * cos - other * sin, other * cos + one * sin], -1).to(x.dtype)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of q [B, G, n, D] over k, v [B, G, S, D] -> [B, G, n, D], and the log-sum-exp of scores [B, G, n]."""
    if q.is_cuda:
        found = torch.ops.aten._scaled_dot_product_flash_attention(q.contiguous(), k, v)
        return found[0], found[1]
    scores = (q.float() @ k.float().mT) * q.shape[-1] ** -0.5
    return scores.softmax(-1) @ v.float(), scores.logsumexp(-1)


def _children(nodes: Tensor, level: TrieLevel, most: int, vocabulary: int) -> Tensor:
    """The child of each node [B, W] by code: [B, W, V] int32, -1 where there is no live one."""
    at = nodes.clamp(min=0).long()
    start, end = level.child_start[at], level.child_start[at + 1]
    slot = start[..., None] + torch.arange(most, device=nodes.device, dtype=torch.int32)
    place = slot.clamp(max=len(level.child_code) - 1).long()
    real = (slot < end[..., None]) & (nodes >= 0)[..., None] & (level.child_live[place] > 0)
    code = torch.where(real, level.child_code[place].long(), vocabulary)  # the last column takes what is not real
    table = torch.full((*nodes.shape, vocabulary + 1), -1, device=nodes.device, dtype=torch.int32)
    return table.scatter_(2, code, slot.masked_fill(~real, -1))[..., :vocabulary]


def _most_children(level: TrieLevel, vocabulary: int) -> int:
    """The most children of any node; longer steps are the room between two sets."""
    counts = level.child_start.diff()
    return int(counts[counts <= vocabulary].max())
