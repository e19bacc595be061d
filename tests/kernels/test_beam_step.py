"""The beam step: against a sort of all candidates in float64, and bit for bit against the reference on exact totals."""

from dataclasses import replace

import pytest
import sm90
import torch

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.beam_step import beam_step
from octorec.kernels.beam_tiling import Tiling, tiling_for
from octorec.kernels.ops import DEAD, Beams, NodeFilter, TrieLevel

INF = float("inf")
SMALL = Tiling(tile=8, subtile=4, block=64, chunk=16)  # several tiles and chunks on a few dozen codes
Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, TrieLevel]


def trie_level(nodes: int, codes: int, share: float, live: float = 1.0, sets: int = 0) -> TrieLevel:
    """A level of `nodes` nodes with each code a child at `share`, of which `live` have items, in `sets` random sets."""
    has = torch.rand(nodes, codes) < share
    start = torch.cat([torch.zeros(1), has.sum(1).cumsum(0)]).int()
    code = has.nonzero()[:, 1].to(torch.int16)
    counts = (torch.rand(len(code)) < live).int() * torch.randint(1, 4, (len(code),)).int()
    words = torch.randint(0, 2**sets, (len(code), 1)) if sets else None
    return TrieLevel(start, code, counts, words)


def inputs(batch: int, beams: int, codes: int, level: TrieLevel, dead: int = 0) -> Inputs:
    """Random logits and beams on distinct nodes of `level`; the first request's last `dead` beams are dead."""
    nodes = torch.stack([torch.randperm(len(level.child_start) - 1)[:beams].sort().values for _ in range(batch)])
    scores = torch.randn(batch, beams)
    if dead:
        nodes[0, -dead:] = DEAD
        scores[0, -dead:] = -INF
    return torch.randn(batch, beams, codes) * 2, scores, nodes, level


def exact(batch: int, beams: int, codes: int, level: TrieLevel, dead: int = 0) -> Inputs:
    """Inputs whose totals are equal where they should be: each row's sum of exponentials is the same whole number."""
    _, scores, nodes, _ = inputs(batch, beams, codes, level, dead)
    high = torch.randperm(codes) < codes // 2
    logits = torch.where(torch.stack([high[torch.randperm(codes)] for _ in range(batch * beams)]), 0.0, -200.0)
    return logits.view(batch, beams, codes), scores.round(), nodes, level


def on(device: str, *tensors: torch.Tensor | TrieLevel | NodeFilter | None) -> list:
    """Tensors, and tuples of them, on `device`."""
    return [None if t is None else t.to(device) if hasattr(t, "to") else type(t)(*on(device, *t)) for t in tensors]


def run(given: Inputs, widths: list[int], out_width: int, node_filter: NodeFilter | None, device: str, tiling=SMALL):  # type: ignore[no-untyped-def]
    *tensors, level, filtered = on(device, *given, node_filter)
    given_widths = torch.tensor(widths, device=device)
    beams = beam_step(*tensors, level, given_widths, out_width, filtered, node_filter is not None, tiling)
    return Beams(*(field.cpu() for field in beams))


def candidates(given: Inputs, request: int, node_filter: NodeFilter | None) -> list[tuple[float, int, int, int]]:
    """All that one request may extend to: (total in float64, node, parent, code), in ascending prefix order."""
    logits, scores, nodes, level = given
    found = []
    log_p = logits[request].double().log_softmax(-1) + scores[request].double()[:, None]
    for beam, node in enumerate(nodes[request].tolist()):
        if node == DEAD:
            continue
        for child in range(int(level.child_start[node]), int(level.child_start[node + 1])):
            ok = level.child_live[child] > 0
            if node_filter is not None:
                first, end = node_filter.first[request : request + 2].tolist()
                ok &= child not in node_filter.banned[first:end].tolist()
                if level.child_sets is not None and node_filter.restricted[request]:
                    ok &= bool((level.child_sets[child] & node_filter.allowed_sets[request]).any())
            if ok:
                code = int(level.child_code[child])
                found.append((float(log_p[beam, code]), child, beam, code))
    return found


def assert_best(got: Beams, given: Inputs, widths: list[int], node_filter: NodeFilter | None = None) -> None:
    """`got` are the best, in the right order; a candidate within rounding of the last may stand for another."""
    for request, width in enumerate(widths):
        all_of = candidates(given, request, node_filter)
        by_node = {node: (total, parent, code) for total, node, parent, code in all_of}
        count = min(width, len(all_of))
        scores, nodes, parents, codes = (field[request].tolist() for field in got[:-1])
        assert nodes[count:] == [DEAD] * (len(nodes) - count)
        assert scores[count:] == [-INF] * (len(nodes) - count)
        assert parents[count:] == codes[count:] == [0] * (len(nodes) - count)
        chosen = nodes[:count]
        assert [by_node[node][1:] for node in chosen] == list(zip(parents, codes, strict=True))[:count]
        assert all(abs(by_node[node][0] - score) < 1e-5 for node, score in zip(chosen, scores, strict=False))
        assert len(set(chosen)) == count
        lowest = min(scores[:count], default=-INF)
        others = [total for total, node, *_ in all_of if node not in chosen]
        assert all(total <= lowest + 1e-5 for total in others)
        assert float(got.dropped[request]) == pytest.approx(max(others, default=-INF), abs=1e-5)
        order = [node if node_filter is None else (-score, node) for score, node in zip(scores, nodes, strict=True)]
        assert order[:count] == sorted(order[:count])


def assert_equal(got: Beams, expected: Beams) -> None:
    for field in ("scores", "dropped"):
        torch.testing.assert_close(getattr(got, field), getattr(expected, field), rtol=0, atol=2e-6, equal_nan=True)
    for field in ("nodes", "parents", "codes"):
        assert torch.equal(getattr(got, field), getattr(expected, field)), field


@pytest.mark.parametrize("share", [0.02, 0.4, 1.1], ids=["sparse", "half", "dense"])
@pytest.mark.parametrize("live", [1.0, 0.3])
def test_the_best_of_random_scores(share: float, live: float, device: str) -> None:
    given = inputs(2, 5, 37, trie_level(9, 37, share, live), dead=1)
    assert_best(run(given, [8, 5], 8, None, device), given, [8, 5])


@pytest.mark.parametrize("share", [0.4, 1.1], ids=["half", "dense"])
@pytest.mark.parametrize("live", [1.0, 0.3])
def test_ties_go_as_in_the_reference(share: float, live: float, device: str) -> None:
    given = exact(2, 4, 32, trie_level(6, 32, share, live), dead=1)
    widths = [11, 6]
    assert_equal(run(given, widths, 11, None, device), reference.beam_step(*given, torch.tensor(widths), 11))


def test_all_candidates_equal(device: str) -> None:
    logits, scores, nodes, level = inputs(1, 4, 32, trie_level(4, 32, 1.1))
    given = (torch.zeros_like(logits), torch.zeros_like(scores), nodes, level)
    got = run(given, [10], 10, None, device)
    assert got.nodes.tolist() == [list(range(10))]
    assert got.parents.tolist() == [[0] * 10]


def test_the_first_level_has_one_beam_and_fewer_candidates_than_places(device: str) -> None:
    given = inputs(2, 1, 20, trie_level(1, 20, 0.7))
    assert_best(run(given, [32, 3], 32, None, device), given, [32, 3])


def test_no_candidate_at_all(device: str) -> None:
    given = inputs(1, 3, 20, trie_level(3, 20, 0.5, live=0.0))
    got = run(given, [4], 4, None, device)
    assert_best(got, given, [4])
    assert (got.nodes == DEAD).all()


def test_the_default_tiling_on_a_narrow_codebook(device: str) -> None:
    given = inputs(1, 3, 300, trie_level(4, 300, 0.6))
    assert_best(run(given, [3], 3, None, device, tiling=None), given, [3])


def test_logits_in_more_than_one_block(device: str) -> None:
    given = inputs(1, 3, 50, trie_level(4, 50, 1.1))
    whole = run(given, [6], 6, None, device)
    in_blocks = run(given, [6], 6, None, device, Tiling(tile=8, subtile=2, block=16, chunk=8))
    assert_best(in_blocks, given, [6])
    assert torch.equal(in_blocks.nodes, whole.nodes)


def node_filter(level: TrieLevel, banned: list[list[int]], sets: list[int]) -> NodeFilter:
    """Bans leaves, and limits a request to the sets of a mask where that is not 0."""
    first = torch.tensor([0, *map(len, banned)]).cumsum(0)
    allowed = torch.tensor(sets)[:, None]
    flat = torch.tensor([node for row in banned for node in row] + [0], dtype=torch.int32)  # the last is nobody's
    return NodeFilter(flat, first, allowed, allowed[:, 0] != 0)


@pytest.mark.parametrize("share", [0.4, 1.1], ids=["half", "dense"])
def test_banned_leaves(share: float, device: str) -> None:
    given = inputs(2, 4, 32, trie_level(4, 32, share))
    best = run(given, [8, 8], 8, None, device).nodes
    leaves = given[3].child_start.tolist()
    banned = [best[0, [5, 1, 6]].tolist(), list(range(leaves[1], leaves[2]))[::-1]]  # unsorted; all of a node
    forbid = node_filter(given[3], banned, [0, 0])
    got = run(given, [8, 8], 8, forbid, device)
    assert not set(banned[0]) & set(got.nodes[0].tolist())
    assert_best(got, given, [8, 8], forbid)


def test_banned_leaves_at_the_ends_of_tiles_and_chunks(device: str) -> None:
    logits, *rest, level = inputs(1, 2, 32, trie_level(2, 32, 1.1))
    ends = [0, 7, 8, 15, 16, 31]
    logits[:, :, ends] += 9
    given = (logits, *rest, level)
    forbid = node_filter(level, [[beam * 32 + code for beam in range(2) for code in ends]], [0])
    assert_best(run(given, [8], 8, forbid, device), given, [8], forbid)


def test_an_inner_level_keeps_out_what_is_banned_and_stays_in_prefix_order(device: str) -> None:
    given = inputs(3, 4, 32, trie_level(6, 32, 0.5, live=0.7, sets=2))
    forbid = node_filter(given[3], [[], list(range(0, 60, 2)), [7]], [0, 1, 2])
    widths = torch.tensor([9, 9, 4])
    expected = reference.beam_step(*given, widths, 9, forbid)
    *tensors, level, filtered = on(device, *given, forbid)
    got = Beams(*(field.cpu() for field in beam_step(*tensors, level, widths.to(device), 9, filtered, tiling=SMALL)))
    assert_equal(got, expected)
    for request in range(3):
        may = {node for _, node, _, _ in candidates(given, request, forbid)}
        nodes = [node for node in got.nodes[request].tolist() if node != DEAD]
        assert nodes == sorted(nodes)
        assert set(nodes) <= may
        assert len(nodes) == min(len(may), int(widths[request]))


@pytest.mark.parametrize("share", [0.4, 1.1], ids=["half", "dense"])
def test_allowed_sets(share: float, device: str) -> None:
    given = inputs(3, 4, 32, trie_level(6, 32, share, live=0.7, sets=3))
    forbid = node_filter(given[3], [[], [2, 3], []], [4, 0, 1])
    assert_best(run(given, [9, 9, 2], 9, forbid, device), given, [9, 9, 2], forbid)


def test_the_last_level_with_nothing_forbidden(device: str) -> None:
    given = inputs(1, 3, 20, trie_level(4, 20, 0.7))
    forbid = node_filter(given[3], [[]], [0])
    assert_best(run(given, [7], 7, forbid, device), given, [7], forbid)


def test_ties_at_the_last_level_go_as_in_the_reference(device: str) -> None:
    given = exact(2, 3, 32, trie_level(5, 32, 0.7, live=0.7, sets=2), dead=1)
    forbid = node_filter(given[3], [[0, 5, 9], [7]], [2, 0])
    widths = [9, 5]
    expected = reference.beam_step(*given, torch.tensor(widths), 9, forbid, ranked=True)
    assert_equal(run(given, widths, 9, forbid, device), expected)


def test_more_banned_leaves_than_are_read_at_once(device: str) -> None:
    given = inputs(1, 2, 16, trie_level(2, 16, 1.1))
    banned = torch.full((700,), 999, dtype=torch.int32)
    banned[[0, 600, 699]] = torch.tensor([3, 17, 30], dtype=torch.int32)
    forbid = NodeFilter(
        banned, torch.tensor([0, 700]), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool)
    )
    got = run(given, [32], 32, forbid, device)
    assert sorted(got.nodes[0].tolist()) == [n for n in range(32) if n not in (3, 17, 30)] + [DEAD] * 3


NAN = float("nan")


def broken_inputs(place: tuple[int, int, int], logit: float, dead: int = 0) -> Inputs:
    """Two requests, one logit of which is no number."""
    logits, *rest = inputs(2, 3, 20, trie_level(5, 20, 0.6), dead)
    logits[place] = logit
    return (logits, *rest)


def assert_told(got: Beams, request: int) -> None:
    assert got.scores[request].isnan().all()
    assert (got.nodes[request] == DEAD).all()
    assert not got.parents[request].any()
    assert not got.codes[request].any()


@pytest.mark.parametrize("last", [False, True], ids=["inner level", "last level"])
@pytest.mark.parametrize(
    ("logit", "beam", "code"), [(NAN, 0, 19), pytest.param(INF, 2, 19, marks=pytest.mark.slow), (-INF, 1, 3)]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_logit_that_is_no_number_is_told_of_its_request_alone(
    logit: float, beam: int, code: int, last: bool, device: str
) -> None:
    given = broken_inputs((1, beam, code), logit)
    forbid = node_filter(given[3], [[0, 5], [1]], [0, 0]) if last else None
    expected = reference.beam_step(*given, torch.tensor([4, 3]), 4, forbid, ranked=last)
    assert_told(expected, 1)
    assert not expected.scores[0].isnan().any()
    in_blocks = Tiling(tile=8, subtile=4, block=16, chunk=16)
    assert_equal(run(given, [4, 3], 4, forbid, device, in_blocks), expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_row_of_minus_infinity_alone_is_told(device: str) -> None:
    given = inputs(2, 1, 20, trie_level(1, 20, 0.7))
    given[0][1] = -INF
    assert_told(run(given, [4, 4], 4, None, device), 1)
    assert_told(reference.beam_step(*given, torch.tensor([4, 4]), 4), 1)


def test_a_bad_logit_counts_also_where_the_trie_has_no_child(device: str) -> None:
    level = TrieLevel(torch.tensor([0, 2]).int(), torch.tensor([0, 1]).short(), torch.tensor([1, 1]).int(), None)
    logits = torch.zeros(1, 1, 9)
    logits[0, 0, 8] = NAN
    given = (logits, torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64), level)
    assert_told(run(given, [4], 4, None, device), 0)
    assert_told(reference.beam_step(*given, torch.tensor([4]), 4), 0)


@pytest.mark.parametrize("logit", [NAN, INF])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_a_dead_beams_row_holds_does_not_matter(logit: float, device: str) -> None:
    given = broken_inputs((0, 2, 7), logit, dead=1)
    got = run(given, [4, 4], 4, None, device)
    assert_equal(got, reference.beam_step(*given, torch.tensor([4, 4]), 4))
    given[0][0, 2] = 0.0
    assert_best(got, given, [4, 4])


@pytest.mark.parametrize("last", [False, True], ids=["inner level", "last level"])
def test_what_was_told_once_is_told_at_every_level_after(last: bool, device: str) -> None:
    logits, scores, nodes, level = inputs(2, 3, 20, trie_level(5, 20, 0.6))
    scores[0], nodes[0] = NAN, DEAD
    forbid = node_filter(level, [[], []], [0, 0]) if last else None
    given = (logits, scores, nodes, level)
    expected = reference.beam_step(*given, torch.tensor([4, 4]), 4, forbid, ranked=last)
    for got in (run(given, [4, 4], 4, forbid, device), expected):
        assert_told(got, 0)
        assert not got.scores[1].isnan().any()


def test_a_request_gets_the_same_alone_and_at_its_own_width(device: str) -> None:
    logits, scores, nodes, level = inputs(3, 4, 32, trie_level(8, 32, 0.5))
    together = run((logits, scores, nodes, level), [8, 3, 8], 8, None, device)
    alone = run((logits[1:2].clone(), scores[1:2], nodes[1:2], level), [3], 3, None, device)
    for field, single in zip(together[:-1], alone[:-1], strict=True):
        assert torch.equal(field[1, :3], single[0])
    assert together.dropped[1] == alone.dropped[0]


def test_does_not_depend_on_the_tiling(device: str) -> None:
    given = exact(1, 3, 40, trie_level(4, 40, 0.8))
    first = run(given, [9], 9, None, device)
    second = run(given, [9], 9, None, device, Tiling(tile=16, subtile=2, block=64, chunk=32))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("parts", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_parts_of_the_tiles_give_what_all_at_once_give(parts: int, device: str) -> None:
    """The last part is short, and wide enough to hold all of the best; where K is large, parts hold fewer than that."""
    for width in (3, 30):
        given = exact(2, 5, 40, trie_level(8, 40, 0.7), dead=1)
        whole = run(given, [width, 2], width, None, device)
        apart = run(given, [width, 2], width, None, device, replace(SMALL, parts=parts))
        assert all(torch.equal(a, b) for a, b in zip(whole, apart, strict=True))
        assert (whole.dropped > -INF).any()


def test_tiles_grow_with_the_candidates_and_end_in_a_refusal() -> None:
    assert tiling_for(512, 8192, 512) == Tiling(tile=256)
    assert tiling_for(512, 16384, 512).tile == 512
    assert tiling_for(1024, 8192, 1024) == Tiling(tile=256, parts=2)
    assert tiling_for(1024, 16384, 1024) == Tiling(tile=256, parts=4)
    with pytest.raises(InputError, match="beam_width"):
        tiling_for(4096, 8192, 4096)


def launch(batch: int, beams: int, codes: int, last: bool) -> None:
    def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")

    nodes, longs = 10_000_000, torch.int64
    level = TrieLevel(
        meta(nodes + 1, dtype=torch.int32),
        meta(nodes, dtype=torch.int16),
        meta(nodes, dtype=torch.int32),
        meta(nodes, 2, dtype=longs) if last else None,
    )
    banned, first = meta(batch * 64, dtype=torch.int32), meta(batch + 1, dtype=longs)
    forbid = NodeFilter(banned, first, meta(batch, 2, dtype=longs), meta(batch, dtype=torch.bool))
    at = (meta(batch, beams, codes), meta(batch, beams), meta(batch, beams, dtype=longs))
    beam_step(*at, level, meta(batch, dtype=longs), max(beams, 512), forbid if last else None, last)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [90, 89])
@pytest.mark.parametrize(
    "shape", [(1, 8192, False), (512, 8192, False), (512, 8192, True), (512, 16384, True), (1024, 8192, True)], ids=str
)
def test_machine_code(shape: tuple[int, int, bool], capability: int) -> None:
    found = sm90.compile_launches(launch, 32, *shape, capability=capability)
    assert [code.name for code in found] == [
        "_scan_rows", "_choose_tiles", *["_choose_among_parts"] * (shape[0] == 1024), "_read_tiles",
        "_choose_candidates", *["_rank"] * shape[2],
    ]  # fmt: skip
    for code in found:
        assert code.spills == 0, code
        assert code.shared <= sm90.MAX_SHARED[capability]


@pytest.mark.gpu
def test_replayed_in_a_graph_with_other_inputs(device: str) -> None:
    level = trie_level(40, 256, 0.5)
    before, after = inputs(4, 32, 256, level), inputs(4, 32, 256, level)
    *tensors, on_gpu = on(device, *before)
    widths = torch.full((4,), 32, device=device)
    beam_step(*tensors, on_gpu, widths, 32)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = beam_step(*tensors, on_gpu, widths, 32)
    for static, new in zip(tensors, after[:3], strict=True):
        static.copy_(new)
    graph.replay()
    assert_best(Beams(*(field.cpu() for field in out)), after, [32] * 4)


@pytest.mark.gpu
def test_1024_beams_over_8192_codes_are_the_best(device: str) -> None:
    given = exact(2, 1024, 8192, trie_level(1100, 8192, 0.3))
    expected = reference.beam_step(*given, torch.tensor([1024, 700]), 1024)
    assert_equal(run(given, [1024, 700], 1024, None, device, None), expected)
