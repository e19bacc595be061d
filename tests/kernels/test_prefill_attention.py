"""Tokens of packed prompts attend to those before them, against the reference."""

import pytest
import sm90
import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels import reference, stock
from octorec.kernels.fp8 import Quantized, dequantize, quantize
from octorec.kernels.ops import Spans
from octorec.kernels.prefill_attention import prefill_attention
from octorec.kernels.products import HOPPER, Tiling

SMALL = Tiling(rows=16, items=16, warps=4, stages=2)
SHAPES = {  # lengths of contexts, how many of each are new, rows of padding, H, G, D
    "one token": ([1], [1], 0, 2, 2, 64),
    "whole prompts": ([37, 16, 1], [37, 16, 1], 3, 4, 2, 16),
    "whole tiles": ([32, 48], [32, 16], 16, 2, 1, 64),
    "all but a token kept": ([37, 1, 33, 16], [1, 1, 1, 1], 0, 6, 2, 64),
    "nothing new between": ([40, 9, 20], [19, 0, 18], 1, 3, 3, 128),
}


def inputs(
    lengths: list[int], new: list[int], padding: int, heads: int, groups: int, width: int, device: str,
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[Tensor, Tensor, Tensor, Spans]:  # fmt: skip
    """Contexts in another order than requests, in a pool whose other rows are NaN."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device).to(dtype)

    first = [3 + sum(lengths[b + 1 :]) + 2 * b for b in range(len(lengths))]
    keys, values = (normal(sum(lengths) + 2 * len(lengths) + 5, groups, width) for _ in range(2))
    unused = torch.ones(len(keys), dtype=torch.bool, device=device)
    for begin, length in zip(first, lengths, strict=True):
        unused[begin : begin + length] = False
    keys[unused], values[unused] = float("nan"), float("nan")
    queries = torch.tensor([0, *new]).cumsum(0)
    spans = Spans(*(torch.as_tensor(each, dtype=torch.int32, device=device) for each in (queries, first, lengths)))
    return normal(sum(new) + padding, heads, width), keys, values, spans


def assert_close(got: Tensor, expected: Tensor) -> None:
    """Weights are rounded to 8 bits before the second product: 2^-9 of each, and the result's own rounding."""
    error = (got.double() - expected.double()).norm() / expected.double().norm()
    assert error < 4e-3
    torch.testing.assert_close(got.float(), expected.float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_agrees_with_the_reference(shape: tuple, dtype: torch.dtype, device: str) -> None:
    q, keys, values, spans = inputs(*shape, device, dtype)
    got = prefill_attention(q, keys, values, spans, None, SMALL)
    assert got.dtype == dtype
    assert got.isfinite().all()
    asked = int(spans.queries[-1])
    assert_close(got[:asked], reference.prefill_attention(q.float(), keys.float(), values.float(), spans, None)[:asked])


@pytest.mark.parametrize("granularity", ["token", "group"])
@pytest.mark.parametrize("width", [64, 128])
def test_quantized_is_the_16_bit_result_quantized(granularity: str, width: int, device: str) -> None:
    given = inputs([21, 5], [21, 3], 2, 4, 2, width, device)
    got = prefill_attention(*given, granularity, SMALL)
    expected = quantize(prefill_attention(*given, None, SMALL), granularity)
    assert isinstance(got, Quantized)
    assert torch.equal(got.scale, expected.scale)
    assert torch.equal(dequantize(got), dequantize(expected))


def part(given: tuple[Tensor, Tensor, Tensor, Spans], request: int, new: int) -> tuple[Tensor, Tensor, Tensor, Spans]:
    """One request alone, of whose tokens only the last `new` are."""
    q, keys, values, spans = given
    end = int(spans.queries[request + 1])
    queries = torch.tensor([0, new], dtype=torch.int32, device=q.device)
    of = (t[request : request + 1].contiguous() for t in spans[1:])
    return q[end - new : end].contiguous(), keys, values, Spans(queries, *of)


def test_a_token_depends_neither_on_neighbours_nor_on_how_many_are_new(device: str) -> None:
    given = inputs([37, 41, 9], [37, 41, 9], 0, 2, 1, 64, device)
    together = prefill_attention(*given, None, SMALL)
    for new in (41, 7, 1):
        alone = prefill_attention(*part(given, 1, new), None, SMALL)
        assert torch.equal(alone, together[37 + 41 - new : 37 + 41])
    roomier = prefill_attention(*given, None, Tiling(rows=32, items=16, warps=4, stages=2))
    assert torch.equal(roomier, together)


def test_refuses_what_it_cannot_do(device: str) -> None:
    q, keys, values, spans = inputs([3], [3], 0, 2, 2, 64, device)
    with pytest.raises(InputError, match="dtype"):
        prefill_attention(q.float(), keys.float(), values.float(), spans, None)
    with pytest.raises(InputError, match="d_head"):
        prefill_attention(q[..., :48].contiguous(), keys, values, spans, None)


LARGE = {  # Qwen3-1.7B's heads and 8B's, Qwen2.5-0.5B's
    "1.7B": ([1000] * 7 + [913], [1000] * 7 + [913], 87, 16, 8, 128),
    "1.7B, one long": ([5000], [5000], 0, 16, 8, 128),
    "8B, kept": ([1000, 130, 3000], [10, 130, 1], 5, 32, 8, 128),
    "0.5B": ([777, 64, 1], [777, 64, 1], 0, 14, 2, 64),
}


@pytest.mark.gpu
@pytest.mark.parametrize("shape", LARGE.values(), ids=LARGE)
def test_agrees_at_real_sizes(shape: tuple, device: str) -> None:
    given = inputs(*shape, device)
    got, asked = prefill_attention(*given, None), sum(shape[1])
    keys, values = (t.nan_to_num() for t in given[1:3])
    assert_close(got[:asked], stock.prefill_attention(given[0], keys, values, given[3], None)[:asked])
    last = len(shape[0]) - 1
    some = part(given, last, min(100, shape[1][last]))
    exact = reference.prefill_attention(*(t.float().cpu() for t in some[:3]), Spans(*(t.cpu() for t in some[3])), None)
    alone = prefill_attention(*some, None)
    assert_close(alone.cpu(), exact)
    assert torch.equal(alone, got[asked - len(alone) : asked])


@pytest.mark.gpu
@pytest.mark.parametrize("shape", LARGE.values(), ids=LARGE)
def test_torch_s_flash_attention_gives_the_same(shape: tuple, device: str) -> None:
    q, keys, values, spans = inputs(*shape, device)
    asked = q[: int(spans.queries[-1])].contiguous()
    found = stock.flash_attention(asked, keys.nan_to_num(), values.nan_to_num(), spans, None)
    assert_close(found, prefill_attention(asked, keys, values, spans, None))


@pytest.mark.gpu
@pytest.mark.parametrize("granularity", [None, "group", "token"])
@pytest.mark.parametrize("shape", [LARGE["1.7B"], LARGE["8B, kept"]], ids=str)
def test_hopper_s_own_agrees_with_the_other(shape: tuple, granularity: str | None, device: str) -> None:
    given = inputs(*shape, device)
    got, other = (prefill_attention(*given, granularity, tiling) for tiling in (None, HOPPER.attention))
    if granularity is None:
        return assert_close(got, other)
    both = [dequantize(each).double() for each in (got, other)]
    assert (both[0] - both[1]).norm() / both[1].norm() < 1e-2  # a last bit of 16 becomes a step of FP8


@pytest.mark.gpu
def test_rows_of_a_tile_do_not_change_bits(device: str) -> None:
    given = inputs(*LARGE["1.7B"], device)
    tilings = [Tiling(64, 64, 4, 2), Tiling(64, 64, 4, 3), Tiling(128, 64, 8, 3)]
    found = [prefill_attention(*given, None, tiling) for tiling in tilings]
    assert all(torch.equal(each, found[0]) for each in found)


def launch(shape: str, granularity: str | None, tiling: Tiling | None) -> None:
    def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")

    _, new, padding, heads, groups, width = LARGE[shape]
    pools = meta(9000, groups, width), meta(9000, groups, width)
    spans = Spans(*(meta(size, dtype=torch.int32) for size in (len(new) + 1, len(new), len(new))))
    prefill_attention(meta(sum(new) + padding, heads, width), *pools, spans, granularity, tiling)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "granularity", "capability"),
    [("1.7B", None, 90), ("1.7B", "group", 90), ("0.5B", None, 90), ("1.7B", None, 89), ("1.7B", None, 100)],
)
def test_machine_code(shape: str, granularity: str | None, capability: int) -> None:
    tiling = HOPPER.attention if capability == 90 else None
    code = sm90.compile_launches(launch, shape, granularity, tiling, capability=capability)[0]
    assert code.uses({90: "HGMMA", 89: "HMMA", 100: "UTCHMMA"}[capability])
    assert code.spills == 0
    assert code.shared <= sm90.MAX_SHARED[capability]


@pytest.mark.slow
@pytest.mark.parametrize("granularity", [None, "group"])
def test_machine_code_of_hopper_s_own(granularity: str | None) -> None:
    code = sm90.compile_launches(launch, "1.7B", granularity, None)[0]
    sm90.check_specialised(code, "_prefill_attention_hopper", "HGMMA")
