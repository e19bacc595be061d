# mypy: allow-untyped-defs
"""This is `prefill_attention` on Hopper, with its warps at different work (Gluon, Triton's lower level).

    q [T, H, 128], keys and values [R, G, 128] -> [T, C] in 16 bit, or by group

Four warps load; two times four compute 64 rows of a tile of 128 each, as in `cross_attention_hopper`. Tiles of keys and
of values lie in one ring, in the order in which they are read: the product that gives the next tile's scores is issued
before the one that spends the weights of the last.

Slots number a request's tiles of rows: request b's begin with slot queries[b] // 128 + b, which leaves room for all of
them, and a few empty. So a program finds the request of a slot by one count, and no table is needed.

Letters: T rows of q, R rows of the pool, B requests, H heads, G KV groups, C = H * 128.
"""

import triton
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

from octorec.kernels.cross_attention_hopper import load_masked
from octorec.kernels.device import processors
from octorec.kernels.gemm_hopper import boxes
from octorec.kernels.hopper import cast
from octorec.kernels.ops import Spans
from octorec.kernels.overlap import overlaps, wait_for_inputs

ROWS = gl.constexpr(128)  # of a tile of q
ITEMS = gl.constexpr(128)  # of a tile of the context; the bits of a result depend on it
SCALE = gl.constexpr(128**-0.5 * 1.4426950408889634)  # exp(x) = exp2(x * log2(e))
STAGES = gl.constexpr(4)  # tiles of keys or values that there is room for


def prefill_attention_hopper(
    q: Tensor, keys: Tensor, values: Tensor, spans: Spans, out: Tensor, scale: Tensor, quantize: bool
) -> None:
    """Write what `prefill_attention.prefill_attention`, which checks the operands, gives.

    out [T, C]: 16 bit; with `quantize` E4M3, and scale [T, H] is written too.
    """
    rows, heads, width = q.shape
    groups, batch = keys.shape[1], len(spans.lengths)
    assert width == 128
    slots = rows // 128 + batch + 1
    _prefill_attention_hopper[(min(slots * heads, processors(q.device)),)](
        q_desc=boxes(q.flatten(1), 64), keys_desc=boxes(keys.flatten(1), 128),
        values_desc=boxes(values.flatten(1), 128), out_desc=boxes(out, 64), keys_ptr=keys, values_ptr=values,
        out_ptr=out, scale_ptr=scale, queries_ptr=spans.queries, first_ptr=spans.first, lengths_ptr=spans.lengths,
        T=rows, B=batch, slots=slots,
        scale_row=scale.stride(0), scale_group=scale.stride(1), H=heads, G=groups, QUANTIZE=quantize,
        MOST=max(32, triton.next_power_of_2(batch + 1)), launch_pdl=overlaps(q.device, rows), num_warps=4,
    )  # fmt: skip


@gluon.jit(do_not_specialize=["T", "B", "slots", "scale_group"])
def _prefill_attention_hopper(
    q_desc, keys_desc, values_desc, out_desc, keys_ptr, values_ptr, out_ptr, scale_ptr, queries_ptr, first_ptr,
    lengths_ptr, T, B, slots, scale_row, scale_group,
    H: gl.constexpr, G: gl.constexpr, QUANTIZE: gl.constexpr, MOST: gl.constexpr,
):  # fmt: skip
    """Each program walks tiles of 128 rows of a request and a head.

    scale_row, scale_group: strides of the result's scales. full[s], empty[s]: stage s of the ring has landed, has been
    read. q_full[i], q_empty[i]: the same of the two places for a tile of q.
    """
    q_smem = gl.allocate_shared_memory(q_desc.dtype, [4, 64, 128], q_desc.layout)
    ring = gl.allocate_shared_memory(q_desc.dtype, [STAGES, ITEMS, 128], keys_desc.layout)
    out_smem = gl.allocate_shared_memory(out_desc.dtype, [2, 64, 128], out_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    q_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)
    for place in gl.static_range(2):
        mbarrier.init(q_full.index(place), count=1)
        mbarrier.init(q_empty.index(place), count=2)
    fence_async_shared()
    wait_for_inputs()
    spans = (queries_ptr, first_ptr, lengths_ptr, T, B)
    loaded = (q_desc, keys_desc, values_desc, keys_ptr, values_ptr, q_smem, ring, full, empty, q_full, q_empty)
    consumed = (
        out_desc, out_ptr, scale_ptr, q_smem, ring, out_smem, full, empty, q_full, q_empty, scale_row, scale_group,
    )  # fmt: skip
    gl.warp_specialize(
        [
            (_consume, (consumed, spans, slots, H, QUANTIZE, MOST, 0)),
            (_consume, (consumed, spans, slots, H, QUANTIZE, MOST, 1)),
            (_load, (loaded, spans, slots, H, G, MOST)),
        ],
        [4, 4],
        [224, 56],
    )


@gluon.jit
def _place(slot, spans, MOST: gl.constexpr):
    """Return of a slot: its first row and number of rows (0 where it is empty), the tokens of its context before that
    row, the row of the pool at which its context begins, and its length. Padding has length 0.

    The last rows of a request, which take longest, come first.
    """
    queries_ptr, first_ptr, lengths_ptr, T, B = spans
    each = gl.arange(0, MOST, layout=gl.BlockedLayout([1], [32], [4], [0]))
    start = gl.load(queries_ptr + each, each <= B, other=0).to(gl.int32) // ROWS + each
    request = gl.sum(((start <= slot) & (each <= B)).to(gl.int32), 0) - 1
    real = request < B
    begin = gl.load(queries_ptr + request).to(gl.int32)
    end = gl.where(real, gl.load(queries_ptr + gl.minimum(request + 1, B)).to(gl.int32), T)
    known = gl.minimum(request, B - 1)
    length = gl.where(real, gl.load(lengths_ptr + known).to(gl.int32), 0)
    first = gl.load(first_ptr + known).to(gl.int32)
    tiles = (end - begin + ROWS - 1) // ROWS
    within = tiles - 1 - (slot - begin // ROWS - request)
    row = begin + within * ROWS
    rows = gl.where(within < 0, 0, gl.minimum(end - row, ROWS))
    return row, rows, length - (end - row), first, length


@gluon.jit
def _load(loaded, spans, slots, H: gl.constexpr, G: gl.constexpr, MOST: gl.constexpr):
    """Keep the places for q filled, and the ring: keys 0, keys 1, values 0, keys 2, values 1, ..., the last values."""
    q_desc, keys_desc, values_desc, keys_ptr, values_ptr, q_smem, ring, full, empty, q_full, q_empty = loaded
    step = 0
    nth = 0  # of this program's tiles
    for tile in range(gl.program_id(0), slots * H, gl.num_programs(0)):
        head = tile % H
        row, rows, before, first, length = _place(tile // H, spans, MOST)
        if (rows > 0) & (length > 0):
            place = nth % 2
            mbarrier.wait(q_empty.index(place), ((nth // 2) & 1) ^ 1)
            mbarrier.expect(q_full.index(place), 2 * 64 * 128 * 2)
            for part in gl.static_range(2):
                tma.async_copy_global_to_shared(
                    q_desc, [row + 64 * part, head * 128], q_full.index(place), q_smem.index(place * 2 + part)
                )  # fmt: skip
            nth += 1
            group = head * G // H
            last = (before + rows - 1) // ITEMS * ITEMS
            _load_tile(keys_desc, keys_ptr, 0, first, length, group, ring, full, empty, step, G)
            step += 1
            for item in range(ITEMS, last + 1, ITEMS):
                _load_tile(keys_desc, keys_ptr, item, first, length, group, ring, full, empty, step, G)
                _load_tile(values_desc, values_ptr, item - ITEMS, first, length, group, ring, full, empty, step + 1, G)
                step += 2
            _load_tile(values_desc, values_ptr, last, first, length, group, ring, full, empty, step, G)
            step += 1


@gluon.jit
def _load_tile(desc, ptr, item, first, length, group, ring, full, empty, step, G: gl.constexpr):
    """Load items `item` to item + ITEMS - 1 of a context; what lies beyond its length may be anything in the pool."""
    stage = step % STAGES
    landed = full.index(stage)
    smem = ring.index(stage)
    mbarrier.wait(empty.index(stage), ((step // STAGES) & 1) ^ 1)
    if item + ITEMS <= length:
        mbarrier.expect(landed, ITEMS * 128 * 2)
        tma.async_copy_global_to_shared(desc, [first + item, group * 128], landed, smem)
    else:
        here = ptr + ((first + item).to(gl.int64) * G + group) * 128
        load_masked(here, length - item, smem, G * 128, ITEMS)
        mbarrier.arrive(landed)


@gluon.jit
def _consume(
    consumed, spans, slots, H: gl.constexpr, QUANTIZE: gl.constexpr, MOST: gl.constexpr, WHICH: gl.constexpr
):  # fmt: skip
    """Attend, and write rows 64 * WHICH to 64 * WHICH + 63 of each tile.

    scores [64, ITEMS] and sums [64, 128] are float32, weights [64, ITEMS] 16 bit in registers; top and total [64].
    """
    (
        out_desc, out_ptr, scale_ptr, q_smem, ring, out_smem, full, empty, q_full, q_empty, scale_row, scale_group,
    ) = consumed  # fmt: skip
    KIND: gl.constexpr = q_smem.dtype
    SUMS: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, 128, 16])
    WEIGHTS: gl.constexpr = gl.DotOperandLayout(0, SUMS, 2)
    at_row = gl.arange(0, 64, layout=gl.SliceLayout(1, SUMS))
    at_column = gl.arange(0, 128, layout=gl.SliceLayout(0, SUMS))
    out = out_smem.index(WHICH)
    barriers = (ring, full, empty)
    step = 0
    nth = 0
    for tile in range(gl.program_id(0), slots * H, gl.num_programs(0)):
        head = tile % H
        row, rows, before, _, length = _place(tile // H, spans, MOST)
        row += 64 * WHICH
        left = rows - 64 * WHICH  # rows that are this group's
        sums = gl.zeros([64, 128], gl.float32, layout=SUMS)
        if (rows > 0) & (length > 0):
            place = nth % 2
            seen = before + 1 + 64 * WHICH + at_row  # items that a row sees
            last = (before + rows - 1) // ITEMS * ITEMS
            whole = gl.minimum((before + 1 + 64 * WHICH) // ITEMS * ITEMS, last)  # before it all see all
            q = q_smem.index(place * 2 + WHICH)
            mbarrier.wait(q_full.index(place), (nth // 2) & 1)
            mbarrier.wait(full.index(step % STAGES), (step // STAGES) & 1)
            scores = _scores(q, barriers, step, SUMS)
            scores = warpgroup_mma_wait(0, [scores])
            mbarrier.arrive(empty.index(step % STAGES))
            scores = _masked(scores, seen, at_column)
            top = gl.max(scores, 1) * SCALE
            weights = gl.exp2(scores * SCALE - gl.expand_dims(top, 1))
            total = gl.sum(weights, 1)
            weights = gl.convert_layout(weights.to(KIND), WEIGHTS)
            step += 1
            mbarrier.wait(full.index(step % STAGES), (step // STAGES) & 1)
            state = (weights, top, total, sums)
            for item in range(ITEMS, last + 1, ITEMS):
                state = _step(q, barriers, step, state, seen, at_column, item, whole, SUMS, WEIGHTS)
                step += 2
            weights, top, total, sums = state
            mbarrier.arrive(q_empty.index(place))
            sums = warpgroup_mma(weights, ring.index(step % STAGES), sums, is_async=True)
            sums = warpgroup_mma_wait(0, [sums])
            mbarrier.arrive(empty.index(step % STAGES))
            step += 1
            nth += 1
            sums *= gl.expand_dims(1.0 / total, 1)
        if left > 0:
            inside = at_row < left
            if QUANTIZE:
                x, scale = cast(sums, KIND)
                scales = scale_ptr + row.to(gl.int64) * scale_row + head.to(gl.int64) * scale_group
                gl.store(scales + at_row * scale_row, scale, inside)
            else:
                x = sums.to(KIND)
            if left >= 64:
                tma.store_wait(0)  # the last tile has left `out`
                out.store(x)
                fence_async_shared()
                tma.async_copy_shared_to_global(out_desc, [row, head * 128], out)
            else:  # what follows is another request's
                here = out_ptr + (row.to(gl.int64) * H + head) * 128
                here = here + gl.expand_dims(at_row, 1) * (H * 128) + gl.expand_dims(at_column, 0)
                gl.store(here, x, gl.expand_dims(inside, 1).broadcast_to(x.shape))
    tma.store_wait(0)


@gluon.jit
def _scores(q, barriers, step, SUMS: gl.constexpr):
    """Start the product of q with the keys in the ring's `step`, which have landed."""
    ring, _, _ = barriers
    none = gl.zeros([64, ITEMS], gl.float32, layout=SUMS)
    return warpgroup_mma(q, ring.index(step % STAGES).permute((1, 0)), none, use_acc=False, is_async=True)


@gluon.jit
def _masked(scores, seen, item):
    inside = gl.expand_dims(item, 0) < gl.expand_dims(seen, 1)
    return gl.where(inside, scores, float("-inf"))


@gluon.jit
def _step(
    q, barriers, step, state, seen, at_column, item, whole, SUMS: gl.constexpr,
    WEIGHTS: gl.constexpr,
):  # fmt: skip
    """Take the keys of `step`, which have landed, into the softmax, and the values of step + 1, those of the tile
    before, into the sums; wait for what lands next.
    """
    ring, full, empty = barriers
    weights, top, total, sums = state
    values = (step + 1) % STAGES
    scores = _scores(q, barriers, step, SUMS)
    mbarrier.wait(full.index(values), ((step + 1) // STAGES) & 1)
    sums = warpgroup_mma(weights, ring.index(values), sums, is_async=True)
    scores = warpgroup_mma_wait(1, [scores])
    mbarrier.arrive(empty.index(step % STAGES))
    if item >= whole:
        scores = _masked(scores, seen - item, at_column)
    higher = gl.maximum(top, gl.max(scores, 1) * SCALE)
    following = gl.exp2(scores * SCALE - gl.expand_dims(higher, 1))
    shrink = gl.exp2(top - higher)
    total = total * shrink + gl.sum(following, 1)
    following = gl.convert_layout(following.to(q.dtype), WEIGHTS)
    # Between softmax and product: ptxas moves arithmetic beyond the wait for a product, but not beyond this.
    mbarrier.wait(full.index((step + 2) % STAGES), ((step + 2) // STAGES) & 1)
    sums = warpgroup_mma_wait(0, [sums])
    mbarrier.arrive(empty.index(values))
    sums *= gl.expand_dims(shrink, 1)
    return following, higher, total, sums
