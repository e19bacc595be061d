"""Which product serves which card and shape: for every preset and recipe, the one that was measured."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import sm90
import torch

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.linear import linear
from octorec.kernels.maybe_quantize import quantize
from octorec.kernels.moe import moe
from octorec.kernels.ops import Operand, Routing
from octorec.kernels.products import (
    ADA,
    CARDS,
    HOPPER,
    Accumulate,
    Card,
    Fusion,
    Problem,
    Row,
    Scales,
    card_with,
    product_for,
)  # fmt: skip
from octorec.models.onerec_config import OneRecConfig
from octorec.models.presets import PRESETS, preset
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_model

PAIRS = {"rows": ("token", "channel"), "groups": ("group", "block")}


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, dtype=torch.bfloat16, device="meta")


def operands(scales: str, x: torch.Tensor, weight: torch.Tensor) -> tuple[Operand, Operand]:
    of_x, of_weight = PAIRS[scales]
    return quantize(x, of_x), quantize(weight, of_weight)


def dense_shapes(config: OneRecConfig) -> Iterator[tuple[int, int, bool]]:
    """N, K and whether a residual is added, of a block's products."""
    width, ffn = config.d_model, config.ffn_width
    yield from ((width, width, False), (width, width, True), (3 * width, width, False))
    yield from ((2 * ffn, width, False), (width, ffn, True))


def run_dense(rows: int, n: int, k: int, adds: bool, scales: str) -> None:
    linear(*operands(scales, meta(rows, k), meta(n, k)), meta(rows, n) if adds else None)


def run_experts(rows: int, config: OneRecConfig, scales: str | None) -> None:
    experts, width, hidden = config.n_expert + config.n_shared, config.d_model, config.expert_width
    gate_up, down = meta(experts, 2 * hidden, width), meta(experts, width, hidden)
    if scales is not None:
        gate_up, down = (quantize(weight, PAIRS[scales][1]) for weight in (gate_up, down))
    per_row = config.top_k + config.n_shared
    chosen = torch.empty(rows, per_row, dtype=torch.int64, device="meta")
    routing = Routing(chosen, torch.empty(rows, per_row, device="meta"))
    moe(meta(rows, width), routing, gate_up, down, None if scales is None else PAIRS[scales][0])


def layout(found: list[sm90.Launch]) -> list[str]:
    """The products among the launches, each with what its layout is compiled for."""
    names = "ROWS", "COLUMNS", "HALVES", "DEPTH", "STAGES", "BAND", "PROMOTE", "num_warps", "num_stages"
    return [
        " ".join([launch.name, *(f"{name} {launch.constants[name]}" for name in names if name in launch.constants)])
        for launch in found
        if launch.name in ("torch", "_gemm", "_gemm_hopper")
    ]


def own(columns: int, stages: int) -> str:
    return f"_gemm_hopper COLUMNS {columns} STAGES {stages} num_warps 4"


def tiled(rows: int, stages: int, depth: int = 128, promote: bool = False) -> str:
    return (
        f"_gemm ROWS {rows} COLUMNS 128 HALVES 2 DEPTH {depth} BAND 8 PROMOTE {promote} num_warps 8 num_stages {stages}"
    )


def hopper(rows: int, n: int, k: int, adds: bool, scales: str) -> str:
    """What was chosen when this was measured."""
    if scales == "groups":
        return own(128, 4 if adds else 5)
    if not adds and (n, k) not in ((1408, 1408), (11264, 1408)):
        return "torch"
    return own(64 if rows == 32 and n < 11264 else 128, 5)  # 2 * 1 * 11264 / 128 tiles are more than 132


def ada(rows: int, n: int, k: int, adds: bool, scales: str) -> str:
    return "torch" if scales == "rows" and not adds else tiled(32, 2 if adds else 3)


MEASURED = {90: hopper, 89: ada}
EXPERTS = {
    (90, "rows"): [tiled(128, 4, promote=True)] * 2,
    (90, "groups"): [own(128, 4), own(128, 5)],
    (90, None): [tiled(128, 4, depth=64)] * 2,
    (89, "rows"): [tiled(32, 3, promote=True)] * 2,
    (89, "groups"): [tiled(32, 3)] * 2,
    (89, None): [tiled(32, 3, depth=64)] * 2,
}


@pytest.mark.parametrize("rows", [32, 16384])
@pytest.mark.parametrize("scales", PAIRS)
@pytest.mark.parametrize("capability", MEASURED)
def test_the_presets_products_are_those_that_were_measured(capability: int, scales: str, rows: int) -> None:
    shapes = {shape for name in PRESETS if name != "tiny" for shape in dense_shapes(preset(name))}
    for n, k, adds in sorted(shapes):
        (found,) = layout(sm90.launches(run_dense, rows, n, k, adds, scales, capability=capability))
        assert found == MEASURED[capability](rows, n, k, adds, scales), (n, k, adds)


@pytest.mark.parametrize("rows", [32, 16384])
@pytest.mark.parametrize("name", ["demo", "moe-4b-a0.5b"])
@pytest.mark.parametrize(("capability", "scales"), EXPERTS)
def test_the_presets_experts_are_those_that_were_measured(
    capability: int, scales: str | None, name: str, rows: int
) -> None:
    found = layout(sm90.launches(run_experts, rows, preset(name), scales, capability=capability))
    assert found == EXPERTS[capability, scales]


def test_a_card_is_known_by_its_own_capability_and_never_by_a_lower_one() -> None:
    names = {capability: card_with(divmod(capability, 10)).name for capability in sm90.MAX_SHARED}
    assert names == {89: "Ada", 90: "Hopper", 100: "Blackwell", 120: "Blackwell RTX"}
    assert [card.name for card in CARDS if card.warp_groups] == ["Hopper"]
    for capability in ((7, 5), (9, 1), (13, 0)):
        with pytest.raises(InputError, match=r"8\.0, .*, 12\.0 or 12\.1 is needed: take cpu"):
            card_with(capability)


def test_records_say_the_shared_memory_that_a_block_may_take() -> None:
    assert {c: card_with(divmod(c, 10)).shared for c in sm90.MAX_SHARED} == sm90.MAX_SHARED


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
@pytest.mark.parametrize("scales", get_args(Scales))
@pytest.mark.parametrize("fusion", get_args(Fusion))
def test_some_product_serves_every_problem_and_hoppers_own_runs_on_hopper_alone(
    card: Card, scales: Scales, fusion: Fusion
) -> None:
    for experts in (False, True):
        for sums in get_args(Accumulate):
            by = product_for(card, Problem(scales, 1408, 1408, fusion, sums, experts))
            assert by != "hopper" or card is HOPPER
            assert by != "torch" or not (experts or scales == "groups" or fusion.startswith("swiglu"))


def test_a_line_of_the_table_serves_what_it_says_alone() -> None:
    row = Row("hopper", "rows", ("none",), "fast", experts=False, warp_groups=True, shapes=((64, 32),))
    problem = Problem("rows", 64, 32, sums="fast")
    assert row.serves(HOPPER, problem)
    others: list[dict[str, Any]] = [{"scales": "none"}, {"fusion": "residual"}, {"sums": "float32"}, {"experts": True}]
    for other in (*others, {"n": 32}):
        assert not row.serves(HOPPER, replace(problem, **other)), other
    assert not row.serves(ADA, problem)


def test_fp8_is_refused_as_it_is_loaded_where_tensor_cores_have_none(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize_checkpoint(make_checkpoint("demo"), tmp_path / "fp8", "fp8")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    with pytest.raises(InputError, match=r"device: got 'NVIDIA A100'.*Ampere cards have no FP8 tensor cores"):
        load_model(tmp_path / "fp8", reference, "cuda")
