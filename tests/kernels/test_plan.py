"""The slots of a grouped product, against a plan made with a loop."""

import pytest
import sm90
import torch
from torch import Tensor

from octorec.kernels.plan import most_tiles, plan_experts


def slow_plan(experts: Tensor, n_expert: int, block_m: int) -> tuple[Tensor, list[int], list[int]]:
    slot_of, tiles, tile_rows = torch.full(experts.shape, -1), [], []
    for expert in range(n_expert):
        start = len(tiles) * block_m
        mine = [(t, r) for t in range(len(experts)) for r in range(experts.shape[1]) if experts[t, r] == expert]
        for rank, (t, r) in enumerate(mine):
            slot_of[t, r] = start + rank
        tiles += [expert] * (-(-len(mine) // block_m))
        tile_rows += [min(block_m, len(mine) - first) for first in range(0, len(mine), block_m)]
    return slot_of, tiles, tile_rows


@pytest.mark.parametrize(
    ("rows", "per_row", "n_expert", "block_m"),
    [
        (1, 1, 1, 16),
        (67, 4, 9, 16),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 4, 54, 128), (3, 2, 5, 4), (170, 3, 7, 32))),
    ],
)
def test_plan(rows: int, per_row: int, n_expert: int, block_m: int, device: str) -> None:
    experts = torch.stack([torch.randperm(n_expert)[:per_row] for _ in range(rows)]).to(device)
    plan = plan_experts(experts, n_expert, block_m)
    slot_of, tiles, tile_rows = slow_plan(experts, n_expert, block_m)
    assert torch.equal(plan.slot_of.cpu().long(), slot_of)
    assert plan.n_tiles.item() == len(tiles)
    assert plan.tile_expert.tolist() == tiles + [-1] * (len(plan.tile_expert) - len(tiles))
    assert plan.tile_rows.tolist() == tile_rows + [0] * (len(plan.tile_rows) - len(tiles))
    assert plan.slots == len(plan.tile_expert) * block_m


def test_all_rows_to_one_expert(device: str) -> None:
    plan = plan_experts(torch.full((300, 1), 2, device=device), 4, 128)
    assert plan.slot_of.flatten().tolist() == list(range(300))
    assert plan.tile_expert[:3].tolist() == [2, 2, 2]
    assert plan.n_tiles.item() == 3


@pytest.mark.parametrize(("entries", "n_expert", "block_m"), [(1, 3, 4), (5, 3, 4), (10, 2, 4), (9, 9, 8)])
def test_most_tiles_is_the_worst_routing(entries: int, n_expert: int, block_m: int) -> None:
    def worst(left: int, experts: int) -> int:
        if experts == 1:
            return -(-left // block_m)
        return max(-(-n // block_m) + worst(left - n, experts - 1) for n in range(left + 1))

    assert most_tiles(entries, 1, n_expert, block_m) == worst(entries, n_expert)


def launch(rows: int) -> None:
    plan_experts(torch.empty(rows, 4, dtype=torch.int64, device="meta"), 54, 128)


@pytest.mark.parametrize("capability", sm90.CAPABILITIES)
@pytest.mark.parametrize("rows", [1, 16384])
def test_machine_code(rows: int, capability: int) -> None:
    found = sm90.compile_launches(launch, rows, capability=capability)
    assert [code.name for code in found] == (["_place"] if rows == 1 else ["_count", "_place"])
    assert all(code.spills == 0 for code in found)
