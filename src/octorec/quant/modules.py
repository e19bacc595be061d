"""The FP8 twins of `models.layers.Linear` and `Experts` have the same input and output, and weights in E4M3 with
float32 scales.

Letters are those of `kernels.ops`.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from octorec.kernels.fp8 import E4M3, GROUP, Quantized
from octorec.kernels.ops import Operand, Ops, Routing
from octorec.models.layers import gate_up
from octorec.models.names import Parts
from octorec.quant.recipe import ActivationGranularity

WeightInMemory = Literal["channel", "block"]  # a tensor's one scale is repeated for each of its channels


class FP8Linear(nn.Module):
    """An FP8Linear computes a product with a weight in FP8.

    y = into + x W^T: x [T, K], quantized as `input_granularity` says or still in 16 bit -> [T, N] in `dtype`.

    weight [N, K] E4M3; weight_scale float32 [N, 1] (channel) or [ceil(N/128), ceil(K/128)] (block).
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        weights: WeightInMemory,
        activations: ActivationGranularity,
        dtype: torch.dtype,
        ops: Ops,
        parts: Parts = (),
    ):
        super().__init__()
        self.parts = parts
        self.weight: Tensor
        self.weight_scale: Tensor
        self.register_buffer("weight", torch.empty(n_out, n_in, dtype=E4M3))
        self.register_buffer("weight_scale", torch.empty(scale_shape(n_out, n_in, weights)))
        self.input_granularity = activations
        self.granularity: WeightInMemory = weights
        self.dtype = dtype
        self.ops = ops

    def forward(self, x: Operand, into: Tensor | None = None) -> Tensor:
        if isinstance(x, Tensor):  # from a caller that does not quantize, such as the context processor
            x = self.ops.maybe_quantize(x, self.input_granularity)
        assert isinstance(x, Quantized)
        assert x.granularity == self.input_granularity
        weight = Quantized(self.weight, self.weight_scale, self.granularity, self.dtype)
        return self.ops.linear(x, weight, into)


class FP8Experts(nn.Module):
    """FP8Experts are all experts of one block, the shared ones after the `routed`; `moe` quantizes rows as
    `input_granularity` says.

    gate_up_proj [E, 2F, C] and down_proj [E, C, F] E4M3; their scales float32 as FP8Linear's, with E in front.
    """

    def __init__(
        self,
        n_expert: int,
        width: int,
        hidden: int,
        weights: WeightInMemory,
        activations: ActivationGranularity,
        dtype: torch.dtype,
        ops: Ops,
        routed: int | None = None,
    ):
        super().__init__()
        self.routed, self.parts = n_expert if routed is None else routed, gate_up(hidden)
        self.gate_up_proj: Tensor
        self.gate_up_proj_scale: Tensor
        self.down_proj: Tensor
        self.down_proj_scale: Tensor
        for name, rows, columns in (("gate_up_proj", 2 * hidden, width), ("down_proj", width, hidden)):
            self.register_buffer(name, torch.empty(n_expert, rows, columns, dtype=E4M3))
            self.register_buffer(f"{name}_scale", torch.empty(n_expert, *scale_shape(rows, columns, weights)))
        self.input_granularity = activations
        self.granularity: WeightInMemory = weights
        self.dtype = dtype
        self.ops = ops

    def forward(self, x: Tensor, routing: Routing, into: Tensor) -> Tensor:
        gate_up = Quantized(self.gate_up_proj, self.gate_up_proj_scale, self.granularity, self.dtype)
        down = Quantized(self.down_proj, self.down_proj_scale, self.granularity, self.dtype)
        return self.ops.moe(x, routing, gate_up, down, self.input_granularity, into)


def scale_shape(rows: int, columns: int, weights: WeightInMemory) -> tuple[int, int]:
    return (-(-rows // GROUP), -(-columns // GROUP)) if weights == "block" else (rows, 1)
