"""On a CPU these products and sigmoids give a row bits that depend on that row alone, not on the rows beside it.

A BLAS chooses its kernels by the shape of a product, and within a product by a row's place: the rows left over at the
end, and those at the border between two threads, may be summed in another order. An answer would then depend on who
else asks at that moment. So every product is made of blocks of one shape, the last one filled up with zeros, and a
block is chosen so that all of its rows are treated alike:

- in 16 bit a block is BLOCK rows; oneDNN sums each element of one shape in one order.
- in float32 a block's LANES rows are the columns of W x^T, so that they lie beside each other in vector registers
  (one of AVX512, two of AVX2, four of SSE or NEON). MKL sums the columns of a product of row-major matrices alike
  within a register, while rows in x W^T get other bits by place (12 at a time with AVX2, and at a thread's border).

A product that is differentiated, or that runs on a GPU, is the library's own in one call: a training's batch has one
size, and its speed counts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 64
LANES = 16


def product(x: Tensor, weight: Tensor, residual: Tensor | None = None) -> Tensor:
    """Return residual [..., T, N] plus x [..., T, K] times weight [..., N, K] transposed -> [..., T, N].

    All in one type. Up to two leading dimensions, the same in all three, are for float32 and float64 alone: of two, the
    first counts what must not depend on each other, such as requests. 16-bit sums are float32, and rounded once with
    the residual.
    """
    if _at_once(x, weight):
        if residual is None:
            return x @ weight.mT
        return torch.addmm(residual, x, weight.T) if x.dim() == 2 else residual + x @ weight.mT
    if x.itemsize == 2:
        return _by_rows(x, weight, residual)
    # requests one by one: how many there are would decide how a batched product is divided
    out = _by_lanes(x, weight) if x.dim() == 4 else _by_lanes(x[None], weight[None])[0]
    return out if residual is None else residual + out


def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x)): torch's own takes another exp for the last few elements of a tensor,
    torch.exp does not.
    """
    return x.sigmoid() if _at_once(x) else 1 / (1 + (-x).exp())


def silu(x: Tensor) -> Tensor:
    """Return x * sigmoid(x)."""
    return F.silu(x) if _at_once(x) else x / (1 + (-x).exp())


def _at_once(*operands: Tensor) -> bool:
    """Tell whether nothing is to be done for steadiness: on a GPU, for a gradient, and where there are no rows."""
    differentiated = torch.is_grad_enabled() and any(operand.requires_grad for operand in operands)
    return differentiated or operands[0].device.type != "cpu" or operands[0].numel() == 0


def _by_rows(x: Tensor, weight: Tensor, residual: Tensor | None) -> Tensor:
    blocks = _filled(x, BLOCK).split(BLOCK)
    out = x.new_empty(len(blocks) * BLOCK, len(weight))
    if residual is None:
        for block, its in zip(blocks, out.split(BLOCK), strict=True):
            torch.mm(block, weight.T, out=its)
    else:
        for start, block, its in zip(_filled(residual, BLOCK).split(BLOCK), blocks, out.split(BLOCK), strict=True):
            torch.addmm(start, block, weight.T, out=its)
    return out[: len(x)]


def _by_lanes(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply x [R, ..., T, K] by weight [R, ..., N, K] -> [R, ..., T, N]."""
    columns = _filled(x, LANES).unflatten(-2, (-1, LANES)).movedim(-3, 1).mT.contiguous()  # [R, blocks, ..., K, LANES]
    out = columns.new_empty(*columns.shape[:-2], weight.shape[-2], LANES)
    multiply = torch.bmm if weight.dim() == 4 else torch.mm
    for one, blocks, results in zip(weight, columns, out, strict=True):
        for block, its in zip(blocks, results, strict=True):
            multiply(one, block, out=its)
    rows = out.mT.movedim(1, -3).flatten(-3, -2)[..., : x.shape[-2], :]
    return rows.contiguous()  # of one block a view of columns, over which a later sum would take another order


def _filled(x: Tensor, size: int) -> Tensor:
    """Return x [..., T, K] with rows of zeros up to a multiple of `size`."""
    return F.pad(x, (0, 0, 0, -x.shape[-2] % size))
