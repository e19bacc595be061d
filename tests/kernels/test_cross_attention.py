"""Cross-attention with beams as rows, against the reference."""

import pytest
import sm90
import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.cross_attention import cross_attention
from octorec.kernels.fp8 import Quantized, dequantize, quantize
from octorec.kernels.products import HOPPER, Tiling

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


ON_HOPPER = {  # B, W, S, H, G, D: few tiles of 64 beams, or many of 128; contexts of tiles that are full, or are not
    "one beam": (2, 1, 37, 3, 3, 128),
    "one item": (2, 5, 1, 2, 1, 128),
    "one tile": (3, 37, 128, 4, 2, 128),
    "many beams": (2, 512, 512, 11, 1, 128),
    "many requests": (40, 130, 300, 11, 11, 128),
    "long contexts": (5, 200, 4096, 11, 1, 128),
}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", ON_HOPPER.values(), ids=ON_HOPPER)
def test_hopper_agrees_with_the_reference(shape: tuple, dtype: torch.dtype, device: str) -> None:
    q, keys, _, lengths = inputs(*shape, True, device)
    q, keys = q.to(dtype), keys.to(dtype)
    for request, length in enumerate(lengths.tolist()):
        keys[request, length:] = float("nan")
    got = cross_attention(q, keys, keys, lengths, None)
    finite = keys.nan_to_num().double()
    assert_close(got, reference.cross_attention(q.double(), finite, finite, lengths, None))


@pytest.mark.gpu
@pytest.mark.parametrize("granularity", ["token", "group"])
def test_hopper_s_quantized_is_its_16_bit_result_quantized(granularity: str, device: str) -> None:
    q, keys, _, lengths = inputs(9, 300, 500, 11, 1, 128, True, device)
    got = cross_attention(q, keys, keys, lengths, granularity)
    expected = quantize(cross_attention(q, keys, keys, lengths, None), granularity)
    assert isinstance(got, Quantized)
    assert torch.equal(got.scale, expected.scale)
    assert torch.equal(dequantize(got), dequantize(expected))


@pytest.mark.gpu
@pytest.mark.parametrize(("which", "beams"), [(0, 130), (17, 130), (39, 130), (39, 7)])  # 7: tiles of 64 beams
def test_hopper_s_requests_and_beams_do_not_depend_on_others(which: int, beams: int, device: str) -> None:
    q, keys, _, lengths = inputs(40, 130, 300, 11, 11, 128, True, device)
    mine = slice(which, which + 1)
    together = cross_attention(q, keys, keys, lengths, None).unflatten(0, (40, 130))
    own = keys[mine].clone()
    alone = cross_attention(q[mine, :beams].contiguous(), own, own, lengths[mine], None)
    assert torch.equal(together[which, :beams], alone)


def launch(
    items: int,
    heads: int,
    width: int,
    shared: bool,
    granularity: str | None,
    tiling: Tiling | None = None,
    beams: int = 512,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    def meta(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")

    keys = meta(32, items, heads, width)
    values = keys if shared else meta(*keys.shape)
    cross_attention(meta(32, beams, heads, width), keys, values, meta(32, dtype=torch.int64), granularity, tiling)


OTHERS = (512, 11, 128, False), (4096, 14, 64, True)
SHAPES = [(512, 11, 128, True), *(pytest.param(shape, marks=pytest.mark.slow) for shape in OTHERS)]


@pytest.mark.parametrize("capability", sm90.CAPABILITIES)
@pytest.mark.parametrize("granularity", [None, pytest.param("group", marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_machine_code(shape: tuple[int, int, int, bool], granularity: str | None, capability: int) -> None:
    tiling = HOPPER.attention if capability == 90 else None
    code = sm90.compile_launches(launch, *shape, granularity, tiling, capability=capability)[0]
    assert code.uses("HGMMA" if capability == 90 else "HMMA")
    assert code.spills == 0
    assert code.shared <= sm90.MAX_SHARED[capability]


@pytest.mark.parametrize(
    ("granularity", "beams", "dtype"),
    [
        (None, 512, torch.bfloat16),
        pytest.param("group", 512, torch.bfloat16, marks=pytest.mark.slow),
        ("group", 1, torch.float16),
        pytest.param(None, 512, torch.float16, marks=pytest.mark.slow),
        pytest.param("group", 512, torch.float16, marks=pytest.mark.slow),
        pytest.param(None, 64, torch.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_machine_code_of_hopper_s_own(granularity: str | None, beams: int, dtype: torch.dtype) -> None:
    code = sm90.compile_launches(launch, 512, 11, 128, True, granularity, None, beams, dtype)[0]
    sm90.check_specialised(code, "_cross_attention_hopper", "HGMMA")


def test_keys_that_are_values_are_read_once() -> None:
    once, twice = (
        sm90.compile_launches(launch, 512, 11, 128, shared, None, HOPPER.attention)[0] for shared in (True, False)
    )
    assert once.instructions["LDGSTS"] < twice.instructions["LDGSTS"]
    assert once.shared < twice.shared
