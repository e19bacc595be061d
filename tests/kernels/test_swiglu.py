"""SwiGLU and quantization in one pass, against the reference."""

import pytest
import sm90
import torch
from closeness import assert_same_quantized, assert_within_a_step

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.fp8 import Quantized
from octorec.kernels.swiglu import swiglu


@pytest.mark.parametrize("shape", [(1, 8), (6, 200), (3, 5632)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_plain(shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
    gate_up = (torch.randn(shape[0], 2 * shape[1], device=device) * 4).to(dtype)
    assert_within_a_step(swiglu(gate_up, None), reference.swiglu(gate_up, None))


@pytest.mark.parametrize("granularity", ["token", "group"])
@pytest.mark.parametrize("shape", [(1, 8), (6, 200), (3, 1408)], ids=str)
def test_quantized(shape: tuple[int, int], granularity: str, device: str) -> None:
    gate_up = (torch.randn(shape[0], 2 * shape[1], device=device) * 4).to(torch.bfloat16)
    hidden = swiglu(gate_up, granularity)
    assert isinstance(hidden, Quantized)
    assert_same_quantized(hidden, reference.swiglu(gate_up, granularity))


@pytest.mark.filterwarnings("ignore:overflow")  # exp of a large number, in the interpreter: as it should
def test_large_gates_neither_overflow_nor_vanish(device: str) -> None:
    gate = torch.tensor([[-1e4, -200.0, -88.0, 0.0, 88.0, 200.0, 1e4, 3.0]], device=device)
    gate_up = torch.cat([gate, torch.ones_like(gate)], 1)
    assert_within_a_step(swiglu(gate_up, None).to(torch.bfloat16), reference.swiglu(gate_up, None).to(torch.bfloat16))


def test_refuses_what_it_cannot_do(device: str) -> None:
    with pytest.raises(InputError, match="granularity"):
        swiglu(torch.randn(2, 16, device=device), "block")
    with pytest.raises(InputError, match="row width"):
        swiglu(torch.empty(1, 40000, device=device), None)


def launch(rows: int, width: int, granularity: str | None) -> None:
    swiglu(torch.empty(rows, 2 * width, dtype=torch.bfloat16, device="meta"), granularity)


@pytest.mark.parametrize("capability", sm90.CAPABILITIES)
@pytest.mark.parametrize(
    ("width", "granularity"),
    [
        (5632, "token"),
        (1408, "group"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((7168, "token"), (5632, None))),
    ],
)
def test_machine_code(width: int, granularity: str | None, capability: int) -> None:
    (code,) = sm90.compile_launches(launch, 16384, width, granularity, capability=capability)
    assert code.spills == 0
