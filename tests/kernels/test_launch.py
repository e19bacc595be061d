"""Kernels start early where the GPU can, and never touch memory before their turn (`sm90` refuses those that would)."""

import pytest
import sm90
import torch
import triton
import triton.language as tl

from octorec.kernels import launch as launch_module
from octorec.kernels.launch import begin, launch
from octorec.kernels.quantize import quantize


@triton.jit
def _copy(x_ptr, out_ptr, EARLY: tl.constexpr, PDL: tl.constexpr):  # type: ignore[no-untyped-def]
    if EARLY:
        x = tl.load(x_ptr)
        begin(PDL)
    else:
        begin(PDL)
        x = tl.load(x_ptr)
    tl.store(out_ptr, x)


def copy(early: bool) -> None:
    x = torch.empty(1, device="meta")
    _copy[(1,)](x, x, EARLY=early, **launch(x.device))


def cast(enabled: bool) -> None:
    launch_module.DEPENDENT_LAUNCH = enabled
    try:
        quantize(torch.empty(4, 128, dtype=torch.bfloat16, device="meta"), "token")
    finally:
        launch_module.DEPENDENT_LAUNCH = True


@pytest.mark.parametrize("capability", [90, 89])
def test_dependent_on_hopper(capability: int) -> None:
    (code,) = sm90.compile_launches(cast, True, capability=capability)
    hopper = capability == 90
    assert code.dependent == code.uses("ACQBULK") == code.uses("PREEXIT") == hopper  # the wait, and the next let go


def test_can_be_switched_off() -> None:
    (code,) = sm90.compile_launches(cast, False)
    assert not code.dependent
    assert not code.uses("ACQBULK")


def test_memory_touched_before_the_wait_is_refused() -> None:
    assert sm90.compile_launches(copy, False)[0].dependent
    with pytest.raises(AssertionError, match="_copy touches memory before its wait"):
        sm90.compile_launches(copy, True)


def test_off_the_gpu_nothing_is_asked_for() -> None:
    assert launch(torch.device("cpu")) == {"PDL": False}
