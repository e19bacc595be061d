"""Self-attention over ancestors, against the reference."""

import pytest
import sm90
import torch
from closeness import assert_same_quantized, assert_within_a_step
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.fp8 import Quantized
from octorec.kernels.self_attention import self_attention

SHAPES = {  # B, W, H, D, widths of the earlier levels
    "first level": (2, 1, 3, 128, ()),
    "second level": (2, 3, 11, 128, (1,)),
    "third level": (2, 3, 5, 64, (1, 4)),
    "odd heads": (1, 20, 3, 16, (1, 3)),
    "eight positions": (1, 2, 2, 64, (1, 2, 2, 2, 2, 2, 2)),
}


def inputs(
    batch: int, beams: int, heads: int, width: int, earlier: tuple[int, ...], dtype: torch.dtype, device: str
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    def qkv(count: int) -> Tensor:
        return torch.randn(batch, count, 3, heads, width, device=device).to(dtype)

    past = [qkv(count) for count in earlier]
    return qkv(beams), past, [torch.randint(0, count, (batch, beams), device=device) for count in earlier]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_agrees_with_the_reference(shape: tuple, dtype: torch.dtype, device: str) -> None:
    given = inputs(*shape, dtype, device)
    got, expected = self_attention(*given, None), reference.self_attention(*given, None)
    if dtype == torch.float32:
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    else:
        assert ((got.float() - expected.float()).abs() <= 2**-7 * expected.float().abs() + 1e-4).all()


@pytest.mark.parametrize("granularity", ["token", "group"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_quantized(shape: tuple, granularity: str, device: str) -> None:
    given = inputs(*shape, torch.bfloat16, device)
    got, expected = self_attention(*given, granularity), reference.self_attention(*given, granularity)
    assert isinstance(got, Quantized)
    assert_same_quantized(got, expected)


def test_ancestors_are_followed(device: str) -> None:
    """Where one position's score is far above the others, its value comes back as it is."""
    qkv, past, _ = inputs(2, 3, 2, 16, (4, 5), torch.bfloat16, device)
    ancestors = [
        torch.tensor([[3, 0, 3], [1, 1, 2]], device=device),
        torch.tensor([[4, 4, 0], [2, 3, 1]], device=device),
    ]
    qkv[:, :, 0], qkv[:, :, 1] = 8, -8
    past[0][:, :, 1], past[1][:, :, 1] = -8, 8
    expected = torch.stack([past[1][request, row, 2] for request, row in enumerate(ancestors[1])])
    assert torch.equal(self_attention(qkv, past, ancestors, None), expected.flatten(2).flatten(0, 1))


def test_a_request_does_not_depend_on_its_neighbours(device: str) -> None:
    qkv, past, ancestors = inputs(3, 2, 3, 64, (1, 4), torch.bfloat16, device)
    together = self_attention(qkv, past, ancestors, None)
    alone = self_attention(qkv[1:2].clone(), [p[1:2].clone() for p in past], [a[1:2].clone() for a in ancestors], None)
    assert torch.equal(together[2:4], alone)


def test_scales_as_sharp_scores_need_them(device: str) -> None:
    qkv, past, ancestors = inputs(1, 2, 2, 128, (1, 2), torch.bfloat16, device)
    given = (qkv * 30, [p * 30 for p in past], ancestors)
    assert_within_a_step(self_attention(*given, None), reference.self_attention(*given, None))


def test_refuses_what_it_cannot_do(device: str) -> None:
    with pytest.raises(InputError, match="d_head"):
        self_attention(*inputs(1, 1, 2, 48, (), torch.bfloat16, device), None)
    with pytest.raises(InputError, match="granularity"):
        self_attention(*inputs(1, 1, 2, 64, (), torch.bfloat16, device), "block")


def launch(batch: int, beams: int, heads: int, width: int, earlier: tuple[int, ...], granularity: str | None) -> None:
    def qkv(count: int) -> Tensor:
        return torch.empty(batch, count, 3, heads, width, dtype=torch.bfloat16, device="meta")

    ancestors = [torch.empty(batch, beams, dtype=torch.int64, device="meta") for _ in earlier]
    self_attention(qkv(beams), [qkv(count) for count in earlier], ancestors, granularity)


@pytest.mark.parametrize("capability", sm90.CAPABILITIES)
@pytest.mark.parametrize("granularity", [None, "token", "group"])
@pytest.mark.parametrize("heads_and_width", [(11, 128), pytest.param((14, 64), marks=pytest.mark.slow)], ids=str)
def test_machine_code(heads_and_width: tuple[int, int], granularity: str | None, capability: int) -> None:
    (code,) = sm90.compile_launches(launch, 32, 512, *heads_and_width, (1, 512), granularity, capability=capability)
    assert code.spills == 0
    assert code.registers <= 64  # so that eight programs share a multiprocessor and its loads overlap
    assert code.shared <= 1024
