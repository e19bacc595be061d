# mypy: allow-untyped-defs
"""One kernel splits rows into q, k and v, norms and turns the heads of q and k, and keeps k and v where they belong.

Each value is read once and written once: memory-bound.
Letters: T rows, H heads, G KV groups, D head width, P positions, R rows of a pool.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.attend import check_head_width
from octorec.kernels.ops import Kept
from octorec.kernels.overlap import overlaps, wait_for_inputs


def rope(
    qkv: Tensor,
    turns: Tensor,
    positions: Tensor,
    heads: int,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    kept: Kept | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `Ops.rope`: qkv [T, (H + 2G) * D], turns [P, D], positions [T] -> q [T, H, D], k and v [T, G, D].

    Contiguous, 16 bit or float32; D as `attend` takes it. A program a row.
    """
    rows, width = len(qkv), turns.shape[1]
    check_head_width(width)
    groups = (qkv.shape[1] // width - heads) // 2
    assert all(each.is_contiguous() for each in (qkv, turns, positions, *(kept or ()), *(norms or ())))
    q = torch.empty(rows, heads, width, dtype=qkv.dtype, device=qkv.device)
    if kept is None:
        k, v = (torch.empty(rows, groups, width, dtype=qkv.dtype, device=qkv.device) for _ in range(2))
    else:
        k, v = kept.keys, kept.values
        assert k.dtype == v.dtype == qkv.dtype
        assert k.shape[1:] == v.shape[1:] == (groups, width)
    q_norm, k_norm = norms or (qkv, qkv)  # nobody reads these
    _rope[(rows,)](
        qkv_ptr=qkv, turns_ptr=turns, positions_ptr=positions, q_norm_ptr=q_norm, k_norm_ptr=k_norm, q_ptr=q, k_ptr=k,
        v_ptr=v, rows_ptr=positions if kept is None else kept.rows, eps=eps, H=heads, G=groups, D=width,
        NORMED=norms is not None, KEPT=kept is not None, launch_pdl=overlaps(qkv.device, rows),
        num_warps=min(8, triton.next_power_of_2(triton.cdiv(qkv.shape[1], 1024))),
    )  # fmt: skip
    return q, k, v


@triton.jit
def _rope(
    qkv_ptr, turns_ptr, positions_ptr, q_norm_ptr, k_norm_ptr, q_ptr, k_ptr, v_ptr, rows_ptr, eps,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, NORMED: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """Take one row in each program: all of it is loaded before any is used."""
    wait_for_inputs()
    row = tl.program_id(0).to(tl.int64)
    to = tl.load(rows_ptr + row).to(tl.int64) if KEPT else row
    turns_ptr += tl.load(positions_ptr + row).to(tl.int64) * D
    qkv_ptr += row * ((H + 2 * G) * D)
    value = tl.arange(0, D // 2)[None, :]
    q_first, q_second = _load_heads(qkv_ptr, value, H, D)
    k_first, k_second = _load_heads(qkv_ptr + H * D, value, G, D)
    v_first, v_second = _load_heads(qkv_ptr + (H + G) * D, value, G, D)
    cos, sin = tl.load(turns_ptr + value), tl.load(turns_ptr + D // 2 + value)
    _turn(q_first, q_second, cos, sin, q_norm_ptr, q_ptr + row * (H * D), value, eps, H, D, NORMED)
    _turn(k_first, k_second, cos, sin, k_norm_ptr, k_ptr + to * (G * D), value, eps, G, D, NORMED)
    _store_heads(v_first, v_second, v_ptr + to * (G * D), value, G, D)


@triton.jit
def _turn(
    first, second, cos, sin, norm_ptr, to_ptr, value, eps, HEADS: tl.constexpr, D: tl.constexpr, NORMED: tl.constexpr
):  # fmt: skip
    """Norm and turn heads whose halves are [heads, D / 2], and write them to `to_ptr`."""
    first, second = first.to(tl.float32), second.to(tl.float32)
    if NORMED:
        mean = tl.sum(first * first + second * second, 1, keep_dims=True) / D
        factor = tl.where(mean < float("inf"), tl.rsqrt(mean + eps), float("nan"))  # a sum that overflows is no 0
        first = first * factor * tl.load(norm_ptr + value).to(tl.float32)
        second = second * factor * tl.load(norm_ptr + D // 2 + value).to(tl.float32)
    _store_heads(first * cos - second * sin, second * cos + first * sin, to_ptr, value, HEADS, D)


@triton.jit
def _load_heads(ptr, value, HEADS: tl.constexpr, D: tl.constexpr):
    """Return the halves of HEADS heads, [a power of two, D / 2] each, zero beyond them."""
    head = tl.arange(0, triton.next_power_of_2(HEADS))[:, None]
    at = ptr + head * D + value
    return tl.load(at, head < HEADS, other=0.0), tl.load(at + D // 2, head < HEADS, other=0.0)


@triton.jit
def _store_heads(first, second, ptr, value, HEADS: tl.constexpr, D: tl.constexpr):
    """Write the halves of HEADS heads, rounded to what `ptr` points to."""
    head = tl.arange(0, triton.next_power_of_2(HEADS))[:, None]
    at = ptr + head * D + value
    tl.store(at, first.to(ptr.dtype.element_ty), head < HEADS)
    tl.store(at + D // 2, second.to(ptr.dtype.element_ty), head < HEADS)
