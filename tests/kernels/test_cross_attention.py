"""Cross-attention with beams as rows, against the reference."""

import pytest
import sm90
import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.cross_attention import Tiling, cross_attention
from octorec.kernels.quantized import Quantized, dequantize, quantize

SMALL = Tiling(rows=16, items=16, warps=4, stages=2)
SHAPES = {  # B, W, S, H, G, D
    "one item": (2, 3, 1, 2, 2, 64),
    "one beam": (2, 1, 37, 3, 3, 128),
    "whole tiles": (2, 3, 32, 2, 2, 64),
    "grouped heads": (1, 3, 37, 4, 2, 128),
    "one group": (3, 2, 21, 3, 1, 64),
    "two tiles of rows": (1, 19, 40, 1, 1, 16),
}


def inputs(
    batch: int, beams: int, items: int, heads: int, groups: int, width: int, shared: bool, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keys that are the values, or not; lengths 1..S with the longest and the shortest among them."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device).bfloat16()

    keys = normal(batch, items, groups, width)
    lengths = torch.randint(1, items + 1, (batch,), device=device)
    lengths[0] = items
    lengths[-1] = max(1, items - 20)
    return normal(batch, beams, heads, width), keys, keys if shared else normal(*keys.shape), lengths


def assert_close(got: Tensor, expected: Tensor) -> None:
    """Weights are rounded to 8 bits before the second product: 2^-9 of each, and the result's own rounding."""
    error = (got.double() - expected.double()).norm() / expected.double().norm()
    assert error < 4e-3
    torch.testing.assert_close(got.float(), expected.float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("shared", [True, False], ids=["keys are values", "keys and values"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_agrees_with_the_reference(shape: tuple, shared: bool, device: str) -> None:
    q, keys, values, lengths = inputs(*shape, shared, device)
    got = cross_attention(q, keys, values, lengths, None, SMALL)
    exact = reference.cross_attention(q.double(), keys.double(), values.double(), lengths, None)
    assert_close(got, exact)


@pytest.mark.parametrize("granularity", ["token", "group"])
@pytest.mark.parametrize("width", [64, 128])
def test_quantized_is_the_16_bit_result_quantized(granularity: str, width: int, device: str) -> None:
    given = inputs(2, 3, 21, 3, 3, width, True, device)
    got = cross_attention(*given, granularity, SMALL)
    expected = quantize(cross_attention(*given, None, SMALL), granularity)
    assert isinstance(got, Quantized)
    assert torch.equal(got.scale, expected.scale)
    assert torch.equal(dequantize(got), dequantize(expected))


def test_items_beyond_the_length_are_not_read(device: str) -> None:
    q, keys, values, lengths = inputs(2, 3, 37, 2, 2, 64, False, device)
    lengths[:] = torch.tensor([5, 16])
    before = cross_attention(q, keys, values, lengths, None, SMALL)
    for request, length in enumerate(lengths.tolist()):
        keys[request, length:] = float("nan")
        values[request, length:] = float("nan")
    assert torch.equal(cross_attention(q, keys, values, lengths, None, SMALL), before)


def test_a_request_does_not_depend_on_its_neighbours(device: str) -> None:
    q, keys, _, lengths = inputs(3, 3, 37, 2, 2, 64, True, device)
    together = cross_attention(q, keys, keys, lengths, None, SMALL)
    own = keys[1:2].clone()
    assert torch.equal(together[3:6], cross_attention(q[1:2].clone(), own, own, lengths[1:2], None, SMALL))


def test_a_beam_does_not_depend_on_the_width(device: str) -> None:
    q, keys, _, lengths = inputs(2, 19, 37, 2, 2, 64, True, device)
    wide = cross_attention(q, keys, keys, lengths, None, SMALL).unflatten(0, (2, 19))
    narrow = cross_attention(q[:, :3].contiguous(), keys, keys, lengths, None, SMALL).unflatten(0, (2, 3))
    assert torch.equal(wide[:, :3], narrow)


def test_large_scores_do_not_overflow(device: str) -> None:
    q, keys, _, lengths = inputs(1, 3, 37, 2, 2, 64, True, device)
    got = cross_attention(q * 100, keys * 10, keys * 10, lengths, None, SMALL)
    assert got.isfinite().all()
    exact = reference.cross_attention((q * 100).double(), (keys * 10).double(), (keys * 10).double(), lengths, None)
    assert_close(got, exact)


def test_refuses_what_it_cannot_do(device: str) -> None:
    q, keys, values, lengths = inputs(1, 1, 3, 2, 2, 64, False, device)
    with pytest.raises(InputError, match="d_head"):
        cross_attention(q[..., :48].contiguous(), keys[..., :48].contiguous(), values, lengths, None)
    with pytest.raises(InputError, match="dtype"):
        cross_attention(q.float(), keys.float(), values.float(), lengths, None)


def launch(items: int, heads: int, width: int, shared: bool, granularity: str | None) -> None:
    def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")

    keys = meta(32, items, heads, width)
    values = keys if shared else meta(*keys.shape)
    cross_attention(meta(32, 512, heads, width), keys, values, meta(32, dtype=torch.int64), granularity)


@pytest.mark.parametrize("capability", [90, pytest.param(89, marks=pytest.mark.slow)])
@pytest.mark.parametrize("granularity", [None, pytest.param("group", marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", [(512, 11, 128, True), (512, 11, 128, False), (4096, 14, 64, True)], ids=str)
def test_machine_code(shape: tuple[int, int, int, bool], granularity: str | None, capability: int) -> None:
    code = sm90.compile_launches(launch, *shape, granularity, capability=capability)[0]
    assert code.uses("HGMMA" if capability == 90 else "HMMA")
    assert code.spills == 0
    assert code.shared <= sm90.MAX_SHARED[capability]


def test_keys_that_are_values_are_read_once() -> None:
    once, twice = (sm90.compile_launches(launch, 512, 11, 128, shared, None)[0] for shared in (True, False))
    assert once.instructions["LDGSTS"] < twice.instructions["LDGSTS"]
    assert once.shared < twice.shared
