"""The mixture of experts, whole and in its parts, against the reference."""

from dataclasses import replace
from typing import Any

import pytest
import sm90
import torch
from torch import Tensor

from octorec.kernels import device as device_module
from octorec.kernels import fused, reference
from octorec.kernels.fp8 import Quantized, quantize
from octorec.kernels.moe import combine, dispatch, moe
from octorec.kernels.ops import Routing
from octorec.kernels.plan import plan_experts
from octorec.kernels.products import INTERPRETER, Tile

pytestmark = pytest.mark.filterwarnings("ignore:All-NaN")  # slots without a row, which nobody reads
GRANULARITIES = {None: None, "group": "block", "token": "channel"}  # of activations: of weights
ONE_FAST = ["group", *(pytest.param(other, marks=pytest.mark.slow) for other in (None, "token"))]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    if device == "cpu":
        monkeypatch.setattr(device_module, "INTERPRETER", replace(INTERPRETER, tile=Tile(rows=16)))


def routing(rows: int, n_expert: int, top_k: int, n_shared: int, device: str) -> Routing:
    """Random choices in no order, the shared experts last; weights as `route` gives them."""
    chosen = torch.stack([torch.randperm(n_expert)[:top_k] for _ in range(rows)]).reshape(rows, top_k)
    shared = torch.arange(n_expert, n_expert + n_shared).expand(rows, -1)
    weights = torch.rand(rows, top_k) + 0.1
    weights = torch.cat([weights / weights.sum(1, keepdim=True), torch.ones(rows, n_shared)], 1)
    return Routing(torch.cat([chosen, shared], 1).to(device), weights.to(device))


def weights(n_expert: int, width: int, hidden: int, device: str) -> tuple[Tensor, Tensor]:
    gate_up, down = torch.randn(n_expert, 2 * hidden, width), torch.randn(n_expert, width, hidden)
    return (gate_up * 0.2).to(device, torch.bfloat16), (down * 0.2).to(device, torch.bfloat16)


@pytest.mark.parametrize("quantize_to", ONE_FAST, ids=str)
@pytest.mark.parametrize(
    ("rows", "width", "hidden"),
    [(20, 48, 80), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((1, 64, 128), (29, 144, 128)))],
)
def test_moe(rows: int, width: int, hidden: int, quantize_to: Any, device: str) -> None:
    routed = routing(rows, 4, 2, 1, device)
    x = torch.randn(rows, width, device=device).to(torch.bfloat16)
    gate_up, down = weights(5, width, hidden, device)
    if quantize_to:
        gate_up, down = (quantize(weight, GRANULARITIES[quantize_to]) for weight in (gate_up, down))
    residual = torch.randn(rows, width, device=device).to(torch.bfloat16) * 0.1
    out = fused.moe(x, routed, gate_up, down, quantize_to, residual)
    expected = reference.moe(x, routed, gate_up, down, quantize_to, residual)
    assert out.dtype == expected.dtype
    difference = (out.float() - expected.float()).norm() / expected.float().norm()
    # Two roundings to bfloat16, and where sums differ a neighbouring E4M3 value: more often on a GPU, whose tensor
    # cores sum 128 FP8 products in about 14 bits (0.0052 was seen on an H100).
    assert difference < (8e-3 if device == "cuda" else 4e-3)


def test_a_row_does_not_depend_on_its_neighbours(device: str) -> None:
    routed = routing(40, 4, 2, 1, device)
    x = torch.randn(40, 64, device=device).to(torch.bfloat16)
    gate_up, down = (quantize(weight, "block") for weight in weights(5, 64, 128, device))
    together = moe(x, routed, gate_up, down, "group")
    alone = moe(
        x[17:18].clone(), Routing(routed.experts[17:18].clone(), routed.weights[17:18].clone()), gate_up, down, "group"
    )
    assert torch.equal(together[17:18], alone)


@pytest.mark.parametrize("quantize_to", ONE_FAST, ids=str)
def test_dispatch(quantize_to: Any, device: str) -> None:
    experts = routing(21, 5, 3, 0, device).experts
    plan = plan_experts(experts, 5, 16)
    x = torch.randn(21, 200, device=device).to(torch.bfloat16)
    slots = dispatch(x, plan, quantize_to)
    expected = x if quantize_to is None else quantize(x, quantize_to)
    for r in range(3):
        at = plan.slot_of[:, r].long()
        if isinstance(slots, Quantized):
            assert torch.equal(slots.values[at].view(torch.uint8), expected.values.view(torch.uint8))
            assert torch.equal(slots.scale[at], expected.scale)
        else:
            assert torch.equal(slots[at], expected)


@pytest.mark.parametrize("with_residual", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_combine_adds_in_the_order_of_the_experts(with_residual: bool, device: str) -> None:
    routed = routing(19, 6, 4, 1, device)
    plan = plan_experts(routed.experts, 7, 16)
    parts = (torch.randn(plan.slots, 200, device=device) * 10).to(torch.bfloat16)
    expected = torch.zeros(19, 200, device=device)
    for row in range(19):
        for r in routed.experts[row].argsort().tolist():
            expected[row] += parts[plan.slot_of[row, r]].float() * routed.weights[row, r]
    residual = torch.randn(19, 200, device=device).to(torch.bfloat16) if with_residual else None
    if residual is not None:
        expected += residual.float()
    assert torch.equal(combine(parts, plan, routed.weights, residual), expected.to(torch.bfloat16))


def launch(quantize_to: Any, rows: int) -> None:
    empty = torch.empty
    gate_up, down = (empty(54, n, 1408, dtype=torch.bfloat16, device="meta") for n in (2816, 1408))
    if quantize_to:
        gate_up, down = (quantize(weight, GRANULARITIES[quantize_to]) for weight in (gate_up, down))
    experts = empty(rows, 4, dtype=torch.int64, device="meta")
    x = empty(rows, 1408, dtype=torch.bfloat16, device="meta")
    moe(x, Routing(experts, empty(rows, 4, device="meta")), gate_up, down, quantize_to)


@pytest.mark.slow
@pytest.mark.parametrize("quantize_to", ["group", None, "token"])
def test_machine_code(quantize_to: Any) -> None:
    codes = sm90.compile_launches(launch, quantize_to, 16384)
    names = ["_count", "_place", "_dispatch", *["_gemm_hopper" if quantize_to == "group" else "_gemm"] * 2, "_combine"]
    if quantize_to == "token":
        names.insert(4, "_quantize_row")
    assert [code.name for code in codes] == names
    assert all(code.spills == 0 for code in codes)
