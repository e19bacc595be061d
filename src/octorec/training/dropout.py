"""Dropout is added for training: the model's file knows nothing of it, and inference never sees it."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from octorec.kernels.fp8 import Granularity
from octorec.kernels.ops import Operand, Ops, Routing, Variant
from octorec.models.layers import Experts, Linear
from octorec.models.onerec import OneRecV2


def add_dropout(model: OneRecV2, rate: float) -> None:
    """Drop values with probability `rate` while `model` is in training mode.

    They are what each sublayer adds to the residual stream (as in "Attention Is All You Need", section 5.4), the
    context Linear's input, and the decoder's embeddings.
    """

    def of_output(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return F.dropout(output, rate, module.training)

    def of_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return (F.dropout(inputs[0], rate, module.training), *inputs[1:])

    model.context.proj.register_forward_pre_hook(of_input)
    for embed in model.code_embed:
        embed.register_forward_hook(of_output)
    for module in model.modules():
        if isinstance(module, Linear | Experts):
            module.ops = DroppedOps(module.ops, module, rate)


class DroppedOps(Variant):
    """DroppedOps are the operations of `module`, whose result is dropped in part before it is added to `into`."""

    def __init__(self, base: Ops, module: nn.Module, rate: float):
        super().__init__(base)
        self.module, self.rate = module, rate

    def linear(self, x: Operand, weight: Operand, into: Tensor | None = None) -> Tensor:
        if into is None or not self.module.training:
            return self.base.linear(x, weight, into)
        return into + F.dropout(self.base.linear(x, weight), self.rate)

    def moe(
        self, x: Tensor, routing: Routing, gate_up: Operand, down: Operand, quantize_to: Granularity | None,
        into: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if into is None or not self.module.training:
            return self.base.moe(x, routing, gate_up, down, quantize_to, into)
        return into + F.dropout(self.base.moe(x, routing, gate_up, down, quantize_to), self.rate)
