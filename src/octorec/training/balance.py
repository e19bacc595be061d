"""Auxiliary-loss-free load balancing (DeepSeek-V3) moves at each step a router's bias against the load it saw."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from octorec.models.layers import Experts, MoE
from octorec.models.onerec import OneRecV2


class ExpertBalance:
    """An ExpertBalance counts the rows each routed expert receives and corrects `router.bias` by `rate` a step, up or
    down. rate: float32, a scalar on the model's device, so that a CUDA graph reads what it is at its step.
    """

    def __init__(self, model: OneRecV2):
        self.rate = torch.zeros((), device=next(model.parameters()).device)
        self.moes = [module for module in model.modules() if isinstance(module, MoE)]
        self.counts = [torch.zeros_like(moe.router.bias) for moe in self.moes]  # since the last `load`
        self._step_counts = [torch.zeros_like(moe.router.bias) for moe in self.moes]
        for index, moe in enumerate(self.moes):
            moe.experts.register_forward_pre_hook(self._counter(index))

    def _counter(self, index: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            assert isinstance(module, Experts)
            if not module.training:
                return
            routed = self._step_counts[index]
            chosen = inputs[1].experts.detach().flatten()  # the shared experts' numbers lie beyond the routed ones'
            routed += (chosen[:, None] == torch.arange(len(routed), device=chosen.device)).sum(0)

        return count

    def update(self) -> None:
        """Correct the biases once: an expert above the mean load loses `rate` of bias, one below gains it."""
        for moe, total, counts in zip(self.moes, self.counts, self._step_counts, strict=True):
            moe.router.bias += self.rate * torch.sign(counts.mean() - counts)
            total += counts
            counts.zero_()

    def load(self) -> list[list[float]]:
        """Return the share of the routed rows that each expert of each MoE block received since the last call."""
        shares = [(count / count.sum().clamp(min=1)).tolist() for count in self.counts]
        for count in self.counts:
            count.zero_()
        return shares
