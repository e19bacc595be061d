# mypy: allow-untyped-defs
"""A mixture of experts quantizes rows into their experts' slots, computes two grouped products, and sums by weights.

    x [T, C] -> slots [P, C] -> silu(gate) * up [P, F] -> parts [P, C] -> sum over a row's R experts [T, C]

Each row is read and quantized once and written R times; between the products the hidden rows are quantized as they
leave the tensor cores. No sum is atomic: a row adds its parts in the order of the experts' numbers.

Letters: T rows, R experts a row, E experts, P slots (`plan`), C model width, F expert width, G groups a row.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.cast import empty_quantized
from octorec.kernels.device import card_of
from octorec.kernels.fp8 import GROUP, Granularity, Quantized
from octorec.kernels.gemm import gemm
from octorec.kernels.maybe_quantize import quantize
from octorec.kernels.ops import Operand, Routing
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.plan import ExpertPlan, plan_experts
from octorec.kernels.rows import load_tiles, quantize_tiles, row_tiles, store_tiles, write_quantized
from octorec.kernels.swiglu import swiglu


def moe(
    x: Tensor,
    routing: Routing,
    gate_up: Operand,
    down: Operand,
    quantize_to: Granularity | None,
    into: Tensor | None = None,
) -> Tensor:
    """Compute `Ops.moe`: x and `into` [T, C] in 16 bit, gate_up [E, 2F, C], down [E, C, F] -> [T, C].

    Experts are in 16 bit with quantize_to None; or FP8 by `block` with `group`, or by `channel` with `token`.
    """
    n_expert, width, _ = (gate_up.values if isinstance(gate_up, Quantized) else gate_up).shape
    plan = plan_experts(routing.experts, n_expert, card_of(x.device).tile.rows)
    hidden = _hidden(dispatch(x, plan, quantize_to), gate_up, plan, width // 2)
    parts = gemm(hidden, down, plan)
    assert isinstance(parts, Tensor)
    return combine(parts, plan, routing.weights, into)


def _hidden(slots: Operand, gate_up: Operand, plan: ExpertPlan, width: int) -> Operand:
    """Return swiglu(gate_up(slots)) [P, F], quantized as `slots` is."""
    if not isinstance(slots, Quantized):
        return gemm(slots, gate_up, plan, "swiglu")
    if slots.granularity == "group" and width % GROUP == 0:
        return gemm(slots, gate_up, plan, "swiglu_cast")
    if slots.granularity == "group":  # gate and up share scale blocks
        gate_and_up = gemm(slots, gate_up, plan)
        assert isinstance(gate_and_up, Tensor)
        return swiglu(gate_and_up, "group")
    hidden = gemm(slots, gate_up, plan, "swiglu")
    assert isinstance(hidden, Tensor)
    return quantize(hidden, slots.granularity)


def dispatch(x: Tensor, plan: ExpertPlan, quantize_to: Granularity | None) -> Operand:
    """Copy each row of contiguous x [T, C] into its R slots [P, C], quantized by `token` or `group` or not at all.

    Slots without a row stay unwritten.
    """
    rows, width = x.shape
    assert x.is_contiguous()
    slots: Operand
    if quantize_to is None:
        slots = out = scale = torch.empty(plan.slots, width, dtype=x.dtype, device=x.device)
    else:
        slots = empty_quantized((plan.slots, width), quantize_to, x.dtype, x.device)
        out, scale = slots.values, slots.scale
    tiles, groups, warps = row_tiles(width)
    _dispatch[(rows,)](
        x, plan.slot_of, out, scale, *scale.stride(), R=plan.slot_of.shape[1], WIDTH=width, TILES=tiles, GROUPS=groups,
        QUANTIZE=quantize_to is not None, PER_GROUP=quantize_to == "group",
        launch_pdl=overlaps(x.device, rows), num_warps=warps,
    )  # fmt: skip
    return slots


def combine(parts: Tensor, plan: ExpertPlan, weights: Tensor, residual: Tensor | None = None) -> Tensor:
    """Return the sum over r of weights[t, r] * parts[slot_of[t, r]], in float32 and in the order of the
    slots, and the residual.

    parts [P, C] in 16 bit, weights [T, R] float32, residual contiguous [T, C] -> [T, C], both in parts' type.
    """
    (rows, per_row), width = weights.shape, parts.shape[1]
    assert parts.is_contiguous()
    assert weights.is_contiguous()
    assert residual is None or (residual.is_contiguous() and residual.dtype == parts.dtype)
    out = torch.empty(rows, width, dtype=parts.dtype, device=parts.device)
    tiles, groups, warps = row_tiles(width)
    _combine[(rows,)](
        parts, plan.slot_of, weights, parts if residual is None else residual, out,
        R=per_row, SLOTS=triton.next_power_of_2(per_row), WIDTH=width, TILES=tiles, GROUPS=groups,
        ADD=residual is not None, launch_pdl=overlaps(parts.device, rows), num_warps=warps,
        enable_fp_fusion=False,  # products rounded before they are added, as the reference does
    )  # fmt: skip
    return out


@triton.jit
def _dispatch(
    x_ptr, slot_of_ptr, out_ptr, scale_ptr, scale_row, scale_group,
    R: tl.constexpr, WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr,
    QUANTIZE: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """Copy one row into its slots in each program."""
    wait_for_inputs()
    row = tl.program_id(0).to(tl.int64)
    x = load_tiles(x_ptr + row * WIDTH, WIDTH, TILES, GROUPS)
    if QUANTIZE:
        values, scales = quantize_tiles(x, TILES, PER_GROUP)
    for r in tl.static_range(R):
        slot = tl.load(slot_of_ptr + row * R + r).to(tl.int64)
        slot_ptr = out_ptr + slot * WIDTH
        if QUANTIZE:
            at = scale_ptr + slot * scale_row
            write_quantized(values, scales, slot_ptr, at, scale_group, WIDTH, TILES, GROUPS, PER_GROUP)
        else:
            store_tiles(x, slot_ptr, WIDTH, TILES, GROUPS)


@triton.jit
def _combine(
    parts_ptr, slot_of_ptr, weights_ptr, residual_ptr, out_ptr,
    R: tl.constexpr, SLOTS: tl.constexpr, WIDTH: tl.constexpr, TILES: tl.constexpr, GROUPS: tl.constexpr,
    ADD: tl.constexpr,
):  # fmt: skip
    """Sum one row, held as tiles, in each program."""
    wait_for_inputs()
    row = tl.program_id(0).to(tl.int64)
    r = tl.arange(0, SLOTS)
    slots = tl.load(slot_of_ptr + row * R + r, r < R, other=2**31 - 1)
    weights = tl.load(weights_ptr + row * R + r, r < R, other=0.0)
    totals = ()
    for _ in tl.static_range(TILES):
        totals += (tl.zeros((GROUPS, 128), tl.float32),)  # type: ignore[assignment]
    for _ in tl.static_range(R):
        slot = tl.min(slots, 0)
        weight = tl.sum(tl.where(slots == slot, weights, 0.0), 0)
        slots = tl.where(slots == slot, 2**31 - 1, slots)
        part = load_tiles(parts_ptr + slot.to(tl.int64) * WIDTH, WIDTH, TILES, GROUPS)
        totals = _add(totals, part, weight, TILES)
    if ADD:
        residual = load_tiles(residual_ptr + row * WIDTH, WIDTH, TILES, GROUPS)
        totals = _add(totals, residual, 1.0, TILES)
    store_tiles(totals, out_ptr + row * WIDTH, WIDTH, TILES, GROUPS)


@triton.jit
def _add(totals, tiles, weight, TILES: tl.constexpr):
    """Return totals + tiles * weight, tile by tile."""
    added = ()
    for t in tl.static_range(TILES):
        added += (totals[t] + tiles[t] * weight,)  # type: ignore[assignment]
    return added
