"""A weight so large that sums overflow on the way is an error of the request, and no list of even scores."""

from pathlib import Path

import pytest
import torch
from made_up import random_catalog
from safetensors.torch import load_file, save_file

import octorec
from octorec.errors import NonFiniteError
from octorec.models import weights
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.quant.convert import quantize_checkpoint

LARGE = 1e30  # finite, and its square is not


def folder_with(path: Path, name: str, value: float) -> Path:
    """A checkpoint in which one value of the tensor `name` is `value`, as a flipped bit of its exponent makes it."""
    catalog = random_catalog(90, (7, 5, 6))
    model = OneRecV2(preset("tiny", d_expert=128, codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=0)
    path.mkdir()
    weights.save(model, path, torch.bfloat16)
    catalog.save(path / "catalog")
    shard = path / "model-00001-of-00001.safetensors"
    tensors = load_file(shard)
    tensors[name].view(-1)[1] = value
    save_file(tensors, shard, metadata={"format": "pt"})
    return path


@pytest.mark.parametrize("name", ["bos", "context.proj.weight", "blocks.0.cross_attn.o_proj.weight"])
def test_one_weight_whose_square_overflows_breaks_the_answer_and_not_in_silence(tmp_path: Path, name: str) -> None:
    folder = folder_with(tmp_path / "bf16", name, LARGE)
    quantize_checkpoint(folder, tmp_path / "fp8", "fp8-channel")
    for each in (folder, tmp_path / "fp8"):
        with pytest.raises(NonFiniteError, match="the checkpoint is broken"):
            octorec.load(each).recommend([octorec.Request(["i1", "i2"], k=3)])


def test_a_large_weight_whose_square_is_finite_still_answers(tmp_path: Path) -> None:
    engine = octorec.load(folder_with(tmp_path / "bf16", "bos", 1e15))
    assert engine.recommend([octorec.Request(["i1", "i2"], k=3)])[0].complete
