# mypy: allow-untyped-defs
"""This is `cross_attention` on Hopper where keys are values, with its warps at different work (Gluon, Triton's lower
level).

    q [B, W, H, 128], context [B, S, G, 128], lengths [B] -> [B*W, C] in 16 bit, or by group

Four warps load; four for each 64 beams compute. Each item of the context comes into shared memory once, and serves
both products there: transposed the first, as it lies the second, whose other operand, the weights, stays in registers.
The product that gives the next tile's scores is issued before the one that spends the weights of the last, so that the
softmax of one tile runs under a product, and those of one group of warps under the products of the other.

The last tile of a context comes first: it alone is masked.

Letters: B requests, W beams, S context items, H heads, G KV groups, C = H * 128.
"""

import torch
import triton
import triton.language as tl
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
from octorec.kernels.hopper import cast
from octorec.kernels.overlap import overlaps, wait_for_inputs

WIDTH = 128  # of a head
ITEMS = 128  # of a tile of the context; the bits of a result depend on it
STAGES = 4  # tiles of the context that there is room for; a consumer holds two while it waits for the next


def cross_attention_hopper(
    q: Tensor, context: Tensor, lengths: Tensor, out: Tensor, scale: Tensor, quantize: bool
) -> None:
    """Write what `cross_attention.cross_attention`, which checks the operands, gives for `context` as keys and values.

    out [B*W, C]: 16 bit; with `quantize` E4M3, and scale [B*W, H] is written too.
    """
    batch, beams, heads, width = q.shape
    items, groups = context.shape[1:3]
    assert width == WIDTH
    consumers = _consumers(batch, beams, heads, q.device)
    tiles = batch * heads * triton.cdiv(beams, 64 * consumers)
    _cross_attention_hopper[(min(tiles, processors(q.device)),)](
        q_desc=_boxes(q.flatten(2), 64), context_desc=_boxes(context.flatten(2), ITEMS),
        out_desc=_boxes(out.view(batch, beams, heads * WIDTH), 64), context_ptr=context, lengths_ptr=lengths,
        scale_ptr=scale, tiles=tiles, W=beams, S=items, softmax_scale=WIDTH**-0.5 * 1.4426950408889634,
        scale_row=scale.stride(0), scale_group=scale.stride(1), H=heads, G=groups,
        QUANTIZE=quantize, ITEMS=ITEMS, STAGES=STAGES, CONSUMERS=consumers,
        launch_pdl=overlaps(q.device, batch * beams), num_warps=4,
    )  # fmt: skip


def _consumers(batch: int, beams: int, heads: int, device: torch.device) -> int:
    """Return 1, with tiles of 64 beams, where these all run at once; else 2, with tiles of 128."""
    small = batch * heads * triton.cdiv(beams, 64) <= processors(device)
    return 1 if small or beams <= 64 else 2


def _boxes(tensor: Tensor, rows: int) -> TensorDescriptor:
    """Describe [B, rows, columns] for the tensor memory accelerator, which reads zeros beyond the rows
    and writes none there.
    """
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=tensor.element_size() * 8, rank=3)
    return TensorDescriptor.from_tensor(tensor, [1, rows, WIDTH], layout)


@gluon.jit(do_not_specialize=["tiles", "W", "S", "scale_group"])
def _cross_attention_hopper(
    q_desc, context_desc, out_desc, context_ptr, lengths_ptr, scale_ptr, tiles, W, S, softmax_scale,
    scale_row, scale_group,
    H: gl.constexpr, G: gl.constexpr, QUANTIZE: gl.constexpr, ITEMS: gl.constexpr, STAGES: gl.constexpr,
    CONSUMERS: gl.constexpr,
):  # fmt: skip
    """Each program walks tiles of 64 * CONSUMERS beams of a request and a head.

    scale_row, scale_group: strides of the result's scales. full[s], empty[s]: stage s of the context has landed, has
    been read. q_full[i], q_empty[i]: the same of the two places for a tile of q.
    """
    q_smem = gl.allocate_shared_memory(q_desc.dtype, [2 * CONSUMERS, 1, 64, 128], q_desc.layout)
    context_smem = gl.allocate_shared_memory(q_desc.dtype, [STAGES, 1, ITEMS, 128], context_desc.layout)
    out_smem = gl.allocate_shared_memory(out_desc.dtype, [CONSUMERS, 1, 64, 128], out_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    q_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=CONSUMERS)
    for place in gl.static_range(2):
        mbarrier.init(q_full.index(place), count=1)
        mbarrier.init(q_empty.index(place), count=CONSUMERS)
    fence_async_shared()
    wait_for_inputs()
    loaded = (
        q_desc, context_desc, context_ptr, lengths_ptr, q_smem, context_smem, full, empty, q_full, q_empty,
        tiles, W, S,
    )  # fmt: skip
    consumed = (
        out_desc, lengths_ptr, scale_ptr, q_smem, context_smem, out_smem, full, empty, q_full, q_empty,
        tiles, W, softmax_scale, scale_row, scale_group,
    )  # fmt: skip
    if CONSUMERS == 1:
        gl.warp_specialize(
            [
                (_consume, (consumed, H, QUANTIZE, ITEMS, STAGES, CONSUMERS, 0)),
                (_load, (loaded, H, G, ITEMS, STAGES, CONSUMERS)),
            ],
            [4],
            [56],
        )
    else:
        gl.warp_specialize(
            [
                (_consume, (consumed, H, QUANTIZE, ITEMS, STAGES, CONSUMERS, 0)),
                (_consume, (consumed, H, QUANTIZE, ITEMS, STAGES, CONSUMERS, 1)),
                (_load, (loaded, H, G, ITEMS, STAGES, CONSUMERS)),
            ],
            [4, 4],
            [224, 56],
        )


@gluon.jit
def _place(tile, W, H: gl.constexpr, CONSUMERS: gl.constexpr):
    """Return (request, head, first beam) of a tile number: a request's tiles run together, so that its
    context stays in L2.
    """
    down = (W + 64 * CONSUMERS - 1) // (64 * CONSUMERS)
    column = tile // down
    return column // H, column % H, tile % down * (64 * CONSUMERS)


@gluon.jit
def _load(loaded, H: gl.constexpr, G: gl.constexpr, ITEMS: gl.constexpr, STAGES: gl.constexpr, CONSUMERS: gl.constexpr):
    """Keep the places for q and the ring of context tiles filled."""
    (
        q_desc, context_desc, context_ptr, lengths_ptr, q_smem, context_smem, full, empty, q_full, q_empty,
        tiles, W, S,
    ) = loaded  # fmt: skip
    step = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        request, head, beam = _place(tile, W, H, CONSUMERS)
        group = head * G // H
        length = gl.load(lengths_ptr + request).to(gl.int32)
        last = (length - 1) // ITEMS * ITEMS
        nth = tile // gl.num_programs(0)  # of this program's tiles
        place = nth % 2
        mbarrier.wait(q_empty.index(place), ((nth // 2) & 1) ^ 1)
        mbarrier.expect(q_full.index(place), CONSUMERS * 64 * 128 * 2)
        for part in gl.static_range(CONSUMERS):
            tma.async_copy_global_to_shared(
                q_desc, [request, beam + 64 * part, head * 128], q_full.index(place),
                q_smem.index(place * CONSUMERS + part),
            )  # fmt: skip
        for first in range(-ITEMS, last, ITEMS):
            stage = step % STAGES
            landed = full.index(stage)
            tile_smem = context_smem.index(stage)
            mbarrier.wait(empty.index(stage), ((step // STAGES) & 1) ^ 1)
            if (first >= 0) | (length % ITEMS == 0) | (length == S):
                mbarrier.expect(landed, ITEMS * 128 * 2)
                item = gl.where(first < 0, last, first)
                tma.async_copy_global_to_shared(context_desc, [request, item, group * 128], landed, tile_smem)
            else:  # what lies beyond the length may be anything
                here = context_ptr + ((request.to(gl.int64) * S + last) * G + group) * 128
                load_masked(here, length - last, tile_smem.reshape([ITEMS, 128]), G * 128, ITEMS)
                mbarrier.arrive(landed)
            step += 1


@gluon.jit
def load_masked(ptr, count, smem, STRIDE: gl.constexpr, ITEMS: gl.constexpr):
    """Write `count` rows of 128, STRIDE apart, to smem [ITEMS, 128], and zeros to the others."""
    LAYOUT: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])
    item = gl.expand_dims(gl.arange(0, 32, layout=gl.SliceLayout(1, LAYOUT)), 1)
    at = item * STRIDE + gl.expand_dims(gl.arange(0, 128, layout=gl.SliceLayout(0, LAYOUT)), 0)
    for first in gl.static_range(0, ITEMS, 32):
        rows = gl.load(ptr + first * STRIDE + at, (item < count - first).broadcast_to(at.shape), other=0.0)
        smem.slice(first, 32).store(rows)
    fence_async_shared()
    tl.debug_barrier()  # all have written


@gluon.jit
def _consume(
    consumed, H: gl.constexpr, QUANTIZE: gl.constexpr, ITEMS: gl.constexpr, STAGES: gl.constexpr,
    CONSUMERS: gl.constexpr, WHICH: gl.constexpr,
):  # fmt: skip
    """Attend, and write beams 64 * WHICH to 64 * WHICH + 63 of each tile.

    scores [64, ITEMS] and sums [64, 128] are float32, weights [64, ITEMS] 16 bit in registers; top and total [64].
    """
    (
        out_desc, lengths_ptr, scale_ptr, q_smem, context_smem, out_smem, full, empty, q_full, q_empty,
        tiles, W, softmax_scale, scale_row, scale_group,
    ) = consumed  # fmt: skip
    KIND: gl.constexpr = q_smem.dtype
    SCORES: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, ITEMS, 16])
    SUMS: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, 128, 16])
    WEIGHTS: gl.constexpr = gl.DotOperandLayout(0, SUMS, 2)
    ROW: gl.constexpr = gl.SliceLayout(1, SUMS)
    item = gl.arange(0, ITEMS, layout=gl.SliceLayout(0, SCORES))
    row = gl.arange(0, 64, layout=ROW)
    no_scores = gl.zeros([64, ITEMS], gl.float32, layout=SCORES)
    out = out_smem.index(WHICH)
    step = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        request, head, beam = _place(tile, W, H, CONSUMERS)
        beam += 64 * WHICH
        length = gl.load(lengths_ptr + request).to(gl.int32)
        last = (length - 1) // ITEMS * ITEMS
        nth = tile // gl.num_programs(0)  # of this program's tiles
        place = nth % 2
        q = q_smem.index(place * CONSUMERS + WHICH).reshape([64, 128])
        mbarrier.wait(q_full.index(place), (nth // 2) & 1)
        tile_smem = context_smem.index(step % STAGES).reshape([ITEMS, 128])
        mbarrier.wait(full.index(step % STAGES), (step // STAGES) & 1)
        scores = warpgroup_mma(q, tile_smem.permute((1, 0)), no_scores, use_acc=False, is_async=True)
        scores = warpgroup_mma_wait(0, [scores])
        inside = gl.expand_dims(item < length - last, 0).broadcast_to(scores.shape)
        scores = gl.where(inside, scores, float("-inf"))
        top = gl.max(scores, 1) * softmax_scale
        weights = gl.exp2(scores * softmax_scale - gl.expand_dims(top, 1))
        total = gl.sum(weights, 1)
        weights = gl.convert_layout(weights.to(KIND), WEIGHTS)
        sums = gl.zeros([64, 128], gl.float32, layout=SUMS)
        mbarrier.wait(full.index((step + 1) % STAGES), ((step + 1) // STAGES) & 1, pred=last > 0)
        for first in range(0, last, ITEMS):
            step += 1
            before = (step + STAGES - 1) % STAGES
            tile_smem = context_smem.index(step % STAGES).reshape([ITEMS, 128])
            values = context_smem.index(before).reshape([ITEMS, 128])
            scores = warpgroup_mma(q, tile_smem.permute((1, 0)), no_scores, use_acc=False, is_async=True)
            sums = warpgroup_mma(weights, values, sums, is_async=True)
            scores = warpgroup_mma_wait(1, [scores])
            higher = gl.maximum(top, gl.max(scores, 1) * softmax_scale)
            following = gl.exp2(scores * softmax_scale - gl.expand_dims(higher, 1))
            shrink = gl.exp2(top - higher)
            total = total * shrink + gl.sum(following, 1)
            top = higher
            following = gl.convert_layout(following.to(KIND), WEIGHTS)
            # Between softmax and product: ptxas moves arithmetic beyond the wait for a product, but not beyond this.
            more = first + ITEMS < last
            mbarrier.wait(full.index((step + 1) % STAGES), ((step + 1) // STAGES) & 1, pred=more)
            sums = warpgroup_mma_wait(0, [sums])
            mbarrier.arrive(empty.index(before))
            sums *= gl.expand_dims(gl.convert_layout(shrink, ROW), 1)
            weights = following
        mbarrier.arrive(q_empty.index(place))
        values = context_smem.index(step % STAGES).reshape([ITEMS, 128])
        sums = warpgroup_mma_wait(0, [warpgroup_mma(weights, values, sums, is_async=True)])
        mbarrier.arrive(empty.index(step % STAGES))
        step += 1
        sums *= gl.expand_dims(1.0 / gl.convert_layout(total, ROW), 1)
        if QUANTIZE:
            x, scale = cast(sums, KIND)
            at = scale_ptr + (request * W + beam) * scale_row + head.to(gl.int64) * scale_group
            gl.store(at + row * scale_row, scale, row < W - beam)
        else:
            x = sums.to(KIND)
        tma.store_wait(0)  # the last tile has left `out`
        out.reshape([64, 128]).store(x)
        fence_async_shared()
        tma.async_copy_shared_to_global(out_desc, [request, beam, head * 128], out)
    tma.store_wait(0)
