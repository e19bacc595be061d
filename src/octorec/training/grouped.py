"""Experts compute the rows that were routed to them, and no others, in two grouped products (`F.grouped_mm`).

Rows stand in groups, an expert's together, in the order in which they came. How many an expert gets stays on the
device: shapes depend on T, R and E alone, so that nothing waits for the host and a CUDA graph holds it.

Letters as in `kernels.ops`; R experts of a row, M = T * R + BLOCK * E places of rows.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels.ops import Routing

BLOCK = 8  # rows: a group has a multiple of it, and one at least: an empty group's gradient is not defined everywhere
SM_90 = (9, 0)  # older GPUs have no grouped product that leaves its offsets on the device


class Groups(NamedTuple):
    """Groups say where rows stand. place [T * R] int64: of each choice of a row, below M. ends [E] int32: where groups
    end; the last is M.
    """

    place: Tensor
    ends: Tensor


def runs_on(x: Tensor, gate_up: Tensor, down: Tensor) -> bool:
    """Whether torch has a grouped product for these operands: in bfloat16, in rows of 16 bytes each."""
    if product_type(x) != torch.bfloat16 or not hasattr(F, "grouped_mm"):
        return False
    if x.is_cuda and torch.cuda.get_device_capability(x.device) < SM_90:
        return False
    return gate_up.shape[2] % 8 == 0 and down.shape[2] % 8 == 0


def product_type(x: Tensor) -> torch.dtype:
    """Return the type in which products of x are taken: autocast's, or its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def grouped(experts: Tensor, n_expert: int) -> Groups:
    """Give each choice in experts [T, R] a place among those of its expert."""
    flat = experts.flatten()
    member = flat == torch.arange(n_expert, device=flat.device)[:, None]  # [E, T * R]
    sizes = (member.sum(1) + (BLOCK - 1)).div(BLOCK, rounding_mode="floor").clamp(min=1) * BLOCK
    ends = sizes.cumsum(0)
    before = member.cumsum(1).gather(0, flat[None])[0] - 1  # choices of the same expert that came earlier
    place = (ends - sizes)[flat] + before
    ends[-1:].fill_(len(flat) + BLOCK * n_expert)
    return Groups(place, ends.to(torch.int32))


def moe(x: Tensor, routing: Routing, gate_up: Tensor, down: Tensor) -> Tensor:
    """Return the weighted sums of the experts: x [T, C], gate_up [E, 2F, C], down [E, C, F] -> [T, C] in x's type.

    Moving rows adds nothing up, neither forward nor backward: results do not depend on an order of threads.
    """
    kind, (rows, chosen) = product_type(x), routing.experts.shape
    groups = grouped(routing.experts, len(gate_up))
    size = rows * chosen + BLOCK * len(gate_up)
    repeated = x.to(kind)[:, None].expand(-1, chosen, -1).reshape(rows * chosen, -1)
    inputs = repeated.new_zeros(size, x.shape[1]).index_copy(0, groups.place, repeated)  # [M, C]
    weights = routing.weights.new_zeros(size).index_copy(0, groups.place, routing.weights.flatten())
    hidden = F.grouped_mm(inputs, gate_up.to(kind).mT, offs=groups.ends)  # [M, 2F]
    gate, up = hidden.chunk(2, -1)
    hidden = F.silu(gate) * up * weights[:, None].to(kind)  # [M, F]
    out = F.grouped_mm(hidden, down.to(kind).mT, offs=groups.ends)  # [M, C]
    return _returned(out, groups.place).view(rows, chosen, -1).sum(1, dtype=torch.float32).to(x.dtype)


def _returned(out: Tensor, place: Tensor) -> Tensor:
    """Return out [M, C] in the order of the choices, [T * R, C]; a copy, whose gradient is one too."""
    count = len(place)
    source = place.new_full((len(out),), count).index_copy(0, place, torch.arange(count, device=place.device))
    return out.new_zeros(count + 1, out.shape[1]).index_copy(0, source, out)[:count]  # the last takes what is no row
