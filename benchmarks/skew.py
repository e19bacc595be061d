"""Routers under which the loads of experts are even, or Zipf's with the busiest at four times the mean.

Random weights alone give neither: a level's rows are alike, and the busiest of 53 experts gets 12 times the mean. So
gates lose what all rows of a level have in common, and biases do the rest. Takes models of ours and of `stock`.

Letters: T rows, E routed experts.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.stock import StockMoE
from octorec.models.layers import MoE

EXPONENTS = {"balanced": 0.0, "skewed": 0.5}  # of 53 experts the first then has 4.0 times the mean load
ROUNDS = 100
RATE = 0.3  # of a deviation of an expert's scores


def zipf(n_expert: int, exponent: float) -> Tensor:
    """Loads of the experts over their mean, descending: [E]."""
    loads = torch.arange(1, n_expert + 1).double() ** -exponent
    return loads / loads.mean()


def skewed_bias(scores: Tensor, top_k: int, exponent: float) -> Tensor:
    """The bias [E] under which the top_k of scores [T, E] + bias fall on the experts as `zipf` says."""
    rows, n_expert = scores.shape
    wanted = (zipf(n_expert, exponent) * rows * top_k / n_expert).to(scores)
    bias = -scores.mean(0)
    rate = RATE * scores.std(0).mean()
    for _ in range(ROUNDS):
        chosen = (scores + bias).topk(top_k).indices.flatten()
        counts = scores.new_zeros(n_expert).scatter_add_(0, chosen, scores.new_ones(len(chosen)))
        bias += rate * (wanted.log() - counts.clamp(min=1).log())
    return bias


def skew(model: nn.Module, run: Callable[[], object], exponent: float) -> None:
    """Give every router of `model` gates and a bias by the rows it meets while `run` decodes a batch."""
    directions: dict[Any, list[Tensor]] = defaultdict(list)
    met: dict[Any, list[Tensor]] = defaultdict(list)

    def centre(moe: Any, inputs: tuple[Any, ...]) -> None:
        common = inputs[0].flatten(0, -2).float().mean(0)  # [C]
        for other in directions[moe]:
            common = common - (common @ other) * other
        directions[moe].append(common / common.norm())
        gates = moe.router.weight.float()
        for direction in directions[moe]:
            gates = gates - (gates @ direction)[:, None] * direction
        moe.router.weight.copy_(gates)

    def bias_router(moe: Any, inputs: tuple[Any, ...]) -> None:
        met[moe].append(_scores(moe, inputs[0]))
        moe.router.bias.copy_(skewed_bias(torch.cat(met[moe]), moe.top_k, exponent))

    with torch.no_grad():
        _before_experts(model, centre, run)
        _before_experts(model, bias_router, run)


def busiest(model: nn.Module, run: Callable[[], object]) -> float:
    """Rows of the busiest routed expert over the mean, as `run` decodes a batch: averaged over blocks and levels."""
    found: list[float] = []

    def count(moe: Any, inputs: tuple[Any, ...]) -> None:
        chosen = (_scores(moe, inputs[0]) + moe.router.bias).topk(moe.top_k).indices.flatten()
        counts = chosen.bincount(minlength=len(moe.router.bias)).float()
        found.append(float(counts.max() / counts.mean()))

    first = _before_experts(model, count, run)  # counts of the first level, which has one row a request
    levels = found[first:]
    return sum(levels) / len(levels)


def _scores(moe: Any, x: Tensor) -> Tensor:
    """What the router of `moe` thinks of each row before its bias: [T, E]."""
    return (x.flatten(0, -2).float() @ moe.router.weight.float().T).sigmoid()


def _before_experts(model: nn.Module, hook: Callable[[Any, tuple[Any, ...]], None], run: Callable[[], object]) -> int:
    """`run` with `hook` before each mixture of experts of `model`; how many of them there are."""
    moes = [module for module in model.modules() if isinstance(module, (MoE, StockMoE))]
    handles = [moe.register_forward_pre_hook(hook) for moe in moes]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return len(moes)
