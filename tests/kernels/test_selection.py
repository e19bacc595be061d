"""The k largest of a few keys, against a stable sort."""

import pytest
import torch
import triton
import triton.language as tl

from octorec.kernels.selection import choose

INF = float("inf")


@triton.jit
def _choose(x_ptr, out_ptr, left_ptr, wanted, K, N: tl.constexpr, SLOTS: tl.constexpr):  # type: ignore[no-untyped-def]
    choose(tl.load(x_ptr + tl.arange(0, N)), wanted, out_ptr, left_ptr, K, SLOTS)


def chosen(x: torch.Tensor, wanted: int, places: int) -> list[int]:
    out, left = torch.empty(places, dtype=torch.int32, device=x.device), torch.empty(1, device=x.device)
    _choose[(1,)](x, out, left, wanted, places, N=len(x), SLOTS=triton.next_power_of_2(places))
    others = x.clone()
    others[[at for at in out.tolist() if at >= 0]] = -INF
    assert left.item() == others.max().item()
    return out.tolist()


def expected(x: torch.Tensor, wanted: int, places: int) -> list[int]:
    values = (x + 0.0).tolist()
    order = sorted((i for i in range(len(values)) if values[i] > -INF), key=lambda i: (-values[i], i))[:wanted]
    return sorted(order) + [-1] * (places - len(order))


@pytest.mark.parametrize("wanted", [1, 2, 7, 15])
@pytest.mark.parametrize(
    "values",
    [
        torch.randn(64),
        torch.randn(64) * 1e30,
        torch.randint(-3, 2, (64,)).float(),  # ties, and few values
        torch.zeros(64),
        torch.tensor([0.0, -0.0] * 32),  # equal, though their bits differ
        torch.where(torch.rand(64) < 0.9, -INF, torch.randn(64)),
        torch.full((64,), -INF),
        -torch.arange(64.0),
        torch.arange(64.0),
        torch.tensor([3.0] * 5 + [2.0] * 50 + [3.0] * 9),
        torch.tensor([-3e38, 3e38, 1e-45, -1e-45] * 16),  # the whole range of bisection
    ],
    ids=["normal", "large", "ties", "equal", "signs of zero", "few", "none", "falling", "rising", "last ties", "range"],
)
def test_agrees_with_a_stable_sort(values: torch.Tensor, wanted: int, device: str) -> None:
    assert chosen(values.to(device), wanted, 15) == expected(values, wanted, 15)


def test_more_wanted_than_there_are(device: str) -> None:
    values = torch.randn(8)
    assert chosen(values.to(device), 12, 12) == [*range(8), -1, -1, -1, -1]
