# mypy: allow-untyped-defs
"""This is `gemm` for FP8 on Hopper, with its warps at different work (Gluon, Triton's lower level).

    x [P, K] by groups, weight [E, N, K] by blocks -> product [P, N] in 16 bit, or silu(gate) * up [P, N / 2]
    x [P, K] by token, weight [E, N, K] by channel -> product [P, N] in 16 bit

`gemm`'s own kernel has all warps wait for each other: while they scale and add the sums of 128 of K, and while they
finish a tile, the tensor cores stand idle. Here one warp loads, and two times four compute 64 rows each, at their own
pace: one's scaling runs under the other's products. Where the last 64 rows of a tile are none, nobody loads or computes
them. The arithmetic is the same to the bit. By groups, tensor cores sum 128 of K, which are scaled and added in
float32; by rows, they sum all of K. In one order, whatever the neighbours.

Letters: P slots or rows, E experts, N and K of a weight, G = ceil(K / 128) groups a row and steps of a sum.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from octorec.kernels.cast import empty_quantized
from octorec.kernels.device import processors
from octorec.kernels.fp8 import GROUP, Quantized
from octorec.kernels.hopper import cast, rounded
from octorec.kernels.ops import Operand
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.products import Fusion

if TYPE_CHECKING:
    from octorec.kernels.plan import ExpertPlan

ROWS = 128  # of a tile
BAND = gl.constexpr(16)  # row tiles that are walked column by column, so that they stay in L2


def gemm_hopper(
    x: Quantized, weight: Quantized, plan: "ExpertPlan | None", fusion: Fusion, residual: Tensor | None = None
) -> Operand:
    """Compute `gemm.gemm`, which checks the operands: x by `group` and weight by `block`; or, without SwiGLU, by
    `token` and `channel`.
    """
    rows, (n, k) = len(x.values), weight.values.shape[-2:]
    swiglu, quantize = fusion in ("swiglu", "swiglu_cast"), fusion == "swiglu_cast"
    width = n // 2 if swiglu else n
    groups = x.granularity == "group"
    assert groups or not swiglu
    x_scale = _m_major(x.scale) if groups else x.scale
    assert plan is None or plan.block_m == ROWS
    result: Operand
    if quantize:
        result = empty_quantized((rows, width), "group", x.dtype, x.values.device)
        out, out_scale = result.values, result.scale
        assert out_scale.stride(1) == x_scale.stride(1)
    else:
        result = out = torch.empty(rows, width, dtype=x.dtype, device=x.values.device)
        out_scale = x_scale  # nobody writes it
    down, units = -(-rows // ROWS), processors(x.values.device)
    few = 2 * down * -(-width // 128) <= units  # half as wide, they still run all at once
    columns = 64 if few and not groups else 128
    tiles = down * -(-width // columns)
    _gemm_hopper[(min(tiles, units),)](
        x_desc=boxes(x.values, 64), weight_desc=boxes(weight.values.view(-1, k), columns),
        out_desc=boxes(out, 64, columns), residual_desc=boxes(out if residual is None else residual, 64, columns),
        x_scale_desc=_scale_boxes(x_scale), x_scale_ptr=x_scale, weight_scale_ptr=weight.scale,
        out_scale_ptr=out_scale, tile_expert_ptr=x.values if plan is None else plan.tile_expert,
        tile_rows_ptr=x.values if plan is None else plan.tile_rows,
        n_tiles_ptr=x.values if plan is None else plan.n_tiles, rows=rows, scale_group=x_scale.stride(1),
        N=n, K=k, KIND=getattr(gl, str(x.dtype).removeprefix("torch.")),
        PLANNED=plan is not None, SWIGLU=swiglu, QUANTIZE=quantize, GROUPS=groups, ADD=residual is not None,
        COLUMNS=columns, STAGES=4 if swiglu or (groups and residual is not None) else 5,
        launch_pdl=overlaps(x.values.device, rows), num_warps=4,
    )  # fmt: skip
    return result


def boxes(matrix: Tensor, rows: int, columns: int = 128) -> TensorDescriptor:
    """Describe a matrix for the tensor memory accelerator, in boxes of rows x columns, swizzled as the
    tensor cores read it.
    """
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=matrix.element_size() * 8, rank=2)
    return TensorDescriptor.from_tensor(matrix, [rows, columns], layout)


def _m_major(scale: Tensor) -> Tensor:
    """Return scales of groups [P, G] as `empty_quantized` lays them out, which the kernels' own are already."""
    if scale.stride(0) == 1 and scale.stride(1) % 4 == 0:
        return scale
    return empty_quantized((len(scale), scale.shape[1] * GROUP), "group", torch.bfloat16, scale.device).scale.copy_(
        scale
    )


def _scale_boxes(scale: Tensor) -> TensorDescriptor:
    """Describe the scales of groups [P, G], M-major, as one line: in boxes of 64 rows of a group."""
    line = scale.as_strided((scale.shape[1] * scale.stride(1),), (1,))
    return TensorDescriptor.from_tensor(line, [64], gl.NVMMASharedLayout(0, 32, rank=1))


@gluon.jit
def _gemm_hopper(
    x_desc, weight_desc, out_desc, residual_desc, x_scale_desc, x_scale_ptr, weight_scale_ptr, out_scale_ptr,
    tile_expert_ptr, tile_rows_ptr, n_tiles_ptr, rows, scale_group,
    N: gl.constexpr, K: gl.constexpr, KIND: gl.constexpr, PLANNED: gl.constexpr, SWIGLU: gl.constexpr,
    QUANTIZE: gl.constexpr, GROUPS: gl.constexpr, ADD: gl.constexpr, COLUMNS: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Each program walks tiles of 128 rows and COLUMNS of the result; a ring of STAGES holds steps of 128 of K.

    scale_group: stride of the scales [P, G] of x and of the result. full[s]: stage s has landed. empty[s]: both
    consumers have read it. added: a consumer's part of the residual has landed. With SWIGLU a step holds as many
    rows of gate as of up.
    """
    HALVES: gl.constexpr = 2 if SWIGLU else 1
    WIDTH: gl.constexpr = N // HALVES
    x_smem = gl.allocate_shared_memory(x_desc.dtype, [2 * STAGES, 64, 128], x_desc.layout)
    weight_smem = gl.allocate_shared_memory(weight_desc.dtype, [HALVES * STAGES, COLUMNS, 128], weight_desc.layout)
    x_scale_smem = gl.allocate_shared_memory(gl.float32, [2 * STAGES, 64], x_scale_desc.layout)
    out_smem = gl.allocate_shared_memory(out_desc.dtype, [2, 64, COLUMNS], out_desc.layout)
    residual_smem = out_smem
    if ADD:
        residual_smem = gl.allocate_shared_memory(out_desc.dtype, [2, 64, COLUMNS], out_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    added = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for half in gl.static_range(2):
        mbarrier.init(added.index(half), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)
    fence_async_shared()
    wait_for_inputs()
    down = gl.load(n_tiles_ptr) if PLANNED else (rows + 127) // 128
    gl.warp_specialize(
        [
            (_consume, (
                out_desc, residual_desc, x_smem, weight_smem, x_scale_smem, residual_smem, out_smem, full, empty, added,
                x_scale_ptr, weight_scale_ptr, out_scale_ptr, tile_expert_ptr, tile_rows_ptr, rows, down, scale_group,
                N, K, WIDTH, KIND, PLANNED, SWIGLU, QUANTIZE, GROUPS, ADD, COLUMNS, STAGES, 0,
            )),
            (_consume, (
                out_desc, residual_desc, x_smem, weight_smem, x_scale_smem, residual_smem, out_smem, full, empty, added,
                x_scale_ptr, weight_scale_ptr, out_scale_ptr, tile_expert_ptr, tile_rows_ptr, rows, down, scale_group,
                N, K, WIDTH, KIND, PLANNED, SWIGLU, QUANTIZE, GROUPS, ADD, COLUMNS, STAGES, 1,
            )),
            (_load, (
                x_desc, weight_desc, x_scale_desc, x_smem, weight_smem, x_scale_smem, full, empty,
                tile_expert_ptr, tile_rows_ptr, rows, down, scale_group, N, K, WIDTH, PLANNED, SWIGLU, GROUPS, COLUMNS,
                STAGES,
            )),
        ],
        [4, 1],
        [224, 56],
    )  # fmt: skip


@gluon.jit
def place(tile, down, across):
    """Return (row tile, column tile) of a tile number: BAND row tiles at a time, column by column."""
    band = tile // (BAND * across)
    height = gl.minimum(down - band * BAND, BAND)
    within = tile - band * BAND * across
    return band * BAND + within % height, within // height


@gluon.jit
def _load(
    x_desc, weight_desc, x_scale_desc, x_smem, weight_smem, x_scale_smem, full, empty,
    tile_expert_ptr, tile_rows_ptr, rows, down, scale_group,
    N: gl.constexpr, K: gl.constexpr, WIDTH: gl.constexpr, PLANNED: gl.constexpr, SWIGLU: gl.constexpr,
    GROUPS: gl.constexpr, COLUMNS: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Keep the ring filled. A step is 128 rows of x with their scales, and COLUMNS of the weight, or of gate and up."""
    HALVES: gl.constexpr = 2 if SWIGLU else 1
    X_BYTES: gl.constexpr = 64 * 128 + (64 * 4 if GROUPS else 0)  # of a half
    WEIGHT_BYTES: gl.constexpr = COLUMNS * HALVES * 128
    ACROSS: gl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    step = 0
    for tile in range(gl.program_id(0), down * ACROSS, gl.num_programs(0)):
        row_tile, column_tile = place(tile, down, ACROSS)
        weight_row = column_tile * COLUMNS
        height = gl.load(tile_rows_ptr + row_tile) if PLANNED else rows - row_tile * 128
        if PLANNED:
            weight_row += gl.load(tile_expert_ptr + row_tile) * N
        for k in range(0, K, 128):
            stage = step % STAGES
            landed = full.index(stage)
            mbarrier.wait(empty.index(stage), ((step // STAGES) & 1) ^ 1)
            mbarrier.expect(landed, WEIGHT_BYTES + 2 * X_BYTES, pred=height > 64)
            mbarrier.expect(landed, WEIGHT_BYTES + X_BYTES, pred=height <= 64)
            scale = (k // 128) * scale_group + row_tile * 128
            for half in gl.static_range(2):
                row = row_tile * 128 + 64 * half
                part = x_smem.index(2 * stage + half)
                tma.async_copy_global_to_shared(x_desc, [row, k], landed, part, pred=height > 64 * half)
                if GROUPS:
                    part = x_scale_smem.index(2 * stage + half)
                    start = [scale + 64 * half]
                    tma.async_copy_global_to_shared(x_scale_desc, start, landed, part, pred=height > 64 * half)
            for half in gl.static_range(HALVES):
                part = weight_smem.index(HALVES * stage + half)
                tma.async_copy_global_to_shared(weight_desc, [weight_row + WIDTH * half, k], landed, part)
            step += 1


@gluon.jit
def _consume(
    out_desc, residual_desc, x_smem, weight_smem, x_scale_smem, residual_smem, out_smem, full, empty, added,
    x_scale_ptr, weight_scale_ptr, out_scale_ptr, tile_expert_ptr, tile_rows_ptr, rows, down, scale_group,
    N: gl.constexpr, K: gl.constexpr, WIDTH: gl.constexpr, KIND: gl.constexpr, PLANNED: gl.constexpr,
    SWIGLU: gl.constexpr, QUANTIZE: gl.constexpr, GROUPS: gl.constexpr, ADD: gl.constexpr, COLUMNS: gl.constexpr,
    STAGES: gl.constexpr, WHICH: gl.constexpr,
):  # fmt: skip
    """Multiply, scale, add and write rows 64 * WHICH to 64 * WHICH + 63 of each tile.

    left, right: float32 [64, COLUMNS]: the product, or gate and up.
    """
    ACROSS: gl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    STEPS: gl.constexpr = (K + 127) // 128  # and scales a block row
    SUMS: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, COLUMNS, 32])
    row = gl.arange(0, 64, layout=gl.SliceLayout(1, SUMS))
    none = gl.zeros([64, COLUMNS], gl.float32, layout=SUMS)
    out = out_smem.index(WHICH)
    residual = residual_smem.index(WHICH)
    landed = added.index(WHICH)
    ring = (x_smem, weight_smem, x_scale_smem, full, empty)
    step = 0
    turn = 0
    for tile in range(gl.program_id(0), down * ACROSS, gl.num_programs(0)):
        row_tile, column_tile = place(tile, down, ACROSS)
        first_row = row_tile * 128 + WHICH * 64
        height = 128  # a tile has a first row
        if WHICH == 1:
            height = gl.load(tile_rows_ptr + row_tile) if PLANNED else rows - row_tile * 128
        if height > 64:
            inside = row < (64 if PLANNED else rows - first_row)
            expert = gl.load(tile_expert_ptr + row_tile) if PLANNED else 0
            left_ptr = weight_scale_ptr + (expert * ((N + 127) // 128) + column_tile) * STEPS
            right_ptr = left_ptr + (WIDTH // 128) * STEPS
            if ADD:
                mbarrier.expect(landed, 64 * COLUMNS * 2)
                tma.async_copy_global_to_shared(residual_desc, [first_row, column_tile * COLUMNS], landed, residual)
            if not GROUPS:
                column = column_tile * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, SUMS))
                x_scale = gl.load(x_scale_ptr + first_row + row, inside, other=0.0)
                weight_scale = gl.load(weight_scale_ptr + expert * N + column, column < N, other=0.0)
            if SWIGLU:
                left, right = _sum_gate_and_up(ring, left_ptr, right_ptr, step, none, SUMS, STEPS, STAGES, WHICH)
            elif GROUPS:
                left = _sum_groups(ring, left_ptr, step, none, SUMS, STEPS, STAGES, WHICH)
            else:
                left = sum_rows(ring, step, none, STEPS, STAGES, WHICH)
                left *= gl.expand_dims(x_scale, 1) * gl.expand_dims(weight_scale, 0)
            if ADD:
                mbarrier.wait(landed, turn & 1)
                left += residual.load(SUMS).to(gl.float32)
                turn += 1
            if SWIGLU:
                left = _silu(rounded(left, KIND)) * rounded(right, KIND)
            if QUANTIZE:
                hidden, scale = cast(left, KIND)
                scale_ptr = out_scale_ptr + column_tile.to(gl.int64) * scale_group + first_row
                gl.store(scale_ptr + row, scale, inside)
            else:
                hidden = left.to(KIND)
            tma.store_wait(0)  # the last tile has left `out`
            out.store(hidden)
            fence_async_shared()
            tma.async_copy_shared_to_global(out_desc, [first_row, column_tile * COLUMNS], out)
        else:
            for k in range(step, step + STEPS):
                _wait(ring, k, STAGES)
                _release(ring, k, STAGES)
        step += STEPS
    tma.store_wait(0)


@gluon.jit
def sum_rows(ring, step, none, STEPS: gl.constexpr, STAGES: gl.constexpr, WHICH: gl.constexpr):
    """Sum x times weight on the tensor cores: a step's product is under way when the last one's is waited for."""
    left = none
    for k in range(STEPS):
        _wait(ring, step + k, STAGES)
        part = _multiply(ring, step + k, left, True, 0, 1, STAGES, WHICH)
        left = warpgroup_mma_wait(1, [part])
        _release(ring, step + k + STAGES - 1, STAGES, k > 0)
    left = warpgroup_mma_wait(0, [left])
    _release(ring, step + STEPS - 1, STAGES)
    return left


@gluon.jit
def _sum_groups(
    ring, scale_ptr, step, none,
    SUMS: gl.constexpr, STEPS: gl.constexpr, STAGES: gl.constexpr, WHICH: gl.constexpr,
):  # fmt: skip
    """Sum x times weight by groups, two steps at a time: one is scaled while the other's products run."""
    left = none
    for k in range(0, STEPS - 1, 2):
        first, first_scale = _start(ring, scale_ptr + k, step + k, none, SUMS, STAGES, WHICH)
        second, second_scale = _start(ring, scale_ptr + k + 1, step + k + 1, none, SUMS, STAGES, WHICH)
        first = warpgroup_mma_wait(1, [first])
        _release(ring, step + k, STAGES)
        left = _add(first, first_scale, left)
        second = warpgroup_mma_wait(0, [second])
        _release(ring, step + k + 1, STAGES)
        left = _add(second, second_scale, left)
    if STEPS % 2:
        first, first_scale = _start(ring, scale_ptr + STEPS - 1, step + STEPS - 1, none, SUMS, STAGES, WHICH)
        first = warpgroup_mma_wait(0, [first])
        _release(ring, step + STEPS - 1, STAGES)
        left = _add(first, first_scale, left)
    return left


@gluon.jit
def _start(ring, scale_ptr, step, none, SUMS: gl.constexpr, STAGES: gl.constexpr, WHICH: gl.constexpr):
    """Start a step's product; return it, and what scales it."""
    _wait(ring, step, STAGES)
    part = _multiply(ring, step, none, False, 0, 1, STAGES, WHICH)
    return part, _x_scale(ring, step, SUMS, STAGES, WHICH) * gl.load(scale_ptr)


@gluon.jit
def _sum_gate_and_up(
    ring, gate_ptr, up_ptr, step, none,
    SUMS: gl.constexpr, STEPS: gl.constexpr, STAGES: gl.constexpr, WHICH: gl.constexpr,
):  # fmt: skip
    """Sum x times gate and x times up by groups: registers hold no more than one product beside both sums."""
    gate = none
    up = none
    for k in range(STEPS):
        _wait(ring, step + k, STAGES)
        part = _multiply(ring, step + k, none, False, 0, 2, STAGES, WHICH)
        x_scale = _x_scale(ring, step + k, SUMS, STAGES, WHICH)
        gate_scale = gl.load(gate_ptr + k)  # arrives while the products run
        up_scale = gl.load(up_ptr + k)
        part = warpgroup_mma_wait(0, [part])
        gate = _add(part, x_scale * gate_scale, gate)
        part = _multiply(ring, step + k, none, False, 1, 2, STAGES, WHICH)
        part = warpgroup_mma_wait(0, [part])
        up = _add(part, x_scale * up_scale, up)
        _release(ring, step + k, STAGES)
    return gate, up


@gluon.jit
def _wait(ring, step, STAGES: gl.constexpr):
    _, _, _, full, _ = ring
    mbarrier.wait(full.index(step % STAGES), (step // STAGES) & 1)


@gluon.jit
def _release(ring, step, STAGES: gl.constexpr, pred=True):
    _, _, _, _, empty = ring
    mbarrier.arrive(empty.index(step % STAGES), pred=pred)


@gluon.jit
def _multiply(
    ring, step, sums, ADD: gl.constexpr,
    HALF: gl.constexpr, HALVES: gl.constexpr, STAGES: gl.constexpr, WHICH: gl.constexpr,
):  # fmt: skip
    """Start the product of a step that has landed, added to `sums` or not."""
    x_smem, weight_smem, _, _, _ = ring
    stage = step % STAGES
    weight = weight_smem.index(HALVES * stage + HALF).permute((1, 0))
    return warpgroup_mma(x_smem.index(2 * stage + WHICH), weight, sums, use_acc=ADD, is_async=True)


@gluon.jit
def _x_scale(ring, step, SUMS: gl.constexpr, STAGES: gl.constexpr, WHICH: gl.constexpr):
    """Return the scales of a step's 64 rows."""
    _, _, x_scale_smem, _, _ = ring
    return x_scale_smem.index(2 * (step % STAGES) + WHICH).load(gl.SliceLayout(1, SUMS))


@gluon.jit
def _add(part, scale, sums):
    """Return sums + part * scale, a scale a row."""
    return gl.fma(part, gl.expand_dims(scale, 1).broadcast_to(sums.shape), sums)


@gluon.jit
def _silu(x):
    """Return `swiglu.silu`, without its division's care for divisors above 2^126: beyond them it is 0."""
    beneath = 1.0 + gl.exp2(x * -1.4426950408889634)  # log2(e)
    return x * gl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=f,f", [beneath], gl.float32, is_pure=True, pack=1
    )
