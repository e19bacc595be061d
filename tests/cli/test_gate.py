"""The gate on numbers, on MovieLens: an honest FP8 checkpoint passes, and each of five faults does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from octorec.catalog.build import build_catalog
from octorec.data.movielens import movielens_100k
from octorec.data.splits import Example, leave_last_out
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.kernels import fp8, reference
from octorec.kernels.fp8 import Granularity, Quantized
from octorec.models.hf_folder import Checkpoint
from octorec.models.presets import preset
from octorec.prove.run import gate
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.modules import FP8Experts, FP8Linear
from octorec.training.config import TrainConfig
from octorec.training.run import train

pytestmark = pytest.mark.slow
CACHE = Path(__file__).parents[2] / ".cache"
STEPS = 30
LAYER = "blocks.0.ffn.gate_up_proj"
EXPERTS = "blocks.1.ffn.experts"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, list[Example]]:
    """A BF16 checkpoint, its FP8 child by block scales of experts, the same after a third of the training; examples."""
    folder = tmp_path_factory.mktemp("gate")
    movies = movielens_100k(CACHE)
    learned, examples = leave_last_out(movies.interactions, 1)
    catalog = build_catalog(learned, movies.items, (64, 64, 64))
    dimensions = preset(
        "demo", codebook_sizes=catalog.codebook_sizes, codebook_fingerprint=catalog.fingerprint, max_context=10,
        d_model=256, d_expert=256, d_ff=256, n_layer=2, n_dense=1,
    )  # fmt: skip
    for name, steps in (("bf16", STEPS), ("early", STEPS // 3)):
        config = TrainConfig(steps=steps, batch_size=128, warmup=5, learning_rate=3e-3)
        train(learned, catalog, dimensions, config, folder / name)
    quantize_checkpoint(folder / "bf16", folder / "fp8", "fp8")
    quantize_checkpoint(folder / "early", folder / "early-fp8", "fp8")
    return folder / "bf16", folder / "fp8", folder / "early-fp8", examples[::4]


@pytest.fixture
def pair(folders: tuple[Path, Path, Path, list[Example]]) -> tuple[Engine, Engine]:
    return load(folders[0], batch_sizes=(64,)), load(folders[1], batch_sizes=(64,))


def module(engine: Engine, name: str) -> FP8Linear | FP8Experts:
    return dict(engine.model.named_modules())[name]  # type: ignore[attr-defined]


def test_an_honest_checkpoint_passes(folders, pair) -> None:
    assert gate(*pair, folders[3]) == []


def scales_too_large(child: Engine, early: Path) -> None:
    module(child, LAYER).weight_scale.mul_(1.05)


def two_rows_swapped(child: Engine, early: Path) -> None:
    scale = module(child, LAYER).weight_scale
    two = torch.stack([scale.flatten().argmin(), scale.flatten().argmax()])
    scale[two] = scale[two.flip(0)]


def stale_scales(child: Engine, early: Path) -> None:
    before = [Checkpoint(early).load(f"blocks.0.ffn.{part}_proj.weight_scale") for part in ("gate", "up")]
    module(child, LAYER).weight_scale.copy_(torch.cat(before))


def block_grid_transposed(child: Engine, early: Path) -> None:
    scale = module(child, EXPERTS).down_proj_scale
    assert scale.shape[1:] == (2, 2)
    scale.copy_(scale.mT.clone())


FAULTS: list[Callable[[Engine, Path], None]] = [scales_too_large, two_rows_swapped, stale_scales, block_grid_transposed]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_does_not_pass(folders, pair, fault: Callable[[Engine, Path], None]) -> None:
    parent, child = pair
    with torch.inference_mode():
        fault(child, folders[2])
    found = gate(parent, child, folders[3])
    assert any(text.startswith("layer") for text in found), found


def test_a_missing_clamp_does_not_pass(folders, pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the clamp a cast to E4M3, which has no infinity, gives NaN above 464 (torch's own saturates of late)."""

    def unclamped(x: torch.Tensor, granularity: Granularity) -> Quantized:
        q = fp8.quantize(x, granularity)
        ratio = x.float() / fp8.expand_scale(q.scale, q.granularity, x.shape)
        values = torch.where(ratio.abs() > 464, torch.nan, q.values.float()).to(fp8.E4M3)
        return Quantized(values, q.scale, q.granularity, q.dtype)

    monkeypatch.setattr(reference, "quantize", unclamped)
    assert gate(*pair, folders[3]) == ["activations at the edge of E4M3's range do not survive quantization"]
