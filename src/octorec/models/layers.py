"""The parts a decoder is made of. Each takes its operations as `ops`: an `Ops`.

Letters as in `kernels.ops`.
"""

import torch
from torch import Tensor, nn

from octorec.kernels.fp8 import Granularity
from octorec.kernels.ops import Operand, Ops, Routing, Sizes
from octorec.models.names import Parts


class Linear(nn.Module):
    """A Linear computes y = into + x W^T without bias: x [T, K] -> [T, N]. `quant.FP8Linear` is its twin."""

    input_granularity: Granularity | None = None  # how an FP8 twin wants its input quantized

    def __init__(self, n_in: int, n_out: int, ops: Ops, parts: Parts = ()):
        """Make an empty weight. parts: the matrices on disk that lie over each other in it; none: it is one."""
        super().__init__()
        assert not parts or sum(rows for _, rows in parts) == n_out
        self.weight = nn.Parameter(torch.empty(n_out, n_in))  # [N, K]
        self.parts = parts
        self.ops = ops

    def forward(self, x: Operand, into: Tensor | None = None) -> Tensor:
        return self.ops.linear(x, self.weight, into)


class Head(Linear):
    """A Head is a Linear whose output is scored: it stays in 16 bit, and `ops.head` computes it in float32."""


class RMSNorm(nn.Module):
    """An RMSNorm is a root-mean-square norm with a learned weight over the last dimension."""

    def __init__(self, width: int, eps: float, ops: Ops):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps
        self.ops = ops

    def forward(self, x: Tensor, granularity: Granularity | None = None) -> Operand:
        """Return the norm of x [..., C], quantized as the next product wants it."""
        return self.ops.rms_norm(x, self.weight, self.eps, granularity)


def gate_up(hidden: int) -> Parts:
    """Return the parts of the first product of a SwiGLU of width `hidden`."""
    return ("gate_proj", hidden), ("up_proj", hidden)


class DenseFFN(nn.Module):
    """A DenseFFN is a SwiGLU feed-forward, added to `into`: x and into [T, C] -> [T, C]."""

    def __init__(self, width: int, hidden: int, ops: Ops):
        super().__init__()
        self.gate_up_proj = Linear(width, 2 * hidden, ops, gate_up(hidden))
        self.down_proj = Linear(hidden, width, ops)
        self.ops = ops

    @property
    def input_granularity(self) -> Granularity | None:
        return self.gate_up_proj.input_granularity

    def forward(self, x: Operand, into: Tensor) -> Tensor:
        hidden = self.gate_up_proj(x)
        return self.down_proj(self.ops.swiglu(hidden, self.down_proj.input_granularity), into)


class Experts(nn.Module):
    """Experts are the weights of all experts of one block, the shared ones last. `quant.FP8Experts` is its twin."""

    def __init__(self, n_expert: int, width: int, hidden: int, ops: Ops, n_shared: int = 0):
        """Make empty weights. n_expert: all of them, n_shared of which are shared."""
        super().__init__()
        self.routed, self.parts = n_expert - n_shared, gate_up(hidden)
        self.gate_up_proj = nn.Parameter(torch.empty(n_expert, 2 * hidden, width))  # [E, 2F, C]
        self.down_proj = nn.Parameter(torch.empty(n_expert, width, hidden))  # [E, C, F]
        self.ops = ops

    def forward(self, x: Tensor, routing: Routing, into: Tensor) -> Tensor:
        return self.ops.moe(x, routing, self.gate_up_proj, self.down_proj, None, into)


class Router(nn.Module):
    """A Router gives sigmoid scores over the routed experts; `bias` moves the choice alone
    (auxiliary-loss-free balancing).
    """

    bias: Tensor

    def __init__(self, n_expert: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_expert, width))  # [E, C]
        self.register_buffer("bias", torch.zeros(n_expert))  # float32, moved by the trainer, not by a gradient


class MoE(nn.Module):
    """A MoE adds routed experts and the shared one to `into`: x and into [T, C], not quantized -> [T, C]."""

    input_granularity: Granularity | None = None  # the router reads 16 bit; rows are quantized as they are gathered

    def __init__(self, n_expert: int, n_shared: int, top_k: int, width: int, hidden: int, ops: Ops):
        super().__init__()
        self.router = Router(n_expert, width)
        self.experts = Experts(n_expert + n_shared, width, hidden, ops, n_shared)
        self.n_shared = n_shared
        self.top_k = top_k
        self.ops = ops

    def forward(self, x: Operand, into: Tensor) -> Tensor:
        assert isinstance(x, Tensor)
        routing = self.ops.route(x, self.router.weight, self.router.bias, self.top_k, self.n_shared)
        return self.experts(x, routing, into)


class Attending(nn.Module):
    """An Attending attends with heads of one width."""

    head_width: int


class CrossAttention(Attending):
    """A CrossAttention has query and output projections only: keys and values are the context's."""

    def __init__(self, width: int, n_head: int, ops: Ops):
        super().__init__()
        self.q_proj = Linear(width, width, ops)
        self.o_proj = Linear(width, width, ops)
        self.n_head, self.head_width = n_head, width // n_head
        self.ops = ops

    def forward(self, x: Operand, keys: Tensor, values: Tensor, lengths: Tensor, into: Tensor) -> Tensor:
        """Attend: x and into [B*W, C], keys and values [B, S, G, D], lengths [B] -> [B*W, C]."""
        q = self.q_proj(x).view(len(lengths), -1, self.n_head, keys.shape[-1])
        out = self.ops.cross_attention(q, keys, values, lengths, self.o_proj.input_granularity)
        return self.o_proj(out, into)


class SelfAttention(Attending):
    """A SelfAttention attends over the target's own positions."""

    def __init__(self, width: int, n_head: int, ops: Ops):
        super().__init__()
        self.qkv_proj = Linear(width, 3 * width, ops, (("q_proj", width), ("k_proj", width), ("v_proj", width)))
        self.o_proj = Linear(width, width, ops)
        self.n_head, self.head_width = n_head, width // n_head
        self.ops = ops

    def forward(self, x: Operand, into: Tensor, batch: int) -> Tensor:
        """Attend over all positions of a target at once: x and into [B*L, C] -> [B*L, C]."""
        return self.o_proj(self.ops.causal_attention(self._qkv(x, batch)), into)

    def step(
        self, x: Operand, into: Tensor, batch: int, past: list[Tensor], ancestors: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Attend at one level: x and into [B*W, C] -> [B*W, C], and its q, k, v [B, W, 3, H, D] for the
        levels after it.
        """
        qkv = self._qkv(x, batch)
        out = self.ops.self_attention(qkv, past, ancestors, self.o_proj.input_granularity)
        return self.o_proj(out, into), qkv

    def _qkv(self, x: Operand, batch: int) -> Tensor:
        return self.qkv_proj(x).unflatten(-1, (3, self.n_head, -1)).unflatten(0, (batch, -1))


def sizes_of(model: nn.Module) -> Sizes:
    """Return what limits of kernels depend on, of all these layers in a model."""
    sizes = Sizes(set(), set(), set())
    for module in model.modules():
        if isinstance(module, Attending):
            sizes.heads.add(module.head_width)
        elif isinstance(module, RMSNorm):
            sizes.rows.add(len(module.weight))
        elif isinstance(module, DenseFFN):
            sizes.rows.add(module.down_proj.weight.shape[1])
        elif isinstance(module, MoE):
            sizes.rows.add(module.experts.down_proj.shape[2])
            sizes.experts.add((len(module.router.weight), module.top_k))
    return sizes
