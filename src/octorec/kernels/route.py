# mypy: allow-untyped-defs
"""One kernel routes to experts: gate product, sigmoid, biased choice, normalised weights.

The product runs on the tensor cores with float32 sums; x is read once, the gate (a few hundred KB) comes from L2.

Letters: T rows, C model width, E routed experts, R = top_k + n_shared experts a row.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels.device import card_of, processors
from octorec.kernels.ops import Routing
from octorec.kernels.overlap import overlaps, wait_for_inputs

MOST_EXPERTS, MOST_CHOSEN = 256, 8


@dataclass(frozen=True)
class Tiling:
    """A Tiling lays out the kernel.

    rows of a program, columns of x at a time (powers of two); warps; stages of its loads. Columns do not change a
    result: tensor cores sum 16 at a time, in their order.
    """

    rows: int = 64
    columns: int = 64
    warps: int = 4
    stages: int = 4

    def shared(self, experts: int) -> int:
        """Return the bytes that a program's loads of `experts`, a power of two, hold in shared memory at most."""
        return self.stages * (self.rows + experts) * self.columns * 2


FEW, MANY = Tiling(columns=256, stages=3), Tiling()


def route(x: Tensor, gate: Tensor, bias: Tensor, top_k: int, n_shared: int, tiling: Tiling | None = None) -> Routing:
    """Compute `Ops.route`: x [T, C], gate [E, C] of one 16-bit type, bias [E] float32 -> experts, weights [T, R].

    E up to 256, top_k up to 8. A tie of biased scores goes to the lower expert. One launch.
    """
    rows, width = x.shape
    experts = len(gate)
    check_experts(experts, top_k)
    if x.dtype not in (torch.bfloat16, torch.float16):
        raise InputError("dtype", x.dtype, "routing takes bfloat16 or float16")
    assert x.is_contiguous()
    assert gate.is_contiguous()
    assert x.dtype == gate.dtype
    padded = max(16, triton.next_power_of_2(experts))
    tiling = tiling or _tiling(x.device, rows, padded)
    chosen = torch.empty(rows, top_k + n_shared, dtype=torch.int64, device=x.device)
    weights = torch.empty(rows, top_k + n_shared, dtype=torch.float32, device=x.device)
    _route[(triton.cdiv(rows, tiling.rows),)](
        x, gate, bias, chosen, weights, rows, width, E=experts, TOP_K=top_k, SHARED=n_shared, ROWS=tiling.rows,
        COLUMNS=tiling.columns, EXPERTS=padded,
        SLOTS=triton.next_power_of_2(top_k + n_shared),
        launch_pdl=overlaps(x.device, rows), num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    return Routing(chosen, weights)


def _tiling(device: torch.device, rows: int, experts: int) -> Tiling:
    """Return wide steps where all programs run at once with them: so few rows wait for memory, and then less often."""
    at_once = triton.cdiv(rows, FEW.rows) <= processors(device)
    return FEW if at_once and FEW.shared(experts) <= card_of(device).shared else MANY


def check_experts(experts: int, top_k: int) -> None:
    """Refuse numbers of experts that the kernel has no room for."""
    if not 0 < top_k <= min(MOST_CHOSEN, experts):
        raise InputError("top_k", top_k, f"routing chooses 1 to {min(MOST_CHOSEN, experts)} of {experts} experts")
    if experts > MOST_EXPERTS:
        raise InputError("n_expert", experts, f"the routing kernel takes up to {MOST_EXPERTS} experts")


@triton.jit
def _route(
    x_ptr, gate_ptr, bias_ptr, chosen_ptr, weights_ptr, T, C,
    E: tl.constexpr, TOP_K: tl.constexpr, SHARED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    EXPERTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Route ROWS rows in each program: scores [ROWS, EXPERTS], then TOP_K times the best that is left."""
    wait_for_inputs()
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    expert = tl.arange(0, EXPERTS)
    column = tl.arange(0, COLUMNS)
    x_ptr += row.to(tl.int64)[:, None] * C + column[None, :]
    gate_ptr += expert[:, None] * C + column[None, :]
    sums = tl.zeros((ROWS, EXPERTS), tl.float32)
    for first in range(0, C, COLUMNS):
        inside = (first + column < C)[None, :]
        x = tl.load(x_ptr + first, (row < T)[:, None] & inside, other=0.0)
        gate = tl.load(gate_ptr + first, (expert < E)[:, None] & inside, other=0.0)
        sums = tl.dot(x, gate.T, sums)
    scores = tl.sigmoid(sums)
    biased = scores + tl.load(bias_ptr + expert, expert < E, other=0.0)[None, :]
    biased = tl.where((expert < E)[None, :], biased, float("-inf"))

    slot = tl.arange(0, SLOTS)[None, :]
    chosen = E + slot - TOP_K + tl.zeros((ROWS, 1), tl.int32)  # [ROWS, SLOTS]: the shared experts, where none is chosen
    weights = tl.full((ROWS, SLOTS), 0.0, tl.float32)
    for k in tl.static_range(TOP_K):
        best = tl.argmax(biased, 1)[:, None]  # of equal ones the first
        is_best = expert[None, :] == best
        chosen = tl.where(slot == k, tl.minimum(best, E - 1), chosen)  # within bounds even where x is NaN
        weights = tl.where(slot == k, tl.sum(tl.where(is_best, scores, 0.0), 1)[:, None], weights)
        biased = tl.where(is_best, float("-inf"), biased)
    weights = tl.where(slot < TOP_K, weights / tl.sum(weights, 1)[:, None], 1.0)
    at = row.to(tl.int64)[:, None] * (TOP_K + SHARED) + slot
    inside = (row < T)[:, None] & (slot < TOP_K + SHARED)
    tl.store(chosen_ptr + at, chosen.to(tl.int64), inside)
    tl.store(weights_ptr + at, weights, inside)
