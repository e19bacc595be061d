"""Heads of q and k turn by their positions, and keys and values are kept, against the reference."""

import pytest
import sm90
import torch
from closeness import assert_within_a_step
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.ops import Kept
from octorec.kernels.rope import rope

SHAPES = {"Qwen3-1.7B": (16, 8, 128), "groups of three": (6, 2, 64), "Qwen2.5": (14, 2, 64), "narrow": (3, 1, 16)}


def inputs(heads: int, groups: int, width: int, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
    """Rows, the turns of 50 positions, positions of the rows, and norms of q's heads and of k's."""
    angles = torch.rand(50, width // 2, device=device) * 7
    turns = torch.cat([angles.cos(), angles.sin()], 1)
    qkv = torch.randn(5, (heads + 2 * groups) * width, device=device).to(dtype)
    norms = torch.rand(2, width, device=device).to(dtype) + 0.5
    return qkv, turns, torch.tensor([0, 49, 7, 3, 3], device=device), norms[0].clone(), norms[1].clone()


@pytest.mark.parametrize("normed", [True, False], ids=["normed", "plain"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_agrees_with_the_reference(shape: tuple, dtype: torch.dtype, normed: bool, device: str) -> None:
    qkv, turns, positions, *norms = inputs(*shape, dtype, device)
    given = (qkv, turns, positions, shape[0], tuple(norms) if normed else None, 1e-6)
    found, expected = rope(*given), reference.rope(*given)
    assert found[2].equal(expected[2])
    for one, other in zip(found[:2], expected, strict=False):
        assert one.dtype == dtype
        if dtype == torch.float32:
            torch.testing.assert_close(one, other, atol=2e-6, rtol=2e-6)  # differences of products cancel
        else:
            close = torch.isclose(one.float(), other.float(), atol=1e-5, rtol=0)
            assert_within_a_step(torch.where(close, other, one), other)


def test_keys_and_values_go_to_their_rows(device: str) -> None:
    qkv, turns, positions, *norms = inputs(6, 2, 64, torch.bfloat16, device)
    pools = tuple(torch.full((11, 2, 64), fill, dtype=torch.bfloat16, device=device) for fill in (7.0, 8.0))
    rows = torch.tensor([5, 2, 9, 0, 10], device=device)
    found = rope(qkv, turns, positions, 6, tuple(norms), 1e-6, Kept(*pools, rows))
    expected = rope(qkv, turns, positions, 6, tuple(norms), 1e-6)
    assert found[0].equal(expected[0])
    for pool, returned, new, before in zip(pools, found[1:], expected[1:], (7.0, 8.0), strict=True):
        assert returned is pool
        assert pool[rows].equal(new)
        assert pool.index_fill(0, rows, before).eq(before).all()


def test_a_row_does_not_depend_on_the_others(device: str) -> None:
    qkv, turns, positions, *norms = inputs(6, 2, 64, torch.bfloat16, device)
    together = rope(qkv, turns, positions, 6, tuple(norms), 1e-6)
    alone = rope(qkv[2:3].clone(), turns, positions[2:3].clone(), 6, tuple(norms), 1e-6)
    assert all(one[2:3].equal(other) for one, other in zip(together, alone, strict=True))


@pytest.mark.filterwarnings("ignore:overflow")
def test_what_float32_cannot_square_is_nan(device: str) -> None:
    qkv, turns, positions, *norms = inputs(2, 1, 16, torch.bfloat16, device)
    qkv[1] = 3e38
    q = rope(qkv, turns, positions, 2, tuple(norms), 1e-6)[0]
    assert q[1].isnan().all()
    assert q[0].isfinite().all()


def test_refuses_other_widths(device: str) -> None:
    qkv = torch.randn(2, 4 * 80, device=device)
    with pytest.raises(InputError, match="d_head"):
        rope(qkv, torch.randn(9, 80, device=device), torch.zeros(2, dtype=torch.int64, device=device), 2, None, 1e-6)


def launch(heads: int, groups: int, width: int) -> None:
    def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")

    turns, positions, rows = meta(4096, width, dtype=torch.float32), *(meta(8000, dtype=torch.int64) for _ in range(2))
    kept = Kept(meta(9000, groups, width), meta(9000, groups, width), rows)
    qkv = meta(8000, (heads + 2 * groups) * width)
    rope(qkv, turns, positions, heads, (meta(width), meta(width)), 1e-6, kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "groups", "width", "capability"),
    [(16, 8, 128, 90), (32, 8, 128, 90), (28, 4, 128, 89), (16, 8, 128, 100)],
)
def test_machine_code(heads: int, groups: int, width: int, capability: int) -> None:
    code = sm90.compile_launches(launch, heads, groups, width, capability=capability)[0]
    assert code.spills == 0
    assert code.registers <= 128
