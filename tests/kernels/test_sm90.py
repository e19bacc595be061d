"""The reader of machine code sees tensor cores and spills where they are, and not where they are not."""

import sm90
import torch
import triton
import triton.language as tl

from octorec.kernels.fp8 import E4M3


@triton.jit
def _product(a_ptr, b_ptr, out_ptr, SIZE: tl.constexpr, STEPS: tl.constexpr):  # type: ignore[no-untyped-def]
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    sums = tl.zeros((SIZE, SIZE), tl.float32)
    for step in range(STEPS):
        a = tl.load(a_ptr + rows * (SIZE * STEPS) + step * SIZE + columns)
        b = tl.load(b_ptr + columns * (SIZE * STEPS) + step * SIZE + rows)
        sums = tl.dot(a, b, sums)
    tl.store(out_ptr + rows * SIZE + columns, sums)


def product(dtype: torch.dtype, size: int, warps: int) -> None:
    a = torch.empty(size, size * 4, dtype=dtype, device="meta")
    out = torch.empty(size, size, device="meta")
    _product[(1,)](a, a, out, SIZE=size, STEPS=4, num_warps=warps)


def test_reads_tensor_cores_registers_and_shared_memory() -> None:
    fp8, bf16 = (sm90.compile_launches(product, dtype, 64, 4)[0] for dtype in (E4M3, torch.bfloat16))
    assert fp8.uses("QGMMA")
    assert not fp8.uses("HGMMA")
    assert bf16.uses("HGMMA")
    assert fp8.spills == bf16.spills == 0
    assert 0 < fp8.registers <= 255
    assert 2 * 64 * 64 <= fp8.shared <= sm90.MAX_SHARED[90]
    assert fp8.warps == 4


def test_sees_spills() -> None:
    assert sm90.compile_launches(product, torch.bfloat16, 256, 4)[0].spills > 0


def test_compiles_for_other_capabilities() -> None:
    ada = sm90.compile_launches(product, E4M3, 64, 4, capability=89)[0]
    assert ada.uses("QMMA")
    assert not ada.uses("QGMMA")
