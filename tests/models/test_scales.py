"""Scales of every writer have one meaning, and what is neither a weight nor a known scale is refused by its name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from octorec.errors import InputError, MismatchError
from octorec.models.hf_folder import Checkpoint, write_config
from octorec.models.scales import granularity
from octorec.numerics.checkpoint_files import CheckpointFiles
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import DequantizedCheckpoint
from octorec.quant.recipe import Group, Recipe

ALL = Recipe("all", (Group((".*",), "channel", "token"),))
FP8 = torch.zeros(4, 6).to(torch.float8_e4m3fn)
INT8 = torch.zeros(4, 4, dtype=torch.int8)
ONES = torch.ones(4, 1)


def folder_of(path: Path, tensors: dict[str, Tensor], **config: Any) -> Path:
    path.mkdir(exist_ok=True)
    save_file(tensors, path / "model.safetensors")
    write_config(path, config)
    return path


def read_by_both(folder: Path, name: str) -> Tensor:
    """The values of a weight, which must be the same for loading and for looking at it."""
    loaded = DequantizedCheckpoint(folder).load(name)
    seen = torch.cat([stripe.clone() for stripe in CheckpointFiles(folder).tensor(name).stripes()])
    assert torch.equal(loaded, seen)
    return loaded


EIGHT_BIT = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.int8]


@pytest.mark.parametrize("suffix", ["_scale", "_scale_inv"])
@pytest.mark.parametrize("kind", EIGHT_BIT)
def test_every_8_bit_type_is_read_through_its_scale_and_never_quantized_again(
    tmp_path: Path, kind: torch.dtype, suffix: str
) -> None:
    values = (torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 20).to(kind)
    scale = torch.rand(5, 1) + 0.5
    folder = folder_of(tmp_path / "in", {"l.weight": values, f"l.weight{suffix}": scale})
    assert torch.equal(read_by_both(folder, "l.weight"), values.float() * scale)
    with pytest.raises(InputError, match="quantized already"):
        quantize_checkpoint(folder, tmp_path / "out", ALL)
    folder_of(folder, {"l.weight": values})
    for reader in (Checkpoint, DequantizedCheckpoint, CheckpointFiles):
        with pytest.raises(InputError, match=r"l\.weight: got .*(needs its l\.weight_scale|only floating-point)"):
            reader(folder)


@pytest.mark.parametrize(
    ("shape", "meaning"),
    [
        ((), "tensor"),
        ((1,), "tensor"),
        ((1, 1), "tensor"),
        ((200,), "channel"),
        ((200, 1), "channel"),
        ((2, 2), "block"),
        ((200, 2), "group"),
    ],
)
def test_the_shape_of_a_scale_has_one_meaning(tmp_path: Path, shape: tuple[int, ...], meaning: str) -> None:
    """Also where N = K, and where N rows and ceil(N/128) blocks could be mixed up."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200, 200, generator=generator).to(torch.float8_e4m3fn)
    scale = torch.rand(shape, generator=generator) + 0.5
    assert granularity("s", shape, (200, 200)) == meaning
    folder = folder_of(tmp_path / "in", {"l.weight": values, "l.weight_scale": scale})
    found = read_by_both(folder, "l.weight")
    for row, column in ((0, 0), (3, 130), (150, 2), (199, 199)):
        at = {"tensor": (), "channel": (row,), "block": (row // 128, column // 128), "group": (row, column // 128)}
        one = scale.flatten()[0] if meaning == "tensor" else scale[at[meaning]].flatten()[0]
        assert found[row, column] == values[row, column].float() * one


@pytest.mark.parametrize(
    "shape",
    [(2,), (3,), (199,), (1, 200), (2, 200), (2, 1), (1, 2), (200, 3), (200, 200), (1, 1, 1), (200, 1, 1), (0,)],
)
def test_a_scale_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = torch.zeros(200, 200).to(torch.float8_e4m3fn)
    folder = folder_of(tmp_path / "in", {"l.weight": values, "l.weight_scale": torch.ones(shape)})
    for reader in (Checkpoint, CheckpointFiles):
        with pytest.raises(MismatchError, match=r"l\.weight_scale"):
            reader(folder)


@pytest.mark.parametrize("shape", [(8,), (2, 4, 6)])
def test_only_matrices_have_scales(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = torch.zeros(shape).to(torch.float8_e4m3fn)
    folder = folder_of(tmp_path / "in", {"experts.up": values, "experts.up_scale": torch.ones(1)})
    with pytest.raises(MismatchError, match=r"experts\.up_scale"):
        Checkpoint(folder)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e8m0fnu])
def test_scales_of_other_types(tmp_path: Path, kind: torch.dtype) -> None:
    values, scale = torch.ones(4, 6).to(torch.float8_e4m3fn), torch.tensor([[0.5], [2.0], [4.0], [1.0]]).to(kind)
    folder = folder_of(tmp_path / "in", {"l.weight": values, "l.weight_scale": scale})
    assert read_by_both(folder, "l.weight")[:, 0].tolist() == [0.5, 2.0, 4.0, 1.0]


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e37])
def test_a_scale_that_is_no_positive_number(tmp_path: Path, value: float) -> None:
    """1e37 is one, but times 448 it is none."""
    scale = ONES.clone()
    scale[2] = value
    folder = folder_of(tmp_path / "in", {"l.weight": FP8, "l.weight_scale": scale})
    for read in (DequantizedCheckpoint(folder).load, CheckpointFiles(folder).tensor):
        with pytest.raises(InputError, match=r"l\.weight_scale: got .* finite and above 0"):
            read("l.weight")
    with pytest.raises(InputError, match=r"l\.weight_scale"):
        Checkpoint(folder).load("l.weight_scale")


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"l.weight": torch.ones(4, 6), "l.weight_scale": ONES}, "l.weight_scale"),
        ({"l.weight": torch.ones(4, 6), "l.weight_scale_inv": ONES}, "l.weight_scale_inv"),
        ({"l.weight_scale": ONES}, "l.weight_scale"),
        ({"l.weight": FP8, "l.weight_scale": ONES, "l.weight_scale_inv": ONES.clone()}, "l.weight_scale"),
        ({"l.weight": FP8, "l.weight_scale": torch.ones(4, 1, dtype=torch.uint8)}, "l.weight_scale"),
        ({"l.weight": FP8, "l.weight_scale": torch.ones(4, 1).to(torch.float8_e4m3fn)}, "l.weight_scale"),
        ({"l.weight": torch.ones(4, 6).to(torch.float8_e8m0fnu)}, "l.weight"),
        ({"l.bias": torch.ones(4).to(torch.float8_e5m2)}, "l.bias"),
        ({"l.weight": torch.zeros(4, 3, dtype=torch.uint8), "l.weight_scale": ONES}, "l.weight: got 'U8'"),
        ({"l.weight": torch.zeros(4, 3, dtype=torch.uint8)}, "l.weight"),
        ({"l.weight": torch.zeros(4, 3, dtype=torch.int32)}, "l.weight"),
        ({"l.weight": torch.zeros(4, 3, dtype=torch.complex64)}, "l.weight"),
        ({"l.weight_packed": torch.zeros(4, 1, dtype=torch.int32), "l.weight_scale": ONES}, "l.weight"),
        ({"l.weight": INT8, "l.weight_scale": ONES, "l.weight_zero_point": ONES}, "zero"),
        ({"l.weight": FP8, "l.weight_scale": ONES, "l.weight_scale_2": torch.ones(())}, "l.weight_scale_2"),
        ({"l.qweight": torch.zeros(4, 1, dtype=torch.int32), "l.scales": ONES}, "l.qweight"),
        ({"l.weight": INT8, "l.SCB": torch.ones(4)}, "l."),
        ({"l.weight": torch.zeros(8, 1, dtype=torch.uint8), "l.weight.absmax": torch.ones(1)}, "l.weight"),
        ({"l.weight": torch.ones(4, 4), "l.weight.quant_state.bitsandbytes__nf4": torch.ones(1)}, "quant_state"),
        ({"l.weight._data": INT8, "l.weight._scale": ONES}, "l.weight._"),
        ({"e.up_proj_blocks": torch.zeros(2, 4, 3, dtype=torch.uint8)}, "e.up_proj_blocks"),
        ({"l.weight": FP8, "l.scale_weight": torch.ones(())}, "l."),
        ({"l.weight": torch.ones(4, 4), "l.pre_quant_scale": torch.ones(4)}, "l.pre_quant_scale"),
        ({"l._weight_qdata": INT8, "l._weight_scale": ONES}, "l._weight_qdata"),
    ],
)
def test_what_is_not_read_is_refused_by_every_reader(tmp_path: Path, tensors: dict[str, Tensor], named: str) -> None:
    folder = folder_of(tmp_path / "in", {name: tensor.clone() for name, tensor in tensors.items()})
    for reader in (Checkpoint, DequantizedCheckpoint, CheckpointFiles):
        with pytest.raises(InputError, match=f"checkpoint .*{named}"):
            reader(folder)
    with pytest.raises(InputError, match=named):
        quantize_checkpoint(folder, tmp_path / "out", ALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["l.input_scale", "l.k_scale", "l.v_scale", "l.output_scale", "l.input_scale_ub"])
def test_a_static_scale_of_activations_is_no_weight_and_is_never_dropped(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path / "in", {"l.weight": torch.ones(4, 6), name: torch.tensor(0.5)})
    assert CheckpointFiles(folder).names() == ["l.weight"]
    assert name in DequantizedCheckpoint(folder).names()
    with pytest.raises(InputError, match=name):
        quantize_checkpoint(folder, tmp_path / "out", ALL)


def test_a_learned_vector_that_is_called_a_scale_is_a_tensor_as_any_other(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.ones(16, 32), "a.k_scale": torch.ones(6), "logit_scale": torch.ones(())}
    folder = folder_of(tmp_path / "in", {**tensors, "position_ids": torch.arange(6).view(1, 6)})
    assert sorted(CheckpointFiles(folder).names()) == ["a.k_scale", "a.weight", "logit_scale", "position_ids"]
    assert len(quantize_checkpoint(folder, tmp_path / "out", ALL).tensors) == 1


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "fp8", "weight_block_size": [100, 100]},
        {"config_groups": {"g": {"weights": {"strategy": "block", "block_structure": [100, 100]}}}},
        {"config_groups": {"g": {"weights": {"strategy": "group", "group_size": 100}}}},
    ],
)
def test_blocks_of_another_size_are_refused_where_shapes_cannot_tell(tmp_path: Path, quantization: Any) -> None:
    tensors = {"l.weight": torch.zeros(200, 200).to(torch.float8_e4m3fn), "l.weight_scale_inv": torch.ones(2, 2)}
    folder = folder_of(tmp_path / "in", tensors, quantization_config=quantization)
    with pytest.raises(InputError, match=r"100.*allowed: .*128"):
        CheckpointFiles(folder)
