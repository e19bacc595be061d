# mypy: allow-untyped-defs
"""This is `log_norm`'s product on Hopper, with its warps at different work (Gluon, Triton's lower level).

    x [T, K], weight [V, K] in 16 bit -> parts [tiles of the vocabulary, T]: the log-sum-exp of each tile's logits

One warp loads, and two times four compute 64 rows of a tile each, at their own pace, as in `gemm_hopper`: one's
exponentials run under the other's products.

Letters: T rows, V tokens, K model width.
"""

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma

from octorec.kernels.device import processors
from octorec.kernels.gemm_hopper import boxes, place, sum_rows
from octorec.kernels.overlap import overlaps, wait_for_inputs

COLUMNS = gl.constexpr(256)  # tokens of a tile
DEPTH = gl.constexpr(64)  # values of K a step
STAGES = gl.constexpr(4)  # steps in flight


def log_norm_hopper(x: Tensor, weight: Tensor, parts: Tensor) -> None:
    """Write parts [ceil(V / 256), T] float32 of x [T, K] and weight [V, K], which `log_norm.log_norm` checks."""
    rows, (vocabulary, k) = len(x), weight.shape
    tiles = -(-rows // 128) * len(parts)
    _log_norm_hopper[(min(tiles, processors(x.device)),)](
        x_desc=boxes(x, 64, 64), weight_desc=boxes(weight, 256, 64), parts_ptr=parts, rows=rows,
        vocabulary=vocabulary, K=k, EVEN=vocabulary % 256 == 0, launch_pdl=overlaps(x.device, rows), num_warps=4,
    )  # fmt: skip


@gluon.jit(do_not_specialize=["rows", "vocabulary"])
def _log_norm_hopper(x_desc, weight_desc, parts_ptr, rows, vocabulary, K: gl.constexpr, EVEN: gl.constexpr):
    """Each program walks tiles of 128 rows and 256 tokens; a ring of STAGES holds steps of 64 of K.

    full[s]: stage s has landed. empty[s]: both consumers have read it.
    """
    x_smem = gl.allocate_shared_memory(x_desc.dtype, [2 * STAGES, 64, DEPTH], x_desc.layout)
    weight_smem = gl.allocate_shared_memory(weight_desc.dtype, [STAGES, COLUMNS, DEPTH], weight_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)
    fence_async_shared()
    wait_for_inputs()
    ring = (x_smem, weight_smem, x_smem, full, empty)  # no scales
    gl.warp_specialize(
        [
            (_consume, (ring, parts_ptr, rows, vocabulary, K, EVEN, 0)),
            (_consume, (ring, parts_ptr, rows, vocabulary, K, EVEN, 1)),
            (_load, (x_desc, weight_desc, ring, rows, vocabulary, K)),
        ],
        [4, 1],
        [224, 56],
    )


@gluon.jit
def _load(x_desc, weight_desc, ring, rows, vocabulary, K: gl.constexpr):
    """Keep the ring filled. A step is 128 rows of x, zeros beyond the last, and 256 of the weight."""
    x_smem, weight_smem, _, full, empty = ring
    down = (rows + 127) // 128
    across = (vocabulary + COLUMNS - 1) // COLUMNS
    step = 0
    for tile in range(gl.program_id(0), down * across, gl.num_programs(0)):
        row_tile, column_tile = place(tile, down, across)
        for k in range(0, K, DEPTH):
            stage = step % STAGES
            landed = full.index(stage)
            mbarrier.wait(empty.index(stage), ((step // STAGES) & 1) ^ 1)
            mbarrier.expect(landed, (128 + COLUMNS) * DEPTH * 2)
            for half in gl.static_range(2):
                row = row_tile * 128 + 64 * half
                tma.async_copy_global_to_shared(x_desc, [row, k], landed, x_smem.index(2 * stage + half))
            tma.async_copy_global_to_shared(weight_desc, [column_tile * COLUMNS, k], landed, weight_smem.index(stage))
            step += 1


@gluon.jit
def _consume(ring, parts_ptr, rows, vocabulary, K: gl.constexpr, EVEN: gl.constexpr, WHICH: gl.constexpr):
    """Multiply, and write the log-sum-exp of rows 64 * WHICH to 64 * WHICH + 63 of each tile."""
    STEPS: gl.constexpr = (K + DEPTH - 1) // DEPTH
    SUMS: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, COLUMNS, 16])
    row = gl.arange(0, 64, layout=gl.SliceLayout(1, SUMS))
    token = gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, SUMS))
    none = gl.zeros([64, COLUMNS], gl.float32, layout=SUMS)
    down = (rows + 127) // 128
    across = (vocabulary + COLUMNS - 1) // COLUMNS
    step = 0
    for tile in range(gl.program_id(0), down * across, gl.num_programs(0)):
        row_tile, column_tile = place(tile, down, across)
        logits = sum_rows(ring, step, none, STEPS, STAGES, WHICH)
        step += STEPS
        if not EVEN:
            inside = gl.expand_dims(token < vocabulary - column_tile * COLUMNS, 0).broadcast_to(logits.shape)
            logits = gl.where(inside, logits, float("-inf"))
        largest = gl.max(logits, 1) * 1.4426950408889634  # exp(x) = exp2(x * log2(e))
        total = gl.sum(gl.exp2(logits * 1.4426950408889634 - gl.expand_dims(largest, 1)), 1)
        part = (largest + gl.log2(total)) * 0.6931471805599453
        at = row_tile * 128 + 64 * WHICH + row
        gl.store(parts_ptr + column_tile.to(gl.int64) * rows + at, part, at < rows)
