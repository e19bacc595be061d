"""Grouped products give what the reference's experts give, values and gradients, however rows are spread."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels import reference
from octorec.kernels.ops import Routing
from octorec.training import gpu_ops, grouped

T, C, HIDDEN, EXPERTS = 37, 32, 24, 5
Form = Callable[[Tensor, Routing, Tensor, Tensor], Tensor]
SPREADS = ("even", "one without rows", "all to one")


def routing_of(spread: str, rows: int, n_expert: int, device: str) -> Routing:
    """Two routed experts of a row and a shared one, the last."""
    generator = torch.Generator().manual_seed(3)
    if spread == "all to one":
        chosen = torch.tensor([[2]]).expand(rows, 1)
    else:
        there = [expert for expert in range(n_expert - 1) if spread == "even" or expert != 1]
        order = torch.rand(rows, len(there), generator=generator).argsort(1)[:, :2]
        shared = torch.full((rows, 1), n_expert - 1)
        chosen = torch.cat([torch.tensor(there)[order], shared], 1)
    weights = torch.rand(chosen.shape, generator=generator) + 0.1
    return Routing(chosen.contiguous().to(device), weights.to(device).requires_grad_())


def operands(rows: int, width: int, hidden: int, n_expert: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = (rows, width), (n_expert, 2 * hidden, width), (n_expert, width, hidden)
    drawn = (torch.randn(shape, generator=generator) * shape[-1] ** -0.5 for shape in shapes)
    return [one.to(dtype).to(device).requires_grad_() for one in drawn]


def results(form: Form, x: Tensor, routing: Routing, gate_up: Tensor, down: Tensor) -> list[Tensor]:
    """The values, and the gradients of x, both weights and the routing's weights."""
    out = form(x, routing, gate_up, down)
    into = torch.cos(torch.arange(out.numel(), device=x.device)).view_as(out).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, (x, gate_up, down, routing.weights), into)]


def specification(x: Tensor, routing: Routing, gate_up: Tensor, down: Tensor) -> Tensor:
    return reference.moe(x, routing, gate_up, down, None)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("form", [grouped.moe, gpu_ops.dense_moe])
def test_both_forms_are_the_reference(form: Form, spread: str) -> None:
    x, gate_up, down = operands(T, C, HIDDEN, EXPERTS, torch.float32, "cpu")
    routing = routing_of(spread, T, EXPERTS, "cpu")
    for ours, theirs in zip(*(results(one, x, routing, gate_up, down) for one in (form, specification)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spread", SPREADS)
def test_in_bfloat16_they_are_the_reference_up_to_rounding(spread: str) -> None:
    x, gate_up, down = operands(T, C, HIDDEN, EXPERTS, torch.bfloat16, "cpu")
    routing = routing_of(spread, T, EXPERTS, "cpu")
    exact = results(specification, x.float(), routing, gate_up.float(), down.float())
    for ours, theirs in zip(results(grouped.moe, x, routing, gate_up, down), exact, strict=True):
        torch.testing.assert_close(ours.float(), theirs, rtol=0.03, atol=0.03 * float(theirs.abs().max()))


def test_an_expert_without_rows_has_no_gradient() -> None:
    x, gate_up, down = operands(T, C, HIDDEN, EXPERTS, torch.bfloat16, "cpu")
    _, _, of_gate_up, of_down, _ = results(grouped.moe, x, routing_of(SPREADS[1], T, EXPERTS, "cpu"), gate_up, down)
    for gradient in (of_gate_up, of_down):
        assert not gradient[1].any()
        assert all(gradient[expert].any() for expert in (0, 2, 3, 4))


@pytest.mark.parametrize("spread", SPREADS)
def test_every_group_is_whole_blocks_and_keeps_the_order_of_its_rows(spread: str) -> None:
    experts = routing_of(spread, T, EXPERTS, "cpu").experts
    place, ends = grouped.grouped(experts, EXPERTS)
    assert ends.dtype == torch.int32
    assert int(ends[-1]) == experts.numel() + grouped.BLOCK * EXPERTS
    sizes = ends.diff(prepend=torch.zeros(1, dtype=torch.int32))
    assert (sizes >= grouped.BLOCK).all()
    assert (sizes[:-1] % grouped.BLOCK == 0).all()
    for expert, end in enumerate(ends.tolist()):
        mine = place[experts.flatten() == expert].tolist()
        begin = end - int(sizes[expert])
        assert mine == list(range(begin, begin + len(mine)))
        assert begin + len(mine) <= end


def test_training_takes_them_in_bfloat16_and_in_whole_rows_of_16_bytes() -> None:
    x, gate_up, down = operands(T, C, HIDDEN, EXPERTS, torch.float32, "cpu")
    assert not grouped.runs_on(x, gate_up, down)
    with torch.autocast("cpu", torch.bfloat16):
        assert grouped.runs_on(x, gate_up, down)
        assert not grouped.runs_on(x, gate_up, down[:, :, :20])
    assert grouped.runs_on(x.bfloat16(), gate_up, down)


def test_under_autocast_the_residual_stream_and_gradients_stay_in_float32() -> None:
    x, gate_up, down = operands(T, C, HIDDEN, EXPERTS, torch.float32, "cpu")
    routing = routing_of(SPREADS[0], T, EXPERTS, "cpu")
    exact = results(specification, x, routing, gate_up, down)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(lambda *given: gpu_ops.moe(*given, None), x, routing, gate_up, down)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.03, atol=0.03 * float(theirs.abs().max()))


@pytest.mark.gpu
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("size", [(37, 32, 24, 5), (3072, 1408, 1408, 17)])
def test_a_gpu_gives_the_values_and_gradients_of_the_dense_form(size: tuple[int, int, int, int], spread: str) -> None:
    rows, width, hidden, n_expert = size
    given = operands(rows, width, hidden, n_expert, torch.bfloat16, "cuda")
    routing = routing_of(spread, rows, n_expert, "cuda")
    assert grouped.runs_on(*given)
    dirty = [torch.full_like(one, float("nan")) for one in given]  # memory that is used again is not all zeros
    del dirty
    for _ in range(2):
        ours, dense = (results(one, given[0], routing, *given[1:]) for one in (grouped.moe, gpu_ops.dense_moe))
        for a, b in zip(ours, dense, strict=True):
            torch.testing.assert_close(a.float(), b.float(), rtol=0.05, atol=0.02 * float(b.abs().max()))
    again = results(grouped.moe, given[0], routing, *given[1:])
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


@pytest.mark.gpu
def test_a_captured_graph_follows_another_routing() -> None:
    """The offsets are read from the device: a replay with other experts is not the captured one."""
    rows, width, hidden, n_expert = 768, 256, 128, 9
    x, gate_up, down = operands(rows, width, hidden, n_expert, torch.bfloat16, "cuda")
    routing = routing_of("even", rows, n_expert, "cuda")

    def run() -> list[Tensor]:
        return results(grouped.moe, x, routing, gate_up, down)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    for shift in (0, 1, 3):
        routing.experts[:, :2] = (routing.experts[:, :2] + shift) % (n_expert - 1)
        graph.replay()
        for a, b in zip(captured, run(), strict=True):
            assert torch.equal(a, b)
    routing.experts[:, 0] = 2
    graph.replay()
    empty = torch.ones(n_expert, dtype=torch.bool).index_fill(0, routing.experts.flatten().unique().cpu(), False)
    assert all(not gradient[empty.cuda()].any() for gradient in captured[2:4])


def test_where_torch_has_no_grouped_product_every_expert_computes_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    x, gate_up, down = operands(T, C, HIDDEN, EXPERTS, torch.bfloat16, "cpu")
    monkeypatch.delattr(F, "grouped_mm")
    assert not grouped.runs_on(x, gate_up, down)
    routing = routing_of(SPREADS[0], T, EXPERTS, "cpu")
    found = gpu_ops.moe(x, routing, gate_up, down, None)
    assert torch.equal(found, gpu_ops.dense_moe(x, routing, gate_up, down))
