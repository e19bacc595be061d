"""The yardstick: OneRec-V2's beam search in stock PyTorch, as a good engineer writes it without a kernel of their own.

SDPA, torch._grouped_mm, torch.topk, torch's own FP8 products; a cache that is reordered by indexing; no item trie.
Runs eager, compiled, or compiled and captured into one CUDA graph. Random weights: time hardly depends on them.
Letters: B requests, W beams, S context items, H heads, D head width, C model width, E experts, T rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octorec.kernels.fp8 import to_e4m3
from octorec.models.layers import Router
from octorec.models.onerec_config import OneRecConfig


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """[..., K] -> E4M3 values, float32 scale [..., 1]."""
    scale = x.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / 448
    return to_e4m3(x.float(), scale), scale


class StockLinear(nn.Module):
    def __init__(self, n_in: int, n_out: int, dtype: torch.dtype, fp8: bool, weight: Tensor | None = None):
        """weight [n_out, n_in]; random where None."""
        super().__init__()
        weight = torch.randn(n_out, n_in, dtype=dtype) * 0.02 if weight is None else weight.detach()
        self.dtype, self.fp8 = dtype, fp8
        if fp8:
            weight, scale = quantize_rows(weight)
            self.register_buffer("scale", scale.T.contiguous())
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        if not self.fp8:
            return F.linear(x, self.weight)
        values, scale = quantize_rows(x.flatten(0, -2))
        out = torch._scaled_mm(values, self.weight.T, scale, self.scale, out_dtype=self.dtype, use_fast_accum=True)
        return out.view(*x.shape[:-1], -1)


def swiglu(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up


class StockFFN(nn.Module):
    def __init__(self, width: int, hidden: int, dtype: torch.dtype, fp8: bool):
        super().__init__()
        self.up = StockLinear(width, 2 * hidden, dtype, fp8)
        self.down = StockLinear(hidden, width, dtype, fp8)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(swiglu(self.up(x)))


class StockMoE(nn.Module):
    def __init__(self, config: OneRecConfig, dtype: torch.dtype, fp8: bool):
        super().__init__()
        self.config, self.dtype, self.fp8 = config, dtype, fp8
        width, hidden, experts = config.d_model, config.expert_width, config.n_expert
        self.router = Router(experts, width)
        self.router.weight = nn.Parameter(torch.randn(experts, width, dtype=dtype) * 0.02, requires_grad=False)
        self.top_k = config.top_k
        for name, shape in (("up", (experts, 2 * hidden, width)), ("down", (experts, width, hidden))):
            weight = torch.randn(shape, dtype=dtype) * 0.02
            if fp8:
                weight, scale = quantize_rows(weight)
                self.register_buffer(f"{name}_scale", scale.squeeze(-1))
            self.register_buffer(name, weight)
        self.shared = StockFFN(width, hidden * config.n_shared, dtype, fp8)

    def grouped(self, x: Tensor, name: str, ends: Tensor) -> Tensor:
        weight = getattr(self, name).transpose(-2, -1)
        if not self.fp8:
            return torch._grouped_mm(x, weight, offs=ends)
        values, scale = quantize_rows(x)
        scales = (scale.squeeze(-1), getattr(self, f"{name}_scale"))
        return torch._scaled_grouped_mm(values, weight, *scales, offs=ends, out_dtype=self.dtype, use_fast_accum=True)

    def forward(self, x: Tensor) -> Tensor:
        shape, top_k = x.shape, self.top_k
        x = x.flatten(0, -2)  # [T, C]
        scores = F.linear(x, self.router.weight).float().sigmoid()
        experts = (scores + self.router.bias).topk(top_k, -1).indices
        weights = scores.gather(-1, experts)
        weights = weights / weights.sum(-1, keepdim=True)
        flat = experts.flatten()
        order = flat.argsort(stable=True)
        counts = torch.zeros(self.config.n_expert, device=x.device, dtype=torch.int32)
        ends = counts.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32)).cumsum(0, dtype=torch.int32)
        hidden = swiglu(self.grouped(x[order // top_k], "up", ends))
        parts = self.grouped(hidden, "down", ends) * weights.flatten()[order].to(x.dtype)[:, None]
        out = torch.zeros_like(parts)
        out[order] = parts
        return (out.view(len(x), top_k, -1).sum(1) + self.shared(x)).view(shape)


class StockBlock(nn.Module):
    def __init__(self, config: OneRecConfig, index: int, dtype: torch.dtype, fp8: bool):
        super().__init__()
        width = config.d_model
        self.config = config
        self.register_buffer("norms", torch.ones(3, width, dtype=dtype))
        self.cross_q, self.cross_o, self.self_o = (StockLinear(width, width, dtype, fp8) for _ in range(3))
        self.qkv = StockLinear(width, 3 * width, dtype, fp8)
        dense = index < config.dense_blocks
        self.ffn = StockFFN(width, config.ffn_width, dtype, fp8) if dense else StockMoE(config, dtype, fp8)

    def forward(self, x: Tensor, context: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, W, C], context [B, H, S, D], past k and v [B, W, t, H, D] -> x and the longer k and v."""
        heads, width = self.config.n_head, (self.config.d_model,)
        q = self.cross_q(F.rms_norm(x, width, self.norms[0])).unflatten(-1, (heads, -1)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(q, context, context)
        x = x + self.cross_o(attended.transpose(1, 2).flatten(2))
        q, k, v = self.qkv(F.rms_norm(x, width, self.norms[1])).unflatten(-1, (1, 3, heads, -1)).unbind(3)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        scores = (q * k).sum(-1, dtype=torch.float32) * self.config.d_head**-0.5  # [B, W, t, H]
        attended = (scores.softmax(2).to(x.dtype)[..., None] * v).sum(2)
        x = x + self.self_o(attended.flatten(2))
        return x + self.ffn(F.rms_norm(x, width, self.norms[2])), k, v


class StockOneRec(nn.Module):
    """All levels of a batch of B requests with beam W over S context items; make it under `torch.device("cuda")`."""

    def __init__(self, config: OneRecConfig, dtype: torch.dtype, fp8: bool = False):
        super().__init__()
        width = config.d_model
        self.config = config
        self.context = StockLinear((len(config.codebook_sizes) + 1) * config.embed_dim, width, dtype, False)
        self.blocks = nn.ModuleList([StockBlock(config, index, dtype, fp8) for index in range(config.n_layer)])
        self.heads = nn.ModuleList([StockLinear(width, size, dtype, False) for size in config.codebook_sizes])
        self.embed = nn.ModuleList([nn.Embedding(size, width, dtype=dtype) for size in config.codebook_sizes])
        self.register_buffer("head_norm", torch.ones(width, dtype=dtype))
        self.register_buffer("bos", torch.randn(width, dtype=dtype))
        self.body_call, self.select_call = self.body, select

    def compile(self) -> None:  # type: ignore[override]
        self.body_call = torch.compile(self.body, dynamic=False)
        self.select_call = torch.compile(select, dynamic=False)

    def body(
        self, x: Tensor, context: Tensor, past: list[tuple[Tensor, Tensor]] | None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        caches = []
        for index, block in enumerate(self.blocks):
            x, k, v = block(x, context, None if past is None else past[index])
            caches.append((k, v))
        return x, caches

    def forward(self, features: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """features [B, S, context features] -> codes [B, W, levels], scores [B, W]."""
        batch, heads = len(features), self.config.n_head
        context = F.rms_norm(self.context(features), (self.config.d_model,))
        context = context.unflatten(-1, (heads, -1)).transpose(1, 2).contiguous()
        x = self.bos.expand(batch, 1, -1)
        scores = torch.zeros(batch, 1, device=features.device)
        codes = torch.zeros(batch, 1, 0, dtype=torch.long, device=features.device)
        rows = torch.arange(batch, device=features.device)[:, None]
        past = None
        for level, head in enumerate(self.heads):
            h, past = self.body_call(x, context, past)
            logits = head(F.rms_norm(h, (self.config.d_model,), self.head_norm))
            scores, parent, code = self.select_call(logits, scores, width)
            codes = torch.cat([codes[rows, parent], code[..., None]], -1)
            if level + 1 < len(self.heads):
                x = self.embed[level](code)
                past = [(k[rows, parent], v[rows, parent]) for k, v in past]
        return codes, scores


def select(logits: Tensor, scores: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `width` best of [B, W, V] continuations: scores, parents, codes [B, width]."""
    total = F.log_softmax(logits.float(), -1) + scores[..., None]
    best, index = total.flatten(1).topk(width, -1)
    return best, index // logits.shape[-1], index % logits.shape[-1]
