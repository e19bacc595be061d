# mypy: allow-untyped-defs
"""Linear layers and experts need this matrix product: x [P, K] times weights [E, N, K] transposed, float32 sums.

One persistent kernel on tensor descriptors (the tensor memory accelerator of Hopper). What is compiled in:

| what | choices |
| --- | --- |
| scales | `none`: 16-bit operands. `rows`: one a row of x and one a row of a weight, on the finished sum. `groups`: one for 128 values of x and for 128 x 128 of a weight, on the sum of each 128 of K |
| experts | one weight for all rows, or one for each tile of rows (`plan.ExpertPlan`), read on the device |
| result | the product in 16 bit [P, N]; or silu(gate) * up [P, F] for weights whose N = 2F rows are [gate, up], in 16 bit or quantized by group |

FP8 tensor cores keep about 14 bits of mantissa in a running sum. With `float32` sums they sum 128 values of K, and those
sums are added in float32, as group scales do anyway; with `fast` ones the tensor cores sum all of K.

Where the table of `products` says so, `gemm_hopper` gives the same bits sooner, unless a tile is asked for.

An element's result depends neither on its tile nor on its neighbours: K is walked in one order and never split.
"""  # noqa: E501 (a table)

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels.cast import empty_quantized, to_e4m3
from octorec.kernels.device import card_of, check_fp8, processors
from octorec.kernels.fp8 import GROUP, Quantized, values_of
from octorec.kernels.ops import Operand
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.products import Accumulate, Card, Fusion, Problem, Scales, Tile, product_for
from octorec.kernels.swiglu import silu

if TYPE_CHECKING:
    from octorec.kernels.plan import ExpertPlan

PAIRS: dict[str, tuple[str, Scales]] = {"channel": ("token", "rows"), "block": ("group", "groups")}  # by the weight's


def gemm(
    x: Operand,
    weight: Operand,
    plan: "ExpertPlan | None" = None,
    fusion: Fusion = "none",
    sums: Accumulate = "float32",
    residual: Tensor | None = None,
    tile: Tile | None = None,
) -> Operand:
    """Multiply x [P, K] by weight [N, K] -> [P, N] in x's type; with a `plan`, x lies in its slots and
    weight is [E, N, K].

    x and weight: both 16 bit; or token and channel scales; or group and block scales. `swiglu`: -> [P, N / 2];
    `swiglu_cast`: by group, which takes N a multiple of 256. `residual` [P, N], in x's type, comes with the fusion of
    its name, and is added before the result is rounded. All contiguous, but for a group's scales, which lie M-major.
    K: a multiple of 16 in FP8 and of 8 in 16 bit. The slots that hold no row come back undefined.
    """
    check_pair(x, weight)
    values, weights, scales = values_of(x), values_of(weight), scales_of(weight)
    x_scale, weight_scale, kind = (
        (x.scale, weight.scale, x.dtype)
        if isinstance(x, Quantized) and isinstance(weight, Quantized)
        else (values, weights, values.dtype)  # tensors in the place of scales that nobody reads
    )
    rows, (n, k) = len(values), weights.shape[-2:]
    swiglu = fusion in ("swiglu", "swiglu_cast")
    width = n // 2 if swiglu else n
    card = card_of(values.device)
    by = "triton" if tile else product_for(card, Problem(scales, n, k, fusion, sums, plan is not None), but="torch")
    tile = tile or tile_for(card, scales)
    _check(values, weights, width, scales, fusion, tile)
    assert (residual is not None) == (fusion == "residual")
    assert residual is None or (residual.is_contiguous() and residual.shape == (rows, width))
    assert plan is None or (rows == plan.slots and plan.block_m % tile.rows == 0)
    if by == "hopper":
        from octorec.kernels.gemm_hopper import gemm_hopper

        assert isinstance(x, Quantized)
        assert isinstance(weight, Quantized)
        return gemm_hopper(x, weight, plan, fusion, residual)
    if residual is not None:
        tile = replace(tile, stages=tile.stages - 1)  # leaves room for the residual's tile
    result: Operand
    if fusion == "swiglu_cast":
        result = empty_quantized((rows, width), "group", kind, values.device)
        out, out_scale = result.values, result.scale
    else:
        result = out = out_scale = torch.empty(rows, width, dtype=kind, device=values.device)
    triton.set_allocator(scratch)
    span = tile.columns * (1 if swiglu else tile.halves)
    tiles = triton.cdiv(rows, tile.rows) * triton.cdiv(width, span)
    _gemm[(min(tiles, processors(values.device) * tile.resident),)](
        x_ptr=values, x_scale_ptr=x_scale, weight_ptr=weights, weight_scale_ptr=weight_scale,
        residual_ptr=out if residual is None else residual, out_ptr=out, out_scale_ptr=out_scale,
        tile_expert_ptr=values if plan is None else plan.tile_expert,
        n_tiles_ptr=values if plan is None else plan.n_tiles, rows=rows, weight_rows=weights.numel() // k,
        x_scale_row=x_scale.stride(0), x_scale_group=x_scale.stride(1), out_scale_group=out_scale.stride(1),
        N=n, K=k, KIND=getattr(tl, str(kind).removeprefix("torch.")), SCALES=scales,
        SPLIT=0 if plan is None else plan.block_m // tile.rows, SWIGLU=swiglu, QUANTIZE=fusion == "swiglu_cast",
        PROMOTE=sums == "float32" and scales == "rows", ADD=residual is not None, ROWS=tile.rows,
        COLUMNS=tile.columns, HALVES=tile.halves, DEPTH=tile.depth, BAND=tile.band,
        launch_pdl=overlaps(values.device, rows), num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return result


def tile_for(card: Card, scales: Scales) -> Tile:
    """Return the card's tile. 16-bit operands have half the depth, so that a tile keeps its size in shared memory."""
    return replace(card.tile, depth=card.tile.depth // 2) if scales == "none" else card.tile


def scales_of(weight: Operand) -> Scales:
    """Tell which kind of scales a weight has."""
    return PAIRS.get(weight.granularity, ("", "none"))[1] if isinstance(weight, Quantized) else "none"


def check_pair(x: Operand, weight: Operand) -> None:
    """Refuse operands that do not go together, and FP8 where there are no tensor cores for it."""
    if isinstance(x, Quantized) and isinstance(weight, Quantized):
        check_fp8(x.values.device)
        pair = (x.granularity, weight.granularity)
        if PAIRS.get(weight.granularity, ("", ""))[0] != x.granularity:
            allowed = "FP8 products take ('token', 'channel') or ('group', 'block') scales"
            raise InputError("granularities of input and weight", pair, allowed)
        kind = x.dtype
    elif isinstance(x, Quantized) or isinstance(weight, Quantized):
        raise InputError("operands", (type(x).__name__, type(weight).__name__), "both in FP8, or both in 16 bit")
    else:
        assert x.dtype == weight.dtype
        kind = x.dtype
    if kind not in (torch.bfloat16, torch.float16):
        raise InputError("dtype", kind, "the kernels compute in bfloat16 or float16")


def _check(x: Tensor, weight: Tensor, width: int, scales: Scales, fusion: Fusion, tile: Tile) -> None:
    """Refuse what the descriptors or the tile cannot hold."""
    assert x.is_contiguous()
    assert weight.is_contiguous()
    assert x.shape[1] == weight.shape[-1]
    swiglu, cast = fusion in ("swiglu", "swiglu_cast"), fusion == "swiglu_cast"
    assert not cast or scales == "groups"
    assert not swiglu or tile.halves == 2
    assert scales != "groups" or (tile.depth == GROUP and tile.columns == GROUP)
    multiple = 16 // x.element_size()  # descriptors want rows of a multiple of 16 bytes
    if x.shape[1] % multiple:
        allowed = f"the kernels take multiples of {multiple}: pad the model's width"
        raise InputError("input width of a product", x.shape[1], allowed)
    if width % (16 if cast else 8):
        raise InputError("output width of a product", width, "the kernels take multiples of 8, of 16 where it is FP8")
    if swiglu and scales == "groups" and width % GROUP:
        allowed = f"a multiple of {GROUP}: else gate and up share scale blocks, and swiglu has to be its own kernel"
        raise InputError("expert width", width, allowed)


def scratch(size: int, alignment: int, stream: int | None) -> Any:
    """Return device memory for the descriptors of one launch."""
    return torch.empty(size, dtype=torch.int8, device="cuda")


@triton.jit
def order(tile, down, across, BAND: tl.constexpr):
    """Return (row tile, column tile) of a tile number: BAND row tiles at a time, column by column."""
    band = tile // (BAND * across)
    height = tl.minimum(down - band * BAND, BAND)
    within = tile - band * BAND * across
    return band * BAND + within % height, within // height


@triton.jit
def _gemm(
    x_ptr, x_scale_ptr, weight_ptr, weight_scale_ptr, residual_ptr, out_ptr, out_scale_ptr, tile_expert_ptr,
    n_tiles_ptr, rows, weight_rows, x_scale_row, x_scale_group, out_scale_group,
    N: tl.constexpr, K: tl.constexpr, KIND: tl.constexpr, SCALES: tl.constexpr, SPLIT: tl.constexpr,
    SWIGLU: tl.constexpr, QUANTIZE: tl.constexpr, PROMOTE: tl.constexpr, ADD: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, HALVES: tl.constexpr, DEPTH: tl.constexpr, BAND: tl.constexpr,
):  # fmt: skip
    """Each program walks tiles of ROWS rows and SPAN columns of the result.

    left, right: float32 [ROWS, COLUMNS], the sums of neighbouring columns, or those of gate and up.
    x_scale_row, x_scale_group, out_scale_group: strides of the scales [P, G]. SPLIT: tiles of rows in one of the
    plan's, 0 without a plan.
    """
    wait_for_inputs()
    WIDTH: tl.constexpr = N // 2 if SWIGLU else N
    SPAN: tl.constexpr = COLUMNS if SWIGLU else COLUMNS * HALVES
    RIGHT: tl.constexpr = WIDTH if SWIGLU else COLUMNS  # from a weight's row for `left` to its row for `right`
    BLOCKS: tl.constexpr = (K + 127) // 128  # scales a block row
    across: tl.constexpr = (WIDTH + SPAN - 1) // SPAN
    down = tl.load(n_tiles_ptr) * SPLIT if SPLIT else tl.cdiv(rows, ROWS)
    x_desc = tl.make_tensor_descriptor(x_ptr, [rows, K], [K, 1], [ROWS, DEPTH])
    weight_desc = tl.make_tensor_descriptor(weight_ptr, [weight_rows, K], [K, 1], [COLUMNS, DEPTH])
    if ADD:
        residual_desc = tl.make_tensor_descriptor(residual_ptr, [rows, WIDTH], [WIDTH, 1], [ROWS, COLUMNS])
    out_desc = tl.make_tensor_descriptor(out_ptr, [rows, WIDTH], [WIDTH, 1], [ROWS, COLUMNS])
    for tile in tl.range(tl.program_id(0), down * across, tl.num_programs(0)):
        row_tile, column_tile = order(tile, down, across, BAND)
        expert = tl.load(tile_expert_ptr + row_tile // SPLIT) if SPLIT else 0
        first_row = row_tile * ROWS
        row = tl.arange(0, ROWS)
        row_inside = row < rows - first_row
        column = column_tile * SPAN
        weight_row = expert * N + column
        if SCALES == "groups":
            left_scale_ptr = weight_scale_ptr + (expert * ((N + 127) // 128) + column // 128) * BLOCKS
            right_scale_ptr = left_scale_ptr + (RIGHT // 128) * BLOCKS
            x_group_ptr = x_scale_ptr + first_row * x_scale_row + row * x_scale_row
        left = tl.zeros((ROWS, COLUMNS), tl.float32)
        if HALVES == 2:
            right = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(0, K, DEPTH):
            x = x_desc.load([first_row, k])
            weight = weight_desc.load([weight_row, k])
            if SCALES == "groups":
                x_scale = tl.load(x_group_ptr + (k // 128) * x_scale_group, row_inside, other=0.0)
                scale = x_scale * tl.load(left_scale_ptr + k // 128)
                left += tl.dot(x, weight.T) * scale[:, None]
            elif PROMOTE:
                left += tl.dot(x, weight.T)
            else:
                left = tl.dot(x, weight.T, left)
            if HALVES == 2:
                weight = weight_desc.load([weight_row + RIGHT, k])
                if SCALES == "groups":
                    # As an fma, so that LLVM does not vectorize both halves' sums together: that keeps the products
                    # of both alive, and spills.
                    scale = x_scale * tl.load(right_scale_ptr + k // 128)
                    right = tl.fma(tl.dot(x, weight.T), tl.broadcast_to(scale[:, None], (ROWS, COLUMNS)), right)
                elif PROMOTE:
                    right += tl.dot(x, weight.T)
                else:
                    right = tl.dot(x, weight.T, right)
        if SCALES == "rows":
            x_row_ptr = x_scale_ptr + first_row * x_scale_row + row * x_scale_row
            x_scale = tl.load(x_row_ptr, row_inside, other=0.0)[:, None]
            inside = column + tl.arange(0, COLUMNS) < WIDTH
            scale_ptr = weight_scale_ptr + weight_row + tl.arange(0, COLUMNS)
            left *= x_scale * tl.load(scale_ptr, inside, other=0.0)[None, :]
            if HALVES == 2:
                if not SWIGLU:
                    inside = column + COLUMNS + tl.arange(0, COLUMNS) < WIDTH
                right *= x_scale * tl.load(scale_ptr + RIGHT, inside, other=0.0)[None, :]
        if SWIGLU:
            hidden = (silu(left.to(KIND).to(tl.float32)) * right.to(KIND).to(tl.float32)).to(KIND)
            if QUANTIZE:
                hidden = hidden.to(tl.float32)
                values, scale = to_e4m3(hidden, tl.max(tl.abs(hidden), 1, keep_dims=True))
                out_desc.store([first_row, column], values)
                group_ptr = out_scale_ptr + column_tile.to(tl.int64) * out_scale_group + first_row
                tl.store(group_ptr + row[:, None], scale, row_inside[:, None])
            else:
                out_desc.store([first_row, column], hidden)
        else:
            if ADD:
                left += residual_desc.load([first_row, column]).to(tl.float32)
                if HALVES == 2:
                    right += residual_desc.load([first_row, column + COLUMNS]).to(tl.float32)
            out_desc.store([first_row, column], left.to(KIND))
            if HALVES == 2:
                out_desc.store([first_row, column + COLUMNS], right.to(KIND))
