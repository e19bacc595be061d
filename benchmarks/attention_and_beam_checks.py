"""Attention, routing and beam kernels against the references in float64, on the GPU, before they are timed."""

import torch
from torch import Tensor

from octorec.kernels import reference
from octorec.kernels.beam_step import beam_step
from octorec.kernels.cross_attention import cross_attention
from octorec.kernels.quantized import Quantized, dequantize, quantize
from octorec.kernels.reference import DEAD, Beams, LeafFilter, TrieLevel
from octorec.kernels.route import route
from octorec.kernels.self_attention import self_attention


def normal(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, device="cuda").to(dtype)


def random_trie(items: int, codes: int, dead: float = 0.01) -> list[TrieLevel]:
    """Three levels of `items` random tuples of codes, on the GPU; `dead` is the share of leaves without a live item."""
    leaves = torch.randint(0, codes**3, (items,), device="cuda").unique()
    alive = (torch.rand(len(leaves), device="cuda") >= dead).int()
    levels = []
    for _ in range(3):
        parents, counts = torch.unique_consecutive(leaves // codes, return_counts=True)
        start = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
        levels.insert(0, TrieLevel(start, (leaves % codes).short(), alive, None))
        alive = torch.segment_reduce(alive.float(), "sum", lengths=counts).int()
        leaves = parents
    return levels


def flat_level(codes: int) -> TrieLevel:
    """One node that every code extends: the beam step without a trie."""
    places = torch.arange(codes, device="cuda")
    return TrieLevel(torch.tensor([0, codes], device="cuda").int(), places.short(), torch.ones_like(places).int(), None)


def random_beams(batch: int, beams: int, level: TrieLevel) -> tuple[Tensor, Tensor]:
    """Scores, and ascending nodes, distinct ones where the level has enough."""
    nodes = len(level.child_start) - 1
    at = [torch.randperm(nodes, device="cuda")[:beams] if nodes >= beams else [0] * beams for _ in range(batch)]
    return torch.randn(batch, beams, device="cuda"), torch.stack(
        [torch.as_tensor(row, device="cuda") for row in at]
    ).sort(1).values


def random_filter(batch: int, level: TrieLevel, nodes: Tensor, banned: int) -> LeafFilter:
    """Bans leaves, half of them below the beams; every second request is limited to one of 64 sets, where there are."""
    leaves = torch.randint(0, len(level.child_code), (batch, banned), device="cuda")
    leaves[:, ::2] = level.child_start[nodes[:, : (banned + 1) // 2]]
    leaves[:, -1] = DEAD
    restricted = torch.arange(batch, device="cuda") % 2 == 1
    return LeafFilter(leaves, torch.full((batch, 1), 5, device="cuda"), restricted)


def check_all(trie: list[TrieLevel]) -> None:
    """Raise AssertionError where a kernel is further from the reference than its rounding explains."""
    torch.manual_seed(1)
    _check_self_attention()
    _check_cross_attention()
    _check_route()
    _check_beams(trie)
    _check_ties()
    torch.cuda.empty_cache()


def _error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


def _check_quantized(got: object, plain: Tensor, granularity: str) -> None:
    """The quantized result is the 16-bit one, quantized, but for last bits: each is compiled with fmas of its own."""
    assert isinstance(got, Quantized)
    expected = quantize(plain, granularity)
    torch.testing.assert_close(got.scale, expected.scale, rtol=8e-3, atol=0)  # two ulp of bfloat16
    assert _error(dequantize(got), dequantize(expected)) < 5e-3, granularity


def _check_self_attention() -> None:
    for heads, width, earlier in ((11, 128, ()), (11, 128, (1,)), (14, 128, (1, 512)), (10, 64, (1, 512))):
        qkv, past = normal(4, 512, 3, heads, width), [normal(4, count, 3, heads, width) for count in earlier]
        ancestors = [torch.randint(0, count, (4, 512), device="cuda") for count in earlier]
        plain = self_attention(qkv, past, ancestors, None)
        exact = reference.self_attention(qkv.double(), [p.double() for p in past], ancestors, None)
        assert _error(plain, exact) < 3e-3, (heads, width, earlier)
        for granularity in ("token", "group"):
            _check_quantized(self_attention(qkv, past, ancestors, granularity), plain, granularity)


def _check_cross_attention() -> None:
    shapes = ((512, 512, 11, 11, 128), (512, 777, 14, 7, 128), (3, 37, 10, 10, 64), (1, 1, 11, 1, 128))
    for beams, items, heads, groups, width in shapes:
        q, keys, values = (
            normal(3, beams, heads, width),
            normal(3, items, groups, width),
            normal(3, items, groups, width),
        )
        lengths = torch.randint(1, items + 1, (3,), device="cuda")
        lengths[0] = items
        for other in (keys, values):
            plain = cross_attention(q, keys, other, lengths, None)
            exact = reference.cross_attention(q.double(), keys.double(), other.double(), lengths, None)
            assert _error(plain, exact) < 6e-3, (beams, items, heads, groups, width)
        for granularity in ("token", "group"):
            _check_quantized(cross_attention(q, keys, values, lengths, granularity), plain, granularity)


def _check_route() -> None:
    x, gate, bias = normal(16384, 1408), normal(53, 1408) * 0.02, torch.randn(53, device="cuda") * 0.1
    got = route(x, gate, bias, 3, 1)
    scores = (x.double() @ gate.double().T).sigmoid()
    chosen, biased = got.experts[:, :3], scores + bias
    worst = biased.gather(1, chosen)
    left = biased.scatter(1, chosen, float("-inf")).amax(1)
    assert (worst.diff(dim=1) <= 1e-5).all()
    assert (left <= worst[:, 2] + 1e-5).all()
    weights = scores.gather(1, chosen)
    torch.testing.assert_close(
        got.weights[:, :3].double(), weights / weights.sum(1, keepdim=True), rtol=1e-4, atol=1e-5
    )
    assert (got.experts[:, 3] == 53).all()
    assert (got.weights[:, 3] == 1).all()


def _check_beams(trie: list[TrieLevel]) -> None:
    """Every level of a large trie, with and without filters, and no trie at all."""
    widths = torch.tensor([512, 300], device="cuda")
    for number, level in enumerate([*trie, flat_level(8192)]):
        scores, nodes = random_beams(2, 1 if number == 0 else 512, level)
        logits = normal(*nodes.shape, 8192, dtype=torch.float32) * 3
        sets = torch.randint(0, 64, (len(level.child_code), 1), device="cuda")
        limited = level._replace(child_sets=sets)
        for where, forbid in ((level, None), (limited, random_filter(2, level, nodes, 65) if number != 3 else None)):
            got = beam_step(logits, scores, nodes, where, widths, 512, forbid)
            exact = reference.beam_step(logits.double(), scores.double(), nodes, where, widths, 512, forbid)
            _assert_agree(got, exact, ascending=forbid is None)


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
    high = torch.rand(2, 512, codes, device="cuda").argsort(-1) < codes // 64  # as many in every row
    logits = torch.where(high, 0.0, -200.0)
    scores = torch.randint(-2, 1, (2, 512), device="cuda").float()
    nodes = torch.arange(512, device="cuda").repeat(2, 1)
    widths = torch.tensor([512, 77], device="cuda")
    for level in (random_trie(2_000_000, 1024)[1], flat_level(codes)):
        at = nodes.clamp(max=len(level.child_start) - 2)
        got = beam_step(logits, scores, at, level, widths, 512)
        expected = reference.beam_step(logits, scores, at, level, widths, 512)
        for name in ("nodes", "parents", "codes"):
            assert torch.equal(getattr(got, name), getattr(expected, name)), name
