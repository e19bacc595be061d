"""The kernels against the references, mostly in float64, on the GPU: what is wrong is not timed.

A check raises AssertionError where a kernel is further off than its rounding explains.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import kernel_inputs as inputs
from benchmarks.kernel_inputs import cast, normal
from octorec.kernels import fused, reference
from octorec.kernels.fp8 import Quantized, dequantize, quantize
from octorec.kernels.ops import DEAD, Beams, Operand, TrieLevel


def relative_error(got: Operand, expected: Tensor) -> float:
    """The root of the sum of squared differences, over that of the expected values."""
    got = dequantize(got) if isinstance(got, Quantized) else got
    return float((got.double() - expected.double()).norm() / expected.double().norm())


def _check_quantized(got: Operand, plain: Operand, granularity: str) -> None:
    """The quantized result is the 16-bit one, quantized, but for last bits: each is compiled with fmas of its own."""
    assert isinstance(got, Quantized)
    assert isinstance(plain, Tensor)
    expected = quantize(plain, granularity)  # type: ignore[arg-type]
    torch.testing.assert_close(got.scale, expected.scale, rtol=8e-3, atol=0)  # two ulp of bfloat16
    assert relative_error(got, dequantize(expected)) < 5e-3, granularity


def check_cast(_: list[TrieLevel]) -> None:
    x = normal(512, 1408)
    for granularity in ("token", "group"):
        got, expected = cast(x, granularity), quantize(x, granularity)
        assert torch.equal(got.values.view(torch.uint8), expected.values.view(torch.uint8)), granularity
        assert torch.equal(got.scale, expected.scale), granularity


def check_norm(_: list[TrieLevel]) -> None:
    x, weight = normal(512, 1408), normal(1408)
    plain = fused.rms_norm(x, weight, 1e-6)
    assert relative_error(plain, F.rms_norm(x.double(), (1408,), weight.double(), 1e-6)) < 3e-3
    _check_quantized(fused.rms_norm(x, weight, 1e-6, "token"), plain, "token")


def check_swiglu(_: list[TrieLevel]) -> None:
    x = normal(512, 2 * 5632)
    plain = fused.swiglu(x, None)
    gate, up = x.double().chunk(2, -1)
    assert relative_error(plain, F.silu(gate) * up) < 3e-3
    _check_quantized(fused.swiglu(x, "token"), plain, "token")


def check_linear(_: list[TrieLevel]) -> None:
    for n, k in ((1408, 1408), (1408, 5632)):
        x, weight = cast(normal(512, k), "token"), cast(normal(n, k, std=0.02), "channel")
        residual = normal(512, n, std=0.1)
        exact = dequantize(x).double() @ dequantize(weight).double().T
        assert relative_error(fused.linear(x, weight), exact) < 4e-3, (n, k)
        assert relative_error(fused.linear(x, weight, residual.clone()), exact + residual) < 4e-3, (n, k)


def check_moe(_: list[TrieLevel]) -> None:
    """Compare with the reference, which quantizes hidden rows too; sums of 14 bits move some to the next E4M3 value."""
    x, residual = normal(512, 1408), normal(512, 1408, std=0.1)
    gate_up, down = normal(54, 2816, 1408, std=0.02), normal(54, 1408, 1408, std=0.02)
    routing = inputs.random_routing(512, 53, 3, 1, torch.ones(53))
    blocks = cast(gate_up, "block"), cast(down, "block")
    for weights, granularity in (((gate_up, down), None), (blocks, "group")):
        got = fused.moe(x, routing, *weights, granularity, residual.clone())
        assert relative_error(got, reference.moe(x, routing, *weights, granularity, residual)) < 8e-3, granularity


def check_head(_: list[TrieLevel]) -> None:
    x, weight = normal(512, 1408), normal(8192, 1408, std=0.02)
    got = fused.head(x, weight)
    assert got.dtype == torch.float32
    assert relative_error(got, x.double() @ weight.double().T) < 2e-5


def check_self_attention(_: list[TrieLevel]) -> None:
    for heads, width, earlier in ((11, 128, (1, 512)), (10, 64, (1,))):
        given = inputs.random_self(4, 512, heads, width, earlier)
        plain = fused.self_attention(*given, None)
        qkv, past, ancestors = given
        exact = reference.self_attention(qkv.double(), [p.double() for p in past], ancestors, None)
        assert isinstance(exact, Tensor)
        assert relative_error(plain, exact) < 3e-3, (heads, width, earlier)
        _check_quantized(fused.self_attention(*given, "token"), plain, "token")


def check_cross_attention(_: list[TrieLevel]) -> None:
    for beams, items, heads, width in ((512, 512, 11, 128), (37, 777, 11, 128), (1, 1, 10, 64)):
        q, keys, values, lengths = inputs.random_cross(3, beams, items, heads, width)
        lengths = torch.randint(1, items + 1, (3,), device=lengths.device)
        plain = fused.cross_attention(q, keys, values, lengths, None)
        exact = reference.cross_attention(q.double(), keys.double(), values.double(), lengths, None)
        assert isinstance(exact, Tensor)
        assert relative_error(plain, exact) < 6e-3, (beams, items, heads, width)
        _check_quantized(fused.cross_attention(q, keys, values, lengths, "token"), plain, "token")


def check_route(_: list[TrieLevel]) -> None:
    x, gate, bias = normal(16384, 1408), normal(53, 1408, std=0.02), normal(53, std=0.1, dtype=torch.float32)
    got = fused.route(x, gate, bias, 3, 1)
    scores = (x.double() @ gate.double().T).sigmoid()
    chosen, biased = got.experts[:, :3], scores + bias
    worst = biased.gather(1, chosen)
    left = biased.scatter(1, chosen, float("-inf")).amax(1)
    assert (worst.diff(dim=1) <= 1e-5).all()
    assert (left <= worst[:, 2] + 1e-5).all()
    weights = scores.gather(1, chosen)
    expected = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(got.weights[:, :3].double(), expected, rtol=1e-4, atol=1e-5)
    assert (got.experts[:, 3] == 53).all()
    assert (got.weights[:, 3] == 1).all()


def check_beam_step(trie: list[TrieLevel]) -> None:
    """Every level of a large trie, with and without filters, and no trie at all."""
    widths = torch.tensor([512, 300], device=inputs.DEVICE)
    for number, level in enumerate([*trie, inputs.flat_level(8192)]):
        scores, nodes = inputs.random_beams(2, 1 if number == 0 else 512, level)
        logits = normal(*nodes.shape, 8192, dtype=torch.float32) * 3
        sets = torch.randint(0, 64, (len(level.child_code), 1), device=inputs.DEVICE)
        limited = level._replace(child_sets=sets)
        banned = inputs.random_filter(2, level, nodes, 65) if number != 3 else None
        for where, forbid in ((level, None), (limited, banned)):
            got = fused.beam_step(logits, scores, nodes, where, widths, 512, forbid, forbid is not None)
            exact = reference.beam_step(
                logits.double(), scores.double(), nodes, where, widths, 512, forbid, forbid is not None
            )
            _assert_agree(got, exact, ascending=forbid is None)
    _check_ties()


def _assert_agree(got: Beams, expected: Beams, ascending: bool) -> None:
    """The same beams up to rounding at the threshold, with the same totals, in the right order."""
    for request in range(len(got.nodes)):
        ours, theirs = _by_candidate(got, request), _by_candidate(expected, request)
        assert len(ours) == len(theirs)
        last = min(theirs.values())
        for key in ours.keys() & theirs.keys():
            assert abs(ours[key] - theirs[key]) < 2e-5, key
        for key in ours.keys() ^ theirs.keys():
            assert abs({**ours, **theirs}[key] - last) < 2e-5, key
        living = got.nodes[request] != DEAD
        places = [field[request][living].tolist() for field in (-got.scores, got.parents, got.codes)]
        order = list(zip(*(places[1:] if ascending else places), strict=True))
        assert order == sorted(order)


def _by_candidate(beams: Beams, request: int) -> dict[tuple[int, int, int], float]:
    """(node, parent, code) of each living beam -> its score."""
    node, parent, code, score = (
        field[request].tolist() for field in (beams.nodes, beams.parents, beams.codes, beams.scores)
    )
    return {(n, p, c): s for n, p, c, s in zip(node, parent, code, score, strict=True) if n != DEAD}


def _check_ties() -> None:
    """Totals that are exactly equal in thousands go as in the reference."""
    codes = 8192
    high = torch.rand(2, 512, codes, device=inputs.DEVICE).argsort(-1) < codes // 64  # as many in every row
    logits = torch.where(high, 0.0, -200.0)
    scores = torch.randint(-2, 1, (2, 512), device=inputs.DEVICE).float()
    nodes = torch.arange(512, device=inputs.DEVICE).repeat(2, 1)
    widths = torch.tensor([512, 77], device=inputs.DEVICE)
    for level in (inputs.random_trie(2_000_000, 1024)[1], inputs.flat_level(codes)):
        at = nodes.clamp(max=len(level.child_start) - 2)
        got = fused.beam_step(logits, scores, at, level, widths, 512)
        expected = reference.beam_step(logits, scores, at, level, widths, 512)
        for name in ("nodes", "parents", "codes"):
            assert torch.equal(getattr(got, name), getattr(expected, name)), name


CHECKS: dict[str, Callable[[list[TrieLevel]], None]] = {
    "cast": check_cast,
    "norm": check_norm,
    "swiglu": check_swiglu,
    "linear": check_linear,
    "route": check_route,
    "moe": check_moe,
    "self_attention": check_self_attention,
    "cross_attention": check_cross_attention,
    "head": check_head,
    "beam_step": check_beam_step,
}
