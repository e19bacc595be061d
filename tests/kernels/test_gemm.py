"""The matrix product on identical operands, against float64; what its fused epilogues do, against the reference."""

from dataclasses import replace
from typing import Any

import pytest
import sm90
import torch
from closeness import assert_product, assert_same_quantized, assert_within_a_step
from torch import Tensor

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.fp8 import Quantized, dequantize, quantize
from octorec.kernels.gemm import gemm, tile_for
from octorec.kernels.maybe_quantize import quantize as quantize_on_device
from octorec.kernels.plan import plan_experts
from octorec.kernels.products import ADA, HOPPER, LARGE, Card, Tile

SMALL = Tile(rows=32, columns=128, halves=2, depth=128, band=2)
PAIRS = {"none": (None, None), "rows": ("token", "channel"), "groups": ("group", "block")}


def operands(scales: str, x: Tensor, weight: Tensor) -> tuple[Any, Any]:
    of_x, of_weight = PAIRS[scales]
    if of_x is None:
        return x, weight
    return quantize(x, of_x), quantize(weight, of_weight)


def random(*shape: int, device: str, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Rows and columns of different sizes, so that a scale in a wrong place shows."""
    rows, columns = torch.rand(*shape[:-1], 1) * 2 + 0.2, torch.rand(shape[-1]) * 2 + 0.2
    return (torch.randn(*shape) * rows * columns).to(device, dtype)


def plain(operand: Any) -> Tensor:
    return dequantize(operand) if isinstance(operand, Quantized) else operand


@pytest.mark.parametrize("scales", ["none", "rows", "groups"])
@pytest.mark.parametrize(("rows", "n", "k"), [(1, 8, 16), (70, 264, 272), (33, 392, 144), (96, 128, 256)])
def test_product(scales: str, rows: int, n: int, k: int, device: str) -> None:
    x, weight = operands(scales, random(rows, k, device=device), random(n, k, device=device))
    out = gemm(x, weight, tile=SMALL)
    assert out.dtype == torch.bfloat16
    assert_product(out, plain(x), plain(weight))


@pytest.mark.gpu  # numpy's products, which the interpreter uses, depend on their shape
@pytest.mark.parametrize("tile", [replace(LARGE, halves=1), replace(LARGE, rows=64, warps=4)], ids=str)
@pytest.mark.parametrize("scales", ["none", "rows", "groups"])
def test_the_tile_is_no_matter_of_the_result(scales: str, tile: Tile, device: str) -> None:
    tile, hopper = (replace(t, depth=64) if scales == "none" else t for t in (tile, LARGE))
    x, weight = operands(scales, random(700, 272, device=device), random(520, 272, device=device))
    assert torch.equal(gemm(x, weight, tile=tile), gemm(x, weight, tile=hopper))


def test_sums_left_to_the_tensor_cores_and_narrow_tiles(device: str) -> None:
    x, weight = operands("rows", random(20, 208, device=device), random(72, 208, device=device))
    out = gemm(x, weight, sums="fast", tile=Tile(rows=16, columns=32, halves=1, depth=64))
    if device == "cpu":
        assert_product(out, plain(x), plain(weight))
    else:
        assert ((out - plain(x) @ plain(weight).T).norm() / out.norm()) < 1e-2


def test_float16(device: str) -> None:
    x, weight = operands("groups", *(random(n, 128, device=device, dtype=torch.float16) for n in (5, 24)))
    assert_product(gemm(x, weight, tile=SMALL), plain(x), plain(weight))


@pytest.mark.parametrize(("scales", "width"), [("none", 40), ("rows", 144), ("groups", 256)])
def test_swiglu_as_it_leaves(scales: str, width: int, device: str) -> None:
    x = random(50, 208, device=device)
    x, weight = operands(scales, x * 0.1, random(2 * width, 208, device=device) * 0.1)
    hidden = gemm(x, weight, fusion="swiglu", tile=SMALL)
    assert_hidden(hidden, gemm(x, weight, tile=SMALL))


@pytest.mark.parametrize("scales", ["none", "rows", "groups"])
def test_residual_is_added_before_the_rounding(scales: str, device: str) -> None:
    x, weight = operands(scales, random(70, 144, device=device), random(264, 144, device=device))
    residual = random(70, 264, device=device) * 30
    out = gemm(x, weight, fusion="residual", residual=residual, tile=SMALL)
    # as one product over a longer K
    eye = torch.eye(264, dtype=torch.float64, device=device)
    longer = torch.cat([plain(x).double(), residual.double()], 1), torch.cat([plain(weight).double(), eye], 1)
    assert_product(out, *longer)


@pytest.mark.gpu
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("scales", ["rows", "groups"])
@pytest.mark.parametrize(("rows", "n", "k"), [(1, 128, 16), (70, 264, 272), (16384, 1408, 1408), (300, 1024, 5632)])
def test_hopper_s_own_adds_a_residual(rows: int, n: int, k: int, scales: str, add: bool, device: str) -> None:
    of_x, of_weight = PAIRS[scales]
    x = quantize_on_device(random(rows, k, device=device), of_x)
    weight = quantize(random(n, k, device=device), of_weight)
    residual = random(rows, n, device=device) if add else None
    fusion = "residual" if add else "none"
    found, expected = (gemm(x, weight, None, fusion, "fast", residual, tile=tile) for tile in (None, LARGE))
    assert_same_bits(found, expected)


BY_GROUPS = ("none", "swiglu", "swiglu_cast")


@pytest.mark.gpu
@pytest.mark.parametrize("fusion", BY_GROUPS)
@pytest.mark.parametrize(("rows", "n", "k"), [(1, 256, 16), (70, 512, 272), (16384, 2816, 1408), (300, 1024, 5632)])
def test_hopper_gives_the_same_bits(fusion: Any, rows: int, n: int, k: int, device: str) -> None:
    x = quantize_on_device(random(rows, k, device=device) * 0.1, "group")
    weight = quantize(random(n, k, device=device) * 0.1, "block")
    assert_same_bits(gemm(x, weight, fusion=fusion), gemm(x, weight, tile=LARGE, fusion=fusion))


@pytest.mark.gpu
@pytest.mark.parametrize("fusion", BY_GROUPS)
@pytest.mark.parametrize("rows", [3, 700, 8192])
def test_hopper_gives_the_same_bits_to_experts(fusion: Any, rows: int, device: str) -> None:
    experts = torch.stack([torch.randperm(9)[:3] for _ in range(rows)]).to(device)
    experts[experts == 3] = 1  # nobody goes to 3
    plan = plan_experts(experts, 9, 128)
    x = quantize_on_device(random(plan.slots, 400, device=device) * 0.1, "group")
    weight = quantize(random(9, 512, 400, device=device) * 0.1, "block")
    found, expected = (gemm(x, weight, plan, tile=tile, fusion=fusion) for tile in (None, LARGE))
    taken = plan.slot_of.flatten().long()
    assert_same_bits(found, expected, taken)


@pytest.mark.slow
def test_columns_that_are_no_tile_on_hopper(device: str) -> None:
    x = quantize_on_device(random(200, 272, device=device), "group")
    weight = quantize(random(264, 272, device=device), "block")
    assert_product(gemm(x, weight), plain(x), plain(weight))


def assert_same_bits(found: Any, expected: Any, rows: Any = slice(None)) -> None:
    if isinstance(found, Quantized):
        assert torch.equal(found.scale[rows], expected.scale[rows])
        found, expected = found.values.view(torch.uint8), expected.values.view(torch.uint8)
    assert torch.equal(found[rows], expected[rows])


def assert_hidden(hidden: Tensor, gate_up: Tensor) -> None:
    """The epilogue's silu(gate) * up is that of the rounded products."""
    expected = reference.swiglu(gate_up, None)
    assert_within_a_step(hidden, expected)


def test_swiglu_quantized_as_it_leaves(device: str) -> None:
    x, weight = operands("groups", random(50, 208, device=device) * 0.1, random(512, 208, device=device) * 0.1)
    hidden = gemm(x, weight, fusion="swiglu_cast", tile=SMALL)
    assert hidden.scale.stride() == (1, 52)
    assert_same_quantized(hidden, reference.swiglu(gemm(x, weight, tile=SMALL), "group"))


@pytest.mark.parametrize("scales", ["none", "rows", "groups"])
@pytest.mark.parametrize("block_m", [32, pytest.param(64, marks=pytest.mark.slow)])
def test_experts(scales: str, block_m: int, device: str) -> None:
    experts = torch.stack([torch.randperm(5)[:2] for _ in range(45)]).to(device)
    experts[experts == 3] = 1  # nobody goes to 3
    plan = plan_experts(experts, 5, block_m)
    weight = random(5, 136, 144, device=device)
    x = torch.full((plan.slots, 144), float("nan"), dtype=torch.bfloat16, device=device)  # padding must not leak
    rows = random(45, 144, device=device)
    for r in range(2):
        x[plan.slot_of[:, r].long()] = rows
    x, weight = operands(scales, x, weight)
    out = gemm(x, weight, plan, tile=SMALL)
    for r in range(2):
        slots = plan.slot_of[:, r].long()
        for expert in range(5):
            mine = slots[experts[:, r] == expert]
            assert_product(out[mine], plain(x)[mine], plain(weight)[expert])


def test_a_row_does_not_depend_on_the_others(device: str) -> None:
    x, weight = random(70, 272, device=device), quantize(random(264, 272, device=device), "block")
    together = gemm(quantize(x, "group"), weight, tile=SMALL)
    alone = gemm(quantize(x[41:42], "group"), weight, tile=SMALL)
    assert torch.equal(together[41:42], alone)


def test_refuses_what_it_cannot_do(device: str) -> None:
    x, weight = random(4, 32, device=device), random(24, 32, device=device)
    with pytest.raises(InputError, match="granularities"):
        gemm(quantize(x, "token"), quantize(weight, "block"))
    with pytest.raises(InputError, match="both in FP8"):
        gemm(quantize(x, "token"), weight)
    with pytest.raises(InputError, match="float16"):
        gemm(x.float(), weight.float())
    with pytest.raises(InputError, match="input width"):
        gemm(quantize(x[:, :24].contiguous(), "token"), quantize(weight[:, :24].contiguous(), "channel"))
    with pytest.raises(InputError, match="output width"):
        gemm(x, weight[:12].contiguous())
    with pytest.raises(InputError, match="expert width"):
        gemm(quantize(x, "group"), quantize(weight[:16].contiguous(), "block"), fusion="swiglu")


@pytest.mark.parametrize("card", [HOPPER, ADA], ids=lambda card: card.name)
def test_the_card_chooses_the_tile(card: Card) -> None:
    assert tile_for(card, "none") == replace(card.tile, depth=card.tile.depth // 2)
    assert tile_for(card, "groups") is card.tile


LAUNCHES: dict[str, tuple[str, int, int, int, dict[str, Any]]] = {  # scales, E, N, K, what is fused
    "qkv": ("rows", 0, 4224, 1408, {}),
    "qkv fast": ("rows", 0, 4224, 1408, {"sums": "fast"}),
    "qkv by groups": ("groups", 0, 4224, 1408, {}),
    "output": ("rows", 0, 1408, 1408, {"sums": "fast", "fusion": "residual"}),
    "output by groups": ("groups", 0, 1408, 1408, {"fusion": "residual"}),
    "experts up": ("groups", 54, 2816, 1408, {"fusion": "swiglu_cast"}),
    "experts down": ("groups", 54, 1408, 1408, {}),
    "experts up by rows": ("rows", 54, 2816, 1408, {"fusion": "swiglu"}),
    "experts up in 16 bit": ("none", 54, 2816, 1408, {"fusion": "swiglu"}),
    "experts down in 16 bit": ("none", 54, 1408, 1408, {}),
}


def launch(name: str, tile: Tile | None = None, rows: int = 16384) -> None:
    scales, n_expert, n, k, fused = LAUNCHES[name]
    plan = None
    if n_expert:
        plan = plan_experts(torch.empty(rows, 4, dtype=torch.int64, device="meta"), n_expert, 128)
    x = torch.empty(plan.slots if plan else rows, k, dtype=torch.bfloat16, device="meta")
    weight = torch.empty(*([n_expert] if n_expert else []), n, k, dtype=torch.bfloat16, device="meta")
    of_x, of_weight = PAIRS[scales]
    if of_x is not None:
        x, weight = quantize_on_device(x, of_x), quantize_on_device(weight, of_weight)
    if fused.get("fusion") == "residual":
        fused = {**fused, "residual": torch.empty(rows, n, dtype=torch.bfloat16, device="meta")}
    gemm(x, weight, plan, tile=tile, **fused)


def slowly(*names: str) -> list[Any]:
    """All launches, those not named marked as slow."""
    return [pytest.param(name, marks=() if name in names else pytest.mark.slow) for name in LAUNCHES]


@pytest.mark.parametrize("name", slowly("experts up"))
def test_machine_code(name: str) -> None:
    code = sm90.compile_launches(launch, name, LARGE if LAUNCHES[name][0] != "none" else None)[-1]
    assert code.uses("HGMMA" if LAUNCHES[name][0] == "none" else "QGMMA")
    assert code.uses("UTMALDG")
    assert code.uses("UTMASTG")
    assert code.spills == 0
    assert code.shared <= sm90.MAX_SHARED[90]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("qkv by groups", 1),
        ("output", 512),
        ("experts up", 16384),
        *(pytest.param(name, 16384, marks=pytest.mark.slow) for name in ("output", "experts down")),
    ],
)
def test_machine_code_of_hopper_s_own(name: str, rows: int) -> None:
    code = sm90.compile_launches(launch, name, None, rows)[-1]  # a 1 is compiled in
    sm90.check_specialised(code, "_gemm_hopper", "QGMMA")
    if name == "experts up":
        assert not code.uses("F2F")  # converts pairs, F2FP
        assert code.instructions["STG"] == 2 * 2  # each consumer's thread writes the scales of two rows once


@pytest.mark.slow
def test_machine_code_for_one_row() -> None:
    code = sm90.compile_launches(launch, "qkv by groups", LARGE, 1)[-1]  # a 1 is compiled in
    assert code.spills == 0


@pytest.mark.parametrize("name", slowly("experts down"))
def test_machine_code_for_ada(name: str) -> None:
    code = sm90.compile_launches(launch, name, capability=89)[-1]
    assert code.uses("HMMA" if LAUNCHES[name][0] == "none" else "QMMA")
    assert code.spills == 0
    assert code.shared <= sm90.MAX_SHARED[89]
