"""Dropout for training, as hooks: the model's file knows nothing of it, and inference never sees it."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from octorec.models.layers import CrossAttention, DenseFFN, MoE, SelfAttention
from octorec.models.onerec import OneRecV2


def add_dropout(model: OneRecV2, rate: float) -> None:
    """While `model` is in training mode, drop values with probability `rate`: what each sublayer adds to the residual
    stream (as in "Attention Is All You Need", section 5.4), the context Linear's input, and the decoder's embeddings.
    """

    def of_output(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return F.dropout(output, rate, module.training)

    def of_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return (F.dropout(inputs[0], rate, module.training),)

    model.context.proj.register_forward_pre_hook(of_input)
    for module in model.modules():
        if isinstance(module, CrossAttention | SelfAttention | DenseFFN | MoE):
            module.register_forward_hook(of_output)
    for embed in model.code_embed:
        embed.register_forward_hook(of_output)
