"""Router biases under which the loads of experts are even, or Zipf's with the busiest at four times the mean.

Random weights alone give neither: rows are alike, and the busiest of 53 experts gets 12 times the mean.

Letters: T rows, E routed experts.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from octorec.kernels.reference import Routing
from octorec.models.layers import MoE

EXPONENTS = {"balanced": 0.0, "skewed": 0.5}  # of 53 experts the first then has 4.0 times the mean load
ROUNDS = 100
RATE = 0.3  # of a deviation of the scores


def zipf(n_expert: int, exponent: float) -> Tensor:
    """Loads of the experts over their mean, descending: [E]."""
    loads = torch.arange(1, n_expert + 1).double() ** -exponent
    return loads / loads.mean()


def skewed_bias(scores: Tensor, top_k: int, exponent: float) -> Tensor:
    """The bias [E] under which the top_k of scores [T, E] + bias fall on the experts as `zipf` says."""
    rows, n_expert = scores.shape
    wanted = (zipf(n_expert, exponent) * rows * top_k / n_expert).to(scores)
    bias = scores.new_zeros(n_expert)
    for _ in range(ROUNDS):
        chosen = (scores + bias).topk(top_k).indices.flatten()
        counts = scores.new_zeros(n_expert).scatter_add_(0, chosen, scores.new_ones(len(chosen)))
        bias += RATE * scores.std() * (wanted.log() - counts.clamp(min=1).log())
    return bias


def skew(model: nn.Module, run: Callable[[], object], exponent: float) -> None:
    """Bias every router of `model` by the rows it meets while `run` decodes a batch; the last level's stay."""
    _hooked([moe for moe in model.modules() if isinstance(moe, MoE)], partial(_bias_router, exponent), run)


def busiest(model: nn.Module, run: Callable[[], object]) -> float:
    """Rows of the busiest routed expert over the mean, as `run` decodes a batch: averaged over blocks and levels."""
    found: list[float] = []

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        routing = next(value for value in inputs if isinstance(value, Routing))
        counts = routing.experts.flatten().bincount(minlength=_n_routed[module])[: _n_routed[module]].float()
        found.append(float(counts.max() / counts.mean()))

    moes = [moe for moe in model.modules() if isinstance(moe, MoE)]
    _n_routed: dict[nn.Module, int] = {moe.experts: len(moe.router.bias) for moe in moes}
    _hooked([moe.experts for moe in moes], count, run)
    levels = found[len(moes) :]  # the first level has one row a request
    return sum(levels) / len(levels)


def _bias_router(exponent: float, moe: nn.Module, inputs: tuple[Any, ...]) -> None:
    assert isinstance(moe, MoE)
    scores = (inputs[0].float() @ moe.router.weight.float().T).sigmoid()
    moe.router.bias.copy_(skewed_bias(scores, moe.top_k, exponent))


def _hooked(modules: list[Any], hook: Callable[[nn.Module, tuple[Any, ...]], None], run: Callable[[], object]) -> None:
    """`run` with `hook` before each call of `modules`."""
    handles = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
