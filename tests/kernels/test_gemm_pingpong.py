"""A tile to each consumer gives the bits of `gemm_hopper`, in machine code that spills nothing."""

import pytest
import sm90
import torch
from torch import Tensor

from octorec.kernels.gemm_hopper import gemm_hopper
from octorec.kernels.gemm_pingpong import gemm_by_groups, gemm_by_rows
from octorec.kernels.plan import plan_experts
from octorec.kernels.quantize import quantize
from octorec.kernels.reference import Operand

TILES = [(128, 128), (64, 256)]
DTYPES = [torch.bfloat16, torch.float16]


def random(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Rows and columns of different sizes, so that a scale in a wrong place shows."""
    rows, columns = torch.rand(*shape[:-1], 1) * 2 + 0.2, torch.rand(shape[-1]) * 2 + 0.2
    return (torch.randn(*shape) * rows * columns * 0.1).to("cuda", dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize(("n", "k"), [(1408, 1408), (264, 272), (128, 16), (1024, 5632)])
def test_rows_have_the_same_bits(n: int, k: int, tile: tuple[int, int], add: bool, dtype: torch.dtype) -> None:
    weight = quantize(random(n, k, dtype=dtype), "channel")
    for rows in (1, 63, 64, 129, 16384):
        x = quantize(random(rows, k, dtype=dtype), "token")
        residual = random(rows, n, dtype=dtype) * 30 if add else None
        assert_same_bits(gemm_by_rows(x, weight, residual, tile), gemm_hopper(x, weight, None, residual=residual))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "k"), [(1408, 1408), (264, 272), (128, 16)])
def test_groups_have_the_same_bits(n: int, k: int, dtype: torch.dtype) -> None:
    weight = quantize(random(n, k, dtype=dtype), "block")
    for rows in (1, 63, 64, 129, 16384):
        x = quantize(random(rows, k, dtype=dtype), "group")
        assert_same_bits(gemm_by_groups(x, weight), gemm_hopper(x, weight, None))


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [3, 700, 8192])
def test_experts_have_the_same_bits(rows: int) -> None:
    experts = torch.stack([torch.randperm(9)[:3] for _ in range(rows)]).cuda()
    experts[experts == 3] = 1  # nobody goes to 3
    plan = plan_experts(experts, 9, 128)
    x = quantize(random(plan.slots, 400), "group")
    weight = quantize(random(9, 512, 400), "block")
    taken = plan.slot_of.flatten().long()
    assert_same_bits(gemm_by_groups(x, weight, plan), gemm_hopper(x, weight, plan), taken)


def assert_same_bits(found: Tensor, expected: Operand, rows: Tensor | slice = slice(None)) -> None:
    assert isinstance(expected, Tensor)
    assert torch.equal(found[rows], expected[rows])


def launch_by_rows(rows: int, n: int, add: bool, tile: tuple[int, int], dtype: torch.dtype) -> None:
    x, weight = (torch.empty(size, 1408, dtype=dtype, device="meta") for size in (rows, n))
    residual = torch.empty(rows, n, dtype=dtype, device="meta") if add else None
    gemm_by_rows(quantize(x, "token"), quantize(weight, "channel"), residual, tile)


def launch_by_groups(rows: int, n_expert: int) -> None:
    plan = None
    if n_expert:
        plan = plan_experts(torch.empty(rows, 4, dtype=torch.int64, device="meta"), n_expert, 128)
    x = torch.empty(plan.slots if plan else rows, 1408, dtype=torch.bfloat16, device="meta")
    weight = torch.empty(*([n_expert] if n_expert else []), 1408, 1408, dtype=torch.bfloat16, device="meta")
    gemm_by_groups(quantize(x, "group"), quantize(weight, "block"), plan)


@pytest.mark.parametrize(
    ("rows", "n", "add", "tile", "dtype"),
    [
        (16384, 4224, False, (128, 128), torch.bfloat16),
        (16384, 1408, True, (128, 128), torch.bfloat16),
        (1, 1408, True, (128, 128), torch.float16),
        (16384, 4224, False, (64, 256), torch.bfloat16),
    ],
)
def test_machine_code_by_rows(rows: int, n: int, add: bool, tile: tuple[int, int], dtype: torch.dtype) -> None:
    assert_good(sm90.compile_launches(launch_by_rows, rows, n, add, tile, dtype)[-1], "_gemm_by_rows")


@pytest.mark.parametrize(("rows", "n_expert"), [(16384, 54), (129, 0)])
def test_machine_code_by_groups(rows: int, n_expert: int) -> None:
    assert_good(sm90.compile_launches(launch_by_groups, rows, n_expert)[-1], "_gemm_by_groups")


def assert_good(code: sm90.MachineCode, name: str) -> None:
    assert code.name == name
    for opcode in ("QGMMA", "UTMALDG", "UTMASTG", "USETMAXREG"):
        assert code.uses(opcode)
    assert code.spills == 0
    assert code.shared <= sm90.MAX_SHARED[90]
