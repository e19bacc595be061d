"""Random inputs of the kernels at any shape, on the GPU.

Letters as in `kernels.ops`.
"""

import torch
from torch import Tensor

from octorec.kernels import fused
from octorec.kernels.fp8 import Granularity, Quantized
from octorec.kernels.ops import NodeFilter, Routing, TrieLevel

DEVICE = "cuda"


def normal(*shape: int, std: float = 1.0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return (torch.randn(*shape, device=DEVICE) * std).to(dtype)


def cast(x: Tensor, granularity: Granularity) -> Quantized:
    quantized = fused.maybe_quantize(x, granularity)
    assert isinstance(quantized, Quantized)
    return quantized


def random_routing(rows: int, n_expert: int, top_k: int, n_shared: int, loads: Tensor) -> Routing:
    """Experts drawn without replacement by `loads` [E]; even weights, the shared experts with weight 1."""
    chosen = torch.multinomial(loads.to(DEVICE).expand(rows, -1), top_k)
    shared = torch.arange(n_expert, n_expert + n_shared, device=DEVICE).expand(rows, -1)
    weights = torch.full((rows, top_k + n_shared), 1 / top_k, device=DEVICE)
    weights[:, top_k:] = 1
    return Routing(torch.cat([chosen, shared], 1), weights)


def random_self(batch: int, beams: int, heads: int, width: int, earlier: tuple[int, ...]) -> tuple:
    """qkv, past and ancestors, ascending as beams leave them; earlier: the beams of each level before."""
    past = [normal(batch, count, 3, heads, width) for count in earlier]
    ancestors = [torch.randint(0, count, (batch, beams), device=DEVICE).sort(1).values for count in earlier]
    return normal(batch, beams, 3, heads, width), past, ancestors


def random_cross(batch: int, beams: int, items: int, heads: int, width: int) -> tuple[Tensor, ...]:
    """q, keys, the same as values, and full lengths."""
    keys = normal(batch, items, heads, width)
    return normal(batch, beams, heads, width), keys, keys, torch.full((batch,), items, device=DEVICE)


def random_trie(items: int, codes: int, dead: float = 0.01) -> list[TrieLevel]:
    """Three levels of `items` random tuples of codes, on the GPU; `dead` is the share of leaves without a live item."""
    leaves = torch.randint(0, codes**3, (items,), device=DEVICE).unique()
    alive = (torch.rand(len(leaves), device=DEVICE) >= dead).int()
    levels: list[TrieLevel] = []
    for _ in range(3):
        parents, counts = torch.unique_consecutive(leaves // codes, return_counts=True)
        start = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
        levels.insert(0, TrieLevel(start, (leaves % codes).short(), alive, None))
        alive = torch.segment_reduce(alive.float(), "sum", lengths=counts).int()
        leaves = parents
    return levels


def flat_level(codes: int) -> TrieLevel:
    """One node that every code extends: the beam step without a trie."""
    places = torch.arange(codes, device=DEVICE)
    return TrieLevel(torch.tensor([0, codes], device=DEVICE).int(), places.short(), torch.ones_like(places).int(), None)


def random_beams(batch: int, beams: int, level: TrieLevel) -> tuple[Tensor, Tensor]:
    """Scores, and ascending nodes, distinct ones where the level has enough."""
    nodes = len(level.child_start) - 1
    at = [torch.randperm(nodes, device=DEVICE)[:beams] if nodes >= beams else [0] * beams for _ in range(batch)]
    return torch.randn(batch, beams, device=DEVICE), torch.stack(
        [torch.as_tensor(row, device=DEVICE) for row in at]
    ).sort(1).values


def random_filter(batch: int, level: TrieLevel, nodes: Tensor, banned: int) -> NodeFilter:
    """Bans children, half of them below the beams; every second request is limited to some of 64 sets."""
    children = torch.randint(0, len(level.child_code), (batch, banned), device=DEVICE, dtype=torch.int32)
    children[:, ::2] = level.child_start[nodes[:, : (banned + 1) // 2]]
    first = torch.arange(batch + 1, device=DEVICE) * banned
    restricted = torch.arange(batch, device=DEVICE) % 2 == 1
    return NodeFilter(children.flatten(), first, torch.full((batch, 1), 5, device=DEVICE), restricted)
