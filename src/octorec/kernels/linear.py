"""Linear layers: in 16 bit torch's product; in FP8 torch's or our own, as measured for each weight's shape.

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
from octorec.kernels.device import is_hopper
from octorec.kernels.fp8 import Quantized
from octorec.kernels.gemm import check_pair, gemm
from octorec.kernels.ops import Operand

Accumulate = Literal["float32", "fast"]
Backend = Literal["torch", "triton"]

ACCUMULATE: Accumulate = "fast"
# On Hopper (accumulate, N, K) -> the faster over the runs in results/products.jsonl; all else: torch's
BACKENDS: dict[tuple[Accumulate, int, int], Backend] = {("fast", 1408, 1408): "triton", ("fast", 11264, 1408): "triton"}


def linear(
    x: Operand,
    weight: Operand,
    into: Tensor | None = None,
    accumulate: Accumulate = ACCUMULATE,
    backend: Backend | None = None,
) -> Tensor:
    """As `Ops.linear`; 16-bit operands go to torch, which writes the result over `into`.

    Token and channel scales: torch or triton, by the table unless `backend` says; N and K multiples of 16. With `into`,
    which torch's product does not add, and for group and block scales, whose sums are always float32: triton.
    """
    if isinstance(x, Tensor) and isinstance(weight, Tensor):
        return F.linear(x, weight) if into is None else into.addmm_(x, weight.T)  # a copy would cost a pass
    by_rows = isinstance(x, Quantized) and x.granularity == "token"
    if by_rows and isinstance(weight, Quantized) and into is None:
        assert isinstance(x, Quantized)
        n, k = weight.values.shape
        measured = BACKENDS.get((accumulate, n, k), "torch") if is_hopper(weight.values.device) else "torch"
        if (backend or measured) == "torch":
            return _torch_linear(x, weight, accumulate == "fast")
    out = gemm(x, weight, promote=accumulate == "float32", residual=into)
    assert isinstance(out, Tensor)
    return out


def _torch_linear(x: Quantized, weight: Quantized, fast: bool) -> Tensor:
    """torch's row-wise scaled product."""
    check_pair(x, weight)
    for name, width in zip(("output", "input"), weight.values.shape, strict=True):
        if width % 16:
            raise InputError(f"{name} width of a product", width, "torch's FP8 product takes multiples of 16")
    scales = {"scale_a": x.scale, "scale_b": weight.scale.T}
    return torch._scaled_mm(x.values, weight.values.T, **scales, out_dtype=x.dtype, use_fast_accum=fast)
