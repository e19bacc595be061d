"""Beams attend to a shared context and to their own ancestors, against the reference."""

from typing import Any

import pytest
import sm90
import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.beam_attention import beam_attention
from octorec.kernels.fp8 import Quantized, dequantize, quantize
from octorec.kernels.products import HOPPER, Tiling

SMALL = Tiling(rows=16, items=16, warps=4, stages=2)
SHAPES = {  # B, W, H, G, D, earlier positions, the longest context
    "one beam": (2, 1, 2, 2, 64, 0, 1),
    "grouped heads": (2, 5, 4, 2, 128, 2, 37),
    "groups of three": (3, 7, 6, 2, 64, 1, 32),
    "one group": (2, 3, 4, 1, 16, 3, 40),
}
LARGE = {  # Qwen3-1.7B's and 8B's heads, Qwen2.5-0.5B's
    "1.7B": (8, 256, 16, 8, 128, 2, 1000),
    "1.7B, one request": (1, 256, 16, 8, 128, 1, 1000),
    "8B, long": (2, 64, 32, 8, 128, 2, 5000),
    "0.5B": (3, 100, 14, 2, 64, 2, 777),
}


def inputs(
    batch: int, beams: int, heads: int, groups: int, width: int, positions: int, longest: int, device: str,
    dtype: torch.dtype = torch.bfloat16,
) -> list[Any]:  # fmt: skip
    """Contexts that lie apart in a pool, whose other rows are NaN; the longest and the shortest among them."""

    def pair(*shape: int) -> tuple[Tensor, ...]:
        return tuple(torch.randn(*shape, device=device).to(dtype) for _ in range(2))

    lengths = torch.randint(1, longest + 1, (batch,), dtype=torch.int32)
    lengths[0], lengths[-1] = longest, max(1, longest - 20)
    keys, values = pair(int(lengths.sum()) * 2 + 9, groups, width)
    first = torch.tensor([3 + int(lengths[b + 1 :].sum()) + b for b in range(batch)], dtype=torch.int32)
    used = torch.zeros(len(keys), dtype=torch.bool)
    for begin, length in zip(first.tolist(), lengths.tolist(), strict=True):
        used[begin : begin + length] = True
    for pool in (keys, values):
        pool[~used.to(device)] = float("nan")
    past = [pair(batch, max(1, beams - 1), groups, width) for _ in range(positions)]
    ancestors = [torch.randint(0, max(1, beams - 1), (batch, beams), device=device) for _ in range(positions)]
    q = torch.randn(batch, beams, heads, width, device=device).to(dtype)
    own = pair(batch, beams, groups, width)
    return [q, *own, past, ancestors, keys, values, first.to(device), lengths.to(device)]


def of(given: list[Any], requests: slice, beams: slice) -> list[Any]:
    """Some of the requests, and some of their beams."""
    q, k, v, past, ancestors, keys, values, first, lengths = given
    some = [t[requests, beams].contiguous() for t in (q, k, v)]
    earlier = [tuple(t[requests].contiguous() for t in pair) for pair in past]
    chosen = [t[requests, beams].contiguous() for t in ancestors]
    return [*some, earlier, chosen, keys, values, first[requests].contiguous(), lengths[requests].contiguous()]


def assert_close(got: Tensor, expected: Tensor) -> None:
    """Weights are rounded to 8 bits before the second product: 2^-9 of each, and the result's own rounding."""
    error = (got.double() - expected.double()).norm() / expected.double().norm()
    assert error < 4e-3
    torch.testing.assert_close(got.float(), expected.float(), rtol=2e-2, atol=2e-2)


def exact(given: list[Any]) -> Tensor:
    """The reference in float32, on the CPU, of the same 16-bit inputs."""
    q, k, v, past, ancestors, *rest = given
    wide = lambda t: t.float().cpu() if t.is_floating_point() else t.cpu()  # noqa: E731
    earlier = [tuple(wide(t) for t in pair) for pair in past]
    return reference.beam_attention(*map(wide, (q, k, v)), earlier, list(map(wide, ancestors)), *map(wide, rest), None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_agrees_with_the_reference(shape: tuple, dtype: torch.dtype, device: str) -> None:
    given = inputs(*shape, device, dtype)
    got = beam_attention(*given, None, SMALL)
    assert got.dtype == dtype
    assert_close(got.cpu(), exact(given))


@pytest.mark.parametrize("granularity", ["token", "group"])
@pytest.mark.parametrize("width", [64, 128])
def test_quantized_is_the_16_bit_result_quantized(granularity: str, width: int, device: str) -> None:
    given = inputs(2, 3, 4, 2, width, 1, 21, device)
    got = beam_attention(*given, granularity, SMALL)
    expected = quantize(beam_attention(*given, None, SMALL), granularity)
    assert isinstance(got, Quantized)
    assert torch.equal(got.scale, expected.scale)
    assert torch.equal(dequantize(got), dequantize(expected))


def test_a_beam_depends_neither_on_its_neighbours_nor_on_rows_beside_it(device: str) -> None:
    given = inputs(3, 9, 4, 2, 64, 2, 37, device)
    together = beam_attention(*given, None, SMALL).unflatten(0, (3, 9))
    alone = beam_attention(*of(given, slice(1, 2), slice(4, 6)), None, SMALL).unflatten(0, (1, 2))
    assert torch.equal(together[1:2, 4:6], alone)
    roomier = beam_attention(*given, None, Tiling(rows=32, items=16, warps=4, stages=2))
    assert torch.equal(roomier.unflatten(0, (3, 9)), together)


def test_large_scores_do_not_overflow(device: str) -> None:
    given = inputs(1, 3, 2, 2, 64, 1, 37, device)
    given[0] = given[0] * 100
    got = beam_attention(*given, None, SMALL)
    assert got.isfinite().all()
    assert_close(got.cpu(), exact(given))


def test_refuses_what_it_cannot_do(device: str) -> None:
    given = inputs(1, 1, 2, 2, 64, 0, 3, device)
    with pytest.raises(InputError, match="dtype"):
        beam_attention(*(t.float() if torch.is_tensor(t) else t for t in given), None)
    given[0] = given[0][..., :48].contiguous()
    with pytest.raises(InputError, match="d_head"):
        beam_attention(*given, None)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", LARGE.values(), ids=LARGE)
def test_agrees_at_real_sizes(shape: tuple, device: str) -> None:
    given = inputs(*shape, device)
    got = beam_attention(*given, None).unflatten(0, shape[:2])
    requests, beams = slice(0, 1), slice(shape[1] // 2, shape[1] // 2 + 8)
    some = of(given, requests, beams)
    assert_close(got[requests, beams].flatten(0, 1).cpu(), exact(some))
    assert torch.equal(beam_attention(*some, None), got[requests, beams].flatten(0, 1))  # from another tile
    last = slice(shape[0] - 1, shape[0])
    assert torch.equal(beam_attention(*of(given, last, slice(None)), None), got[-1])


@pytest.mark.gpu
def test_rows_of_a_tile_do_not_change_bits(device: str) -> None:
    given = inputs(*LARGE["1.7B, one request"], device)
    tilings = [Tiling(64, 64, 4, 2), Tiling(64, 64, 4, 3), Tiling(128, 64, 8, 3)]
    found = [beam_attention(*given, None, tiling) for tiling in tilings]
    assert all(torch.equal(each, found[0]) for each in found)


def launch(shape: tuple[int, ...], granularity: str | None, tiling: Tiling | None) -> None:
    def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")

    batch, beams, heads, groups, width, positions, _ = shape
    past = [(meta(batch, beams, groups, width), meta(batch, beams, groups, width)) for _ in range(positions)]
    ancestors = [meta(batch, beams, dtype=torch.int64) for _ in range(positions)]
    own, pools = (tuple(meta(*size, groups, width) for _ in range(2)) for size in ((batch, beams), (9000,)))
    bounds = meta(batch, dtype=torch.int32)
    q = meta(batch, beams, heads, width)
    beam_attention(q, *own, past, ancestors, *pools, bounds, bounds, granularity, tiling)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "granularity", "capability"),
    [("1.7B", None, 90), ("1.7B", "group", 90), ("0.5B", None, 90), ("1.7B", None, 89), ("1.7B", None, 100)],
)
def test_machine_code(shape: str, granularity: str | None, capability: int) -> None:
    code = sm90.compile_launches(launch, LARGE[shape], granularity, None, capability=capability)[0]
    assert code.uses({90: "HGMMA", 89: "HMMA", 100: "UTCHMMA"}[capability])
    assert code.spills == 0
    assert code.shared <= sm90.MAX_SHARED[capability]


@pytest.mark.slow
def test_two_programs_fit_into_a_multiprocessor() -> None:
    """So that one's softmax runs beside the other's products."""
    code = sm90.compile_launches(launch, LARGE["1.7B"], None, HOPPER.attention)[0]
    assert 2 * code.registers * code.warps * 32 <= 2**16
    assert 2 * code.shared <= sm90.MAX_SHARED[90]
