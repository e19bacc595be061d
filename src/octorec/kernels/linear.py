"""A linear layer is torch's product in 16 bit; in FP8 it is torch's or ours, as measured for each weight's shape.

`accumulate` says where the sums are kept: `float32` is the recipe's; `fast` leaves all of K to the tensor cores, which
keep about 14 bits of mantissa in a running sum. On an H100, against float64 (`python -m benchmarks.products`), it
adds a relative error of 0.07 % at K 1408 and 0.15 % at K 5632. FP8's own error, 3.6 %, grows by a thousandth of
itself from that, far below the tenth that is allowed: row-wise products are `fast`, and result rows say so.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels.device import card_of
from octorec.kernels.fp8 import Quantized
from octorec.kernels.gemm import check_pair, gemm, scales_of
from octorec.kernels.ops import Operand
from octorec.kernels.products import ACCUMULATE, Accumulate, Fusion, Problem, product_for


def linear(
    x: Operand,
    weight: Operand,
    into: Tensor | None = None,
    accumulate: Accumulate = ACCUMULATE,
    by: Literal["torch", "ours"] | None = None,
) -> Tensor:
    """Compute `Ops.linear`: 16 bit by torch, FP8 by what the table of `products` or `by` names.

    torch takes N and K in multiples of 16 where they are FP8; in 16 bit it writes the result over `into`.
    """
    if isinstance(x, Tensor) and isinstance(weight, Tensor):
        return F.linear(x, weight) if into is None else into.addmm_(x, weight.T)  # a copy would cost a pass
    check_pair(x, weight)
    assert isinstance(x, Quantized)
    assert isinstance(weight, Quantized)
    n, k = weight.values.shape
    fusion: Fusion = "none" if into is None else "residual"
    assert by != "torch" or into is None, "torch adds nothing"
    problem = Problem(scales_of(weight), n, k, fusion, accumulate)
    if (by or product_for(card_of(x.values.device), problem)) == "torch":
        return _torch_linear(x, weight, accumulate == "fast")
    out = gemm(x, weight, fusion=fusion, sums=accumulate, residual=into)
    assert isinstance(out, Tensor)
    return out


def _torch_linear(x: Quantized, weight: Quantized, fast: bool) -> Tensor:
    """Compute torch's row-wise scaled product."""
    for name, width in zip(("output", "input"), weight.values.shape, strict=True):
        if width % 16:
            raise InputError(f"{name} width of a product", width, "torch's FP8 product takes multiples of 16")
    scales = {"scale_a": x.scale, "scale_b": weight.scale.T}
    return torch._scaled_mm(x.values, weight.values.T, **scales, out_dtype=x.dtype, use_fast_accum=fast)
