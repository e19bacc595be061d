# mypy: allow-untyped-defs
"""`gemm_hopper`'s products with a tile to each consumer, so that one's epilogue runs under the other's products.

    x [P, K] by token, weight [N, K] by channel -> product [P, N] in 16 bit
    x [P, K] by groups, weight [E, N, K] by blocks -> product [P, N] in 16 bit

`gemm_hopper`'s consumers share a tile and end it together: K = 1408 is 11 steps, and then the tensor cores stand idle
while both scale, add and write. Here each has a tile of its own. The arithmetic is the same to the bit.

By rows, the consumers take turns: one issues all products of its tile, then the other; hence one ring, filled tile
after tile. By groups, a consumer scales the sums of each step, which leaves gaps for the other to fill; nobody waits
for a turn, and each has a ring and a loader of its own.

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

from octorec.kernels.device import processors
from octorec.kernels.gemm_hopper import _boxes, _m_major, _place
from octorec.kernels.quantized import Quantized

if TYPE_CHECKING:
    from octorec.kernels.plan import ExpertPlan

RING = 160 * 1024  # bytes; two tiles of the result are the rest of the shared memory


def gemm_by_rows(
    x: Quantized, weight: Quantized, residual: Tensor | None = None, tile: tuple[int, int] = (128, 128)
) -> Tensor:
    """x [P, K] by token, weight [N, K] by channel -> [P, N] in x's type, with residual [P, N] added before rounding.

    tile: rows and columns of a consumer's; 64 x 256 too fits its registers, but reads a quarter more of the operands.
    """
    rows, (n, k), (tile_rows, columns) = len(x.values), weight.values.shape, tile
    out = torch.empty(rows, n, dtype=x.dtype, device=x.values.device)
    tiles = -(-rows // tile_rows) * -(-n // columns)
    _gemm_by_rows[(min(tiles, processors(x.values.device)),)](
        _boxes(x.values, tile_rows), _boxes(weight.values, columns), _tiles(out, tile),
        _tiles(out if residual is None else residual, tile), x.scale, weight.scale, rows, N=n, K=k,
        KIND=getattr(gl, str(x.dtype).removeprefix("torch.")), ROWS=tile_rows, COLUMNS=columns,
        ADD=residual is not None, STAGES=RING // (128 * (tile_rows + columns)), num_warps=4,
    )  # fmt: skip
    return out


def gemm_by_groups(x: Quantized, weight: Quantized, plan: "ExpertPlan | None" = None) -> Tensor:
    """x [P, K] by groups, weight [N, K] or, with a plan of 128 slots a tile, [E, N, K] by blocks -> [P, N]."""
    rows, (n, k) = len(x.values), weight.values.shape[-2:]
    assert plan is None or plan.block_m == 128
    x_scale = _m_major(x.scale)
    out = torch.empty(rows, n, dtype=x.dtype, device=x.values.device)
    tiles = -(-rows // 128) * -(-n // 128)
    _gemm_by_groups[(min(tiles, processors(x.values.device)),)](
        _boxes(x.values, 64), _boxes(weight.values.view(-1, k), 128), _boxes(out, 64), x_scale, weight.scale,
        x.values if plan is None else plan.tile_expert, x.values if plan is None else plan.n_tiles,
        rows, x_scale.stride(1), N=n, K=k, KIND=getattr(gl, str(x.dtype).removeprefix("torch.")),
        PLANNED=plan is not None, STAGES=3, num_warps=4,
    )  # fmt: skip
    return out


def _tiles(matrix: Tensor, tile: tuple[int, int]) -> TensorDescriptor:
    """The result, or what is added to it, in boxes of a tile."""
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    return TensorDescriptor.from_tensor(matrix, list(tile), layout)


@gluon.jit(do_not_specialize=["rows"])
def _gemm_by_rows(
    x_desc, weight_desc, out_desc, residual_desc, x_scale_ptr, weight_scale_ptr, rows,
    N: gl.constexpr, K: gl.constexpr, KIND: gl.constexpr, ROWS: gl.constexpr, COLUMNS: gl.constexpr,
    ADD: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Each program walks tiles of ROWS x COLUMNS, its consumers every other one; a stage holds 128 of K of one tile.

    full[s]: stage s has landed. empty[s]: its consumer has read it. turn[c]: consumer c may issue its products.
    added[c]: the residual of its tile has landed, where the result will be.
    """
    x_smem = gl.allocate_shared_memory(x_desc.dtype, [STAGES, ROWS, 128], x_desc.layout)
    weight_smem = gl.allocate_shared_memory(weight_desc.dtype, [STAGES, COLUMNS, 128], weight_desc.layout)
    out_smem = gl.allocate_shared_memory(out_desc.dtype, [2, ROWS, COLUMNS], out_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    turn = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    added = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for which in gl.static_range(2):
        mbarrier.init(turn.index(which), count=1)
        mbarrier.init(added.index(which), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=1)
    fence_async_shared()
    down = (rows + ROWS - 1) // ROWS
    gl.warp_specialize(
        [
            (_consume_rows, (
                out_desc, residual_desc, x_smem, weight_smem, out_smem, full, empty, turn, added,
                x_scale_ptr, weight_scale_ptr, rows, down, N, K, KIND, ROWS, COLUMNS, ADD, STAGES, 0,
            )),
            (_consume_rows, (
                out_desc, residual_desc, x_smem, weight_smem, out_smem, full, empty, turn, added,
                x_scale_ptr, weight_scale_ptr, rows, down, N, K, KIND, ROWS, COLUMNS, ADD, STAGES, 1,
            )),
            (_load_rows, (
                x_desc, weight_desc, x_smem, weight_smem, full, empty, down, N, K, ROWS, COLUMNS, STAGES,
            )),
        ],
        [4, 4],
        [240, 24],
    )  # fmt: skip


@gluon.jit
def _load_rows(
    x_desc, weight_desc, x_smem, weight_smem, full, empty, down,
    N: gl.constexpr, K: gl.constexpr, ROWS: gl.constexpr, COLUMNS: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Keep the ring filled, tile after tile."""
    ACROSS: gl.constexpr = (N + COLUMNS - 1) // COLUMNS
    step = 0
    for tile in range(gl.program_id(0), down * ACROSS, gl.num_programs(0)):
        row_tile, column_tile = _place(tile, down, ACROSS)
        for k in range(0, K, 128):
            stage = step % STAGES
            landed = full.index(stage)
            mbarrier.wait(empty.index(stage), ((step // STAGES) & 1) ^ 1)
            mbarrier.expect(landed, (ROWS + COLUMNS) * 128)
            tma.async_copy_global_to_shared(x_desc, [row_tile * ROWS, k], landed, x_smem.index(stage))
            tma.async_copy_global_to_shared(weight_desc, [column_tile * COLUMNS, k], landed, weight_smem.index(stage))
            step += 1


@gluon.jit
def _consume_rows(
    out_desc, residual_desc, x_smem, weight_smem, out_smem, full, empty, turn, added,
    x_scale_ptr, weight_scale_ptr, rows, down,
    N: gl.constexpr, K: gl.constexpr, KIND: gl.constexpr, ROWS: gl.constexpr, COLUMNS: gl.constexpr,
    ADD: gl.constexpr, STAGES: gl.constexpr, WHICH: gl.constexpr,
):  # fmt: skip
    """Multiply the program's tiles WHICH, WHICH + 2, ... when it is the turn; scale, add and write out of turn."""
    ACROSS: gl.constexpr = (N + COLUMNS - 1) // COLUMNS
    STEPS: gl.constexpr = (K + 127) // 128
    SUMS: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, COLUMNS, 32])
    within = gl.arange(0, ROWS, layout=gl.SliceLayout(1, SUMS))
    across = gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, SUMS))
    none = gl.zeros([ROWS, COLUMNS], gl.float32, layout=SUMS)
    out = out_smem.index(WHICH)
    programs = gl.num_programs(0)
    step = WHICH * STEPS  # of the ring
    for tile in range(gl.program_id(0) + WHICH * programs, down * ACROSS, 2 * programs):
        parity = (step // (2 * STEPS)) & 1  # of the consumer's tiles
        row_tile, column_tile = _place(tile, down, ACROSS)
        first_row = row_tile * ROWS
        first_column = column_tile * COLUMNS
        if ADD:
            tma.store_wait(0)  # the last tile has left `out`
            mbarrier.expect(added.index(WHICH), ROWS * COLUMNS * 2)
            tma.async_copy_global_to_shared(residual_desc, [first_row, first_column], added.index(WHICH), out)
        x_scale = gl.load(x_scale_ptr + first_row + within, within < rows - first_row, other=0.0)
        weight_scale = gl.load(weight_scale_ptr + first_column + across, across < N - first_column, other=0.0)
        sums = none
        mbarrier.wait(turn.index(WHICH), parity ^ (1 - WHICH))  # the first is consumer 0's
        for k in range(STEPS):
            stage = step % STAGES
            mbarrier.wait(full.index(stage), (step // STAGES) & 1)
            products = warpgroup_mma(x_smem.index(stage), weight_smem.index(stage).permute((1, 0)), sums, is_async=True)
            sums = warpgroup_mma_wait(1, [products])  # the next step's are under way when this one's are waited for
            mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), pred=k > 0)
            step += 1
        mbarrier.arrive(turn.index(1 - WHICH))
        sums = warpgroup_mma_wait(0, [sums])
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES))
        step += STEPS  # the other's tile
        sums *= gl.expand_dims(x_scale, 1) * gl.expand_dims(weight_scale, 0)
        if ADD:
            mbarrier.wait(added.index(WHICH), parity)
            sums += out.load(SUMS).to(gl.float32)
        else:
            tma.store_wait(0)  # the last tile has left `out`
        out.store(sums.to(KIND))
        fence_async_shared()
        tma.async_copy_shared_to_global(out_desc, [first_row, first_column], out)
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["rows"])
def _gemm_by_groups(
    x_desc, weight_desc, out_desc, x_scale_ptr, weight_scale_ptr, tile_expert_ptr, n_tiles_ptr, rows, scale_group,
    N: gl.constexpr, K: gl.constexpr, KIND: gl.constexpr, PLANNED: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Each program walks tiles of 128 x 128, its consumers every other one; each has a ring of STAGES of its own.

    scale_group: stride of the scales [P, G] of x. full[c * STAGES + s]: stage s of consumer c has landed. empty: it has
    been read.
    """
    x_smem = gl.allocate_shared_memory(x_desc.dtype, [4 * STAGES, 64, 128], x_desc.layout)
    weight_smem = gl.allocate_shared_memory(weight_desc.dtype, [2 * STAGES, 128, 128], weight_desc.layout)
    out_smem = gl.allocate_shared_memory(out_desc.dtype, [2, 64, 128], out_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [2 * STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [2 * STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(2 * STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=1)
    fence_async_shared()
    down = gl.load(n_tiles_ptr) if PLANNED else (rows + 127) // 128
    gl.warp_specialize(
        [
            (_consume_groups, (
                out_desc, x_smem, weight_smem, out_smem, full, empty, x_scale_ptr, weight_scale_ptr, tile_expert_ptr,
                rows, down, scale_group, N, K, KIND, PLANNED, STAGES, 0,
            )),
            (_consume_groups, (
                out_desc, x_smem, weight_smem, out_smem, full, empty, x_scale_ptr, weight_scale_ptr, tile_expert_ptr,
                rows, down, scale_group, N, K, KIND, PLANNED, STAGES, 1,
            )),
            (_load_groups, (
                x_desc, weight_desc, x_smem, weight_smem, full, empty, tile_expert_ptr, down, N, K, PLANNED, STAGES, 0,
            )),
            (_load_groups, (
                x_desc, weight_desc, x_smem, weight_smem, full, empty, tile_expert_ptr, down, N, K, PLANNED, STAGES, 1,
            )),
        ],
        [4, 1, 1],
        [240, 24, 24],
    )  # fmt: skip


@gluon.jit
def _load_groups(
    x_desc, weight_desc, x_smem, weight_smem, full, empty, tile_expert_ptr, down,
    N: gl.constexpr, K: gl.constexpr, PLANNED: gl.constexpr, STAGES: gl.constexpr, WHICH: gl.constexpr,
):  # fmt: skip
    """Keep the ring of consumer WHICH filled."""
    ACROSS: gl.constexpr = (N + 127) // 128
    programs = gl.num_programs(0)
    step = 0
    for tile in range(gl.program_id(0) + WHICH * programs, down * ACROSS, 2 * programs):
        row_tile, column_tile = _place(tile, down, ACROSS)
        weight_row = column_tile * 128
        if PLANNED:
            weight_row += gl.load(tile_expert_ptr + row_tile) * N
        for k in range(0, K, 128):
            stage = WHICH * STAGES + step % STAGES
            landed = full.index(stage)
            mbarrier.wait(empty.index(stage), ((step // STAGES) & 1) ^ 1)
            mbarrier.expect(landed, 256 * 128)
            for half in gl.static_range(2):
                part = x_smem.index(2 * stage + half)
                tma.async_copy_global_to_shared(x_desc, [row_tile * 128 + 64 * half, k], landed, part)
            tma.async_copy_global_to_shared(weight_desc, [weight_row, k], landed, weight_smem.index(stage))
            step += 1


@gluon.jit
def _consume_groups(
    out_desc, x_smem, weight_smem, out_smem, full, empty, x_scale_ptr, weight_scale_ptr, tile_expert_ptr,
    rows, down, scale_group,
    N: gl.constexpr, K: gl.constexpr, KIND: gl.constexpr, PLANNED: gl.constexpr, STAGES: gl.constexpr,
    WHICH: gl.constexpr,
):  # fmt: skip
    """Multiply, scale and write the program's tiles WHICH, WHICH + 2, ..., in halves of 64 rows."""
    ACROSS: gl.constexpr = (N + 127) // 128
    STEPS: gl.constexpr = (K + 127) // 128  # and scales a block row
    SUMS: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, 128, 32])
    row = gl.arange(0, 64, layout=gl.SliceLayout(1, SUMS))
    none = gl.zeros([64, 128], gl.float32, layout=SUMS)
    out = out_smem.index(WHICH)
    programs = gl.num_programs(0)
    step = 0
    for tile in range(gl.program_id(0) + WHICH * programs, down * ACROSS, 2 * programs):
        row_tile, column_tile = _place(tile, down, ACROSS)
        first_row = row_tile * 128
        inside = 128 if PLANNED else rows - first_row
        expert = gl.load(tile_expert_ptr + row_tile) if PLANNED else 0
        block_ptr = weight_scale_ptr + (expert * ACROSS + column_tile) * STEPS
        scale_ptr = x_scale_ptr + first_row + row
        upper = none
        lower = none
        for k in range(STEPS):
            stage = WHICH * STAGES + step % STAGES
            block = gl.load(block_ptr + k)  # these arrive while the products run
            upper_scale = gl.load(scale_ptr + k * scale_group, row < inside, other=0.0)
            lower_scale = gl.load(scale_ptr + k * scale_group + 64, row + 64 < inside, other=0.0)
            mbarrier.wait(full.index(stage), (step // STAGES) & 1)
            weight = weight_smem.index(stage).permute((1, 0))
            part = warpgroup_mma(x_smem.index(2 * stage), weight, none, use_acc=False, is_async=True)
            part = warpgroup_mma_wait(0, [part])
            scale = gl.expand_dims(upper_scale * block, 1)
            upper = gl.fma(part, scale.broadcast_to(upper.shape), upper)
            upper = warpgroup_mma_wait(0, [upper])  # for the compilers: there are registers for one part only
            mbarrier.wait(full.index(stage), (step // STAGES) & 1)
            part = warpgroup_mma(x_smem.index(2 * stage + 1), weight, none, use_acc=False, is_async=True)
            part = warpgroup_mma_wait(0, [part])
            mbarrier.arrive(empty.index(stage))
            scale = gl.expand_dims(lower_scale * block, 1)
            lower = gl.fma(part, scale.broadcast_to(lower.shape), lower)
            step += 1
        tma.store_wait(0)  # the last tile has left `out`
        out.store(upper.to(KIND))
        fence_async_shared()
        tma.async_copy_shared_to_global(out_desc, [first_row, column_tile * 128], out)
        lower_rounded = lower.to(KIND)
        tma.store_wait(0)
        out.store(lower_rounded)
        fence_async_shared()
        tma.async_copy_shared_to_global(out_desc, [first_row + 64, column_tile * 128], out)
    tma.store_wait(0)
