"""The operations of language models are those of plain loops, in the references and in stock PyTorch alike."""

import math
from types import ModuleType

import pytest
import torch
from torch import Tensor

from benchmarks import unfused
from octorec.kernels import fused, reference
from octorec.kernels.fused_shapes import Shapes
from octorec.kernels.ops import Kept, Spans
from octorec.kernels.products import card_with
from octorec.training import gpu_ops

B, H, G, D, W = 3, 6, 2, 16, 5
R = 21  # rows of the pool, which belong to requests or to none
FIRST, LENGTHS = torch.tensor([9, 0, 6], dtype=torch.int32), torch.tensor([11, 4, 1], dtype=torch.int32)
EVERY = pytest.mark.parametrize("ops", [reference, gpu_ops, unfused], ids=lambda ops: ops.__name__)


def attended(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One head's query [D] over keys and values [n, D]."""
    return (keys.double() @ q.double() / math.sqrt(D)).softmax(0) @ values.double()


def spans(new: list[int]) -> Spans:
    """The last new[b] tokens of each context are asked for."""
    return Spans(torch.tensor([0, *new]).cumsum(0).int(), FIRST, LENGTHS)


def turns(positions: int, theta: float = 100.0) -> Tensor:
    angles = torch.arange(positions)[:, None] * theta ** (-torch.arange(0, D, 2) / D)
    return torch.cat([angles.cos(), angles.sin()], 1)


@EVERY
@pytest.mark.parametrize("normed", [False, True])
def test_rope_turns_pairs_of_values_by_their_position(ops: ModuleType, normed: bool) -> None:
    torch.manual_seed(0)
    qkv, positions = torch.randn(4, (H + 2 * G) * D), torch.tensor([0, 3, 7, 3])
    norms = (torch.rand(D) + 0.5, torch.rand(D) + 0.5) if normed else None
    q, k, v = ops.rope(qkv, turns(9), positions, H, norms, 1e-6)
    assert (q.shape, k.shape, v.shape) == ((4, H, D), (4, G, D), (4, G, D))
    for row, position in enumerate(positions.tolist()):
        heads = qkv[row].view(H + 2 * G, D)
        assert v[row].equal(heads[H + G :])
        for place, found in enumerate([*q[row], *k[row]]):
            x = heads[place].double()
            if norms is not None:
                x = x / (x.square().mean() + 1e-6).sqrt() * norms[place >= H].double()
            for d in range(D // 2):
                angle = position * 100.0 ** (-2 * d / D)
                turned = complex(x[d], x[d + D // 2]) * complex(math.cos(angle), math.sin(angle))
                assert complex(found[d], found[d + D // 2]) == pytest.approx(turned, abs=1e-5)


@EVERY
def test_keys_and_values_are_kept_in_rows_of_a_pool(ops: ModuleType) -> None:
    torch.manual_seed(0)
    qkv, positions, rows = torch.randn(4, (H + 2 * G) * D), torch.tensor([0, 3, 7, 3]), torch.tensor([5, 2, 9, 0])
    pools = torch.full((11, G, D), 7.0), torch.full((11, G, D), 8.0)
    q, k, v = ops.rope(qkv, turns(9), positions, H, None, 1e-6)
    found = ops.rope(qkv, turns(9), positions, H, None, 1e-6, Kept(*pools, rows))
    assert found[0].equal(q)
    for pool, returned, new, before in zip(pools, found[1:], (k, v), (7.0, 8.0), strict=True):
        assert returned is pool
        assert pool[rows].equal(new)
        assert pool.index_fill(0, rows, before).eq(before).all()


@EVERY
@pytest.mark.parametrize("new", [[11, 4, 1], [3, 4, 1], [10, 1, 1], [0, 2, 0]], ids=str)
def test_a_prompts_token_attends_to_itself_and_those_before_it(ops: ModuleType, new: list[int]) -> None:
    torch.manual_seed(0)
    q, keys, values = torch.randn(sum(new) + 2, H, D), torch.randn(R, G, D), torch.randn(R, G, D)  # two are padding
    out = ops.prefill_attention(q, keys, values, spans(new), None).view(-1, H, D)
    assert out.isfinite().all()
    row = 0
    for first, length, count in zip(FIRST.tolist(), LENGTHS.tolist(), new, strict=True):
        for end in range(first + length - count + 1, first + length + 1):
            for h in range(H):
                expected = attended(q[row, h], keys[first:end, h * G // H], values[first:end, h * G // H])
                torch.testing.assert_close(out[row, h], expected.float(), atol=1e-5, rtol=1e-5)
            row += 1


def beams(positions: int, dtype: torch.dtype = torch.float32) -> tuple[object, ...]:
    """What a beam attends with and to, with `positions` of its own before it."""
    torch.manual_seed(0)
    pair = lambda *shape: (torch.randn(*shape).to(dtype), torch.randn(*shape).to(dtype))  # noqa: E731
    past = [pair(B, place + 1, G, D) for place in range(positions)]
    ancestors = [torch.randint(0, place + 1, (B, W)) for place in range(positions)]
    q, own, pools = torch.randn(B, W, H, D).to(dtype), pair(B, W, G, D), pair(R, G, D)
    return q, *own, past, ancestors, *pools, FIRST, LENGTHS, None


@EVERY
@pytest.mark.parametrize("positions", [0, 1, 3])
def test_a_beam_attends_to_its_context_and_its_own_ancestors_in_one_softmax(ops: ModuleType, positions: int) -> None:
    given = beams(positions)
    q, k, v, past, ancestors, keys, values, *_ = given
    out = ops.beam_attention(*given).view(B, W, H, D)
    for b in range(B):
        for w in range(W):
            for h in range(H):
                g, there = h * G // H, slice(FIRST[b], FIRST[b] + LENGTHS[b])
                mine = [left[b, beam[b, w], g] for (left, _), beam in zip(past, ancestors, strict=True)] + [k[b, w, g]]
                theirs = [left[b, beam[b, w], g] for (_, left), beam in zip(past, ancestors, strict=True)]
                all_k = torch.cat([keys[there, g], torch.stack(mine)])
                all_v = torch.cat([values[there, g], torch.stack([*theirs, v[b, w, g]])])
                expected = attended(q[b, w, h], all_k, all_v).float()
                torch.testing.assert_close(out[b, w, h], expected, atol=1e-5, rtol=1e-5)


@EVERY
def test_a_score_is_not_rounded_to_16_bit(ops: ModuleType) -> None:
    given = beams(2, torch.bfloat16)
    wide = [t.float() if isinstance(t, Tensor) and t.is_floating_point() else t for t in given]
    wide[3] = [tuple(t.float() for t in pair) for pair in given[3]]
    found, expected = ops.beam_attention(*given), reference.beam_attention(*wide)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=1e-2, rtol=2**-8)


@EVERY
@pytest.mark.parametrize("vocabulary", [1, 977, 2**14 + 3])
def test_the_log_norm_is_of_the_whole_vocabulary(ops: ModuleType, vocabulary: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(7, 16), torch.randn(vocabulary, 16)
    expected = (x.double() @ weight.double().T).logsumexp(-1).float()
    torch.testing.assert_close(ops.log_norm(x, weight), expected, atol=1e-5, rtol=1e-6)


def test_shapes_need_no_value() -> None:
    """On meta tensors, which have none: so a search's memory can be counted before there is any."""
    ops = Shapes(card_with((9, 0)))
    given = beams(2)
    meta = [t.to("meta") if isinstance(t, Tensor) else t for t in given]
    meta[3] = [tuple(t.to("meta") for t in pair) for pair in given[3]]
    meta[4] = [t.to("meta") for t in given[4]]
    assert ops.beam_attention(*meta).shape == (B * W, H * D)
    x = torch.empty(4, (H + 2 * G) * D, device="meta")
    assert ops.rope(x, torch.empty(9, D, device="meta"), x[:, 0].long(), H, None, 1e-6)[0].shape == (4, H, D)


@pytest.mark.gpu
def test_on_a_gpu_they_run_in_a_graph_and_agree_with_the_references() -> None:
    given = beams(2, torch.bfloat16)
    there = [t.cuda() if isinstance(t, Tensor) else t for t in given]
    there[3], there[4] = [tuple(t.cuda() for t in pair) for pair in given[3]], [t.cuda() for t in given[4]]
    weight = torch.randn(2**14 + 3, H * D, device="cuda").bfloat16()
    qkv, positions = torch.randn(11, (H + 2 * G) * D, device="cuda").bfloat16(), torch.arange(11, device="cuda")

    def run() -> list[Tensor]:
        out = fused.beam_attention(*there)
        return [out, fused.log_norm(out, weight), *fused.rope(qkv, angles, positions, H, None, 1e-6)]

    angles = turns(11).cuda()
    eager, graph = run(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    graph.replay()
    for found, expected in zip(captured, eager, strict=True):
        assert found.equal(expected)
    torch.testing.assert_close(eager[0].cpu(), reference.beam_attention(*given), atol=2e-2, rtol=2**-7)
    log_norm = reference.log_norm(eager[0].cpu(), weight.cpu())
    torch.testing.assert_close(eager[1].cpu(), log_norm, atol=1e-3, rtol=1e-4)
    theirs = reference.rope(qkv.cpu(), turns(11), torch.arange(11), H, None, 1e-6)
    for found, expected in zip(eager[2:], theirs, strict=True):
        torch.testing.assert_close(found.cpu(), expected, atol=1e-2, rtol=2**-7)
