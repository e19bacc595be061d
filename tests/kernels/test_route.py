"""Routing, against the reference."""

import pytest
import sm90
import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.route import FEW, MANY, Tiling, route

SMALL = Tiling(rows=16, columns=16)
SHAPES = {  # T, C, E, top_k, n_shared
    "the model's": (70, 200, 53, 3, 1),
    "one row": (1, 16, 4, 1, 0),
    "all experts": (5, 40, 7, 7, 2),
    "no shared expert": (17, 64, 16, 2, 0),
    "eight of many": (9, 48, 130, 8, 1),
}


def inputs(rows: int, width: int, experts: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(rows, width, device=device).bfloat16()
    gate = (torch.randn(experts, width, device=device) * width**-0.5).bfloat16()
    return x, gate, torch.randn(experts, device=device) * 0.1


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("tiling", [SMALL, FEW, MANY], ids=["small", "few", "many"])
def test_agrees_with_the_reference(shape: tuple[int, int, int, int, int], tiling: Tiling, device: str) -> None:
    rows, width, experts, top_k, n_shared = shape
    given = inputs(rows, width, experts, device)
    got = route(*given, top_k, n_shared, tiling)
    expected = reference.route(*given, top_k, n_shared)
    assert torch.equal(got.experts, expected.experts)
    torch.testing.assert_close(got.weights, expected.weights, rtol=1e-5, atol=1e-6)


def test_ties_go_to_the_lower_expert(device: str) -> None:
    x, gate, bias = inputs(6, 32, 9, device)
    gate[[2, 5, 7]] = gate[4].clone()
    bias[[2, 4, 5, 7]] = 2.0
    got = route(x, gate, bias, 3, 1, SMALL)
    assert got.experts.tolist() == [[2, 4, 5, 9]] * 6
    torch.testing.assert_close(got.weights, torch.tensor([[1 / 3, 1 / 3, 1 / 3, 1.0]] * 6, device=device))


def test_the_bias_moves_the_choice_alone(device: str) -> None:
    x, gate, bias = inputs(5, 32, 6, device)
    bias[:] = torch.tensor([0, 0, 0, 0, 9.0, 7.0])
    got = route(x, gate, bias, 2, 0, SMALL)
    scores = (x.double() @ gate.double().T).sigmoid()[:, [4, 5]]
    assert got.experts.tolist() == [[4, 5]] * 5
    torch.testing.assert_close(got.weights.double(), scores / scores.sum(1, keepdim=True), rtol=1e-5, atol=1e-6)


def test_a_row_does_not_depend_on_its_neighbours(device: str) -> None:
    x, gate, bias = inputs(40, 64, 20, device)
    together, alone = route(x, gate, bias, 3, 1), route(x[33:34].clone(), gate, bias, 3, 1)
    assert torch.equal(together.experts[33:34], alone.experts)
    assert torch.equal(together.weights[33:34], alone.weights)


@pytest.mark.gpu
def test_wide_steps_have_the_same_bits() -> None:
    given = inputs(16384, 1408, 53, "cuda")
    few, many = (route(*given, 3, 1, tiling) for tiling in (FEW, MANY))
    assert torch.equal(few.experts, many.experts)
    assert torch.equal(few.weights, many.weights)


def test_experts_stay_in_bounds_where_x_is_nan(device: str) -> None:
    x, gate, bias = inputs(3, 32, 5, device)
    x[1] = float("nan")
    experts = route(x, gate, bias, 3, 1, SMALL).experts
    assert ((experts >= 0) & (experts <= 5)).all()


def test_refuses_what_it_cannot_do(device: str) -> None:
    x, gate, bias = inputs(3, 32, 5, device)
    for top_k in (0, 6, 9):
        with pytest.raises(InputError, match="top_k"):
            route(x, gate, bias, top_k, 1)
    with pytest.raises(InputError, match="n_expert"):
        route(*inputs(3, 32, 300, device), 3, 1)
    with pytest.raises(InputError, match="dtype"):
        route(x.float(), gate.float(), bias, 3, 1)


def launch(rows: int) -> None:
    x, gate = (torch.empty(n, 1408, dtype=torch.bfloat16, device="meta") for n in (rows, 53))
    route(x, gate, torch.empty(53, device="meta"), 3, 1)


@pytest.mark.parametrize("capability", sm90.CAPABILITIES)
@pytest.mark.parametrize("rows", [64, 16384])
def test_machine_code(rows: int, capability: int) -> None:
    (code,) = sm90.compile_launches(launch, rows, capability=capability)
    assert code.uses("HGMMA" if capability == 90 else "HMMA")
    assert code.spills == 0
    at_once = 1 if rows == 64 else 2  # programs a multiprocessor hold the model's batch
    assert code.shared <= sm90.MAX_SHARED[capability] // at_once
