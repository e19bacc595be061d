"""Stock PyTorch's steps compute what the references specify: else the benchmarks would compare different work."""

import pytest
import torch
from torch import Tensor

from benchmarks import unfused
from octorec.kernels import reference
from octorec.kernels.fp8 import Quantized, dequantize, quantize
from octorec.kernels.ops import DEAD, NodeFilter, Operand, Routing, TrieLevel


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape).bfloat16()


def assert_close(got: Operand, expected: Operand, allowed: float = 6e-3) -> None:
    assert isinstance(got, Quantized) == isinstance(expected, Quantized)
    if isinstance(got, Quantized):
        assert isinstance(expected, Quantized)
        assert (got.granularity, got.scale.shape) == (expected.granularity, expected.scale.shape)
    got, expected = (dequantize(t) if isinstance(t, Quantized) else t for t in (got, expected))
    assert got.shape == expected.shape
    assert (got.double() - expected.double()).norm() <= allowed * expected.double().norm()


@pytest.mark.parametrize("granularity", [None, "token", "group"])
def test_row_operations(granularity: str | None) -> None:
    allowed = 6e-3 if granularity is None else 2e-2  # now and then a neighbouring E4M3 value
    x, weight = normal(9, 256), normal(256)
    given = (x, weight, 1e-6, granularity)
    assert_close(unfused.rms_norm(*given), reference.rms_norm(*given), allowed)
    assert_close(unfused.swiglu(x, granularity), reference.swiglu(x, granularity), allowed)
    assert_close(unfused.maybe_quantize(x, granularity), reference.maybe_quantize(x, granularity), 1e-6)


@pytest.mark.parametrize("granularity", [None, "token"])
def test_attentions(granularity: str | None) -> None:
    allowed = 6e-3 if granularity is None else 2e-2
    q, keys = normal(2, 5, 2, 128), normal(2, 7, 2, 128)
    given = (q, keys, keys, torch.tensor([7, 7]), granularity)
    assert_close(unfused.cross_attention(*given), reference.cross_attention(*given), allowed)
    past, ancestors = [normal(2, n, 3, 2, 128) for n in (1, 4)], [torch.randint(0, n, (2, 5)) for n in (1, 4)]
    given = (normal(2, 5, 3, 2, 128), past, ancestors, granularity)
    assert_close(unfused.self_attention(*given), reference.self_attention(*given), allowed)


@pytest.mark.parametrize("granularity", [None, "token"])
def test_beams_of_a_language_model(granularity: str | None) -> None:
    """Rows of the pool that are no request's hold NaN, and are not read."""
    batch, beams, heads, groups, length = 2, 5, 4, 2, 7
    keys, values = (normal(20, groups, 128) for _ in range(2))
    first = torch.tensor([9, 1])
    for pool in (keys, values):
        pool[[0, 8, 16, 17, 18, 19]] = float("nan")
    past = [tuple(normal(batch, n, groups, 128) for _ in range(2)) for n in (3, 4)]
    ancestors = [torch.randint(0, n, (batch, beams)) for n in (3, 4)]
    own = normal(batch, beams, heads, 128), normal(batch, beams, groups, 128), normal(batch, beams, groups, 128)
    given = (*own, past, ancestors, keys, values, first, torch.tensor([length, length]), granularity)
    assert_close(
        unfused.beam_attention(*given), reference.beam_attention(*given), 6e-3 if granularity is None else 2e-2
    )


def test_linear_adds_its_residual() -> None:
    x, weight, residual = normal(9, 32), normal(16, 32), normal(9, 16)
    assert_close(unfused.linear(x, weight, residual), reference.linear(x, weight, residual))
    assert_close(unfused.linear(x, weight), reference.linear(x, weight))


def test_experts() -> None:
    x, gate, bias = normal(40, 32), normal(5, 32) * 0.2, torch.randn(5) * 0.1
    routing = unfused.route(x, gate, bias, 2, 1)
    expected = reference.route(x, gate, bias, 2, 1)
    agree = (routing.experts == expected.experts).all(1)
    assert agree.float().mean() > 0.9
    torch.testing.assert_close(routing.weights[agree], expected.weights[agree], rtol=1e-2, atol=1e-3)
    gate_up, down = normal(6, 32, 32) * 0.2, normal(6, 32, 16) * 0.2
    given = (x, Routing(*expected), gate_up, down, None, normal(40, 32))
    assert_close(unfused.moe(*given), reference.moe(*given), 1e-2)


def trie_level(nodes: int, codes: int, sets: int) -> TrieLevel:
    has = torch.rand(nodes, codes) < 0.4
    start = torch.cat([torch.zeros(1), has.sum(1).cumsum(0)]).int()
    code = has.nonzero()[:, 1].to(torch.int16)
    start = torch.cat([start, start[-1:] + 1000])  # a second set of a catalog begins there
    live = (torch.rand(len(code)) < 0.8).int()
    return TrieLevel(start, code, live, torch.randint(0, 2**sets, (len(code), 1)) if sets else None)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("out_width", [6, 200])
def test_beam_step(last: bool, out_width: int) -> None:
    level = trie_level(9, 37, 3 if last else 0)
    nodes = torch.stack([torch.randperm(9)[:5].sort().values for _ in range(2)])
    scores = torch.randn(2, 5)
    nodes[0, -1], scores[0, -1] = DEAD, float("-inf")
    logits, widths = torch.randn(2, 5, 37) * 2, torch.tensor([out_width, 4])
    node_filter = None
    if last:
        banned = torch.randint(0, len(level.child_code), (12,), dtype=torch.int32)
        node_filter = NodeFilter(banned, torch.tensor([0, 5, 11]), torch.full((2, 1), 5), torch.tensor([True, False]))
    given = (logits, scores, nodes, level, widths, out_width, node_filter, last)
    got, expected = unfused.beam_step(*given), reference.beam_step(*given)
    torch.testing.assert_close(got.scores, expected.scores, rtol=0, atol=2e-6)
    living = expected.nodes != DEAD
    for name in ("nodes", "parents", "codes"):
        assert torch.equal(getattr(got, name)[living], getattr(expected, name)[living]), name
    assert torch.equal(got.nodes, expected.nodes)
    assert int(living.sum()) > 8


def test_quantize_by_hand() -> None:
    x = normal(3, 256)
    for granularity in ("token", "group"):
        got, expected = unfused.maybe_quantize(x, granularity), quantize(x, granularity)
        assert isinstance(got, Quantized)
        torch.testing.assert_close(got.scale, expected.scale, rtol=1e-5, atol=0)
