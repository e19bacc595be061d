"""Folders with other weights of the same shape, and what is compared of a refreshed engine and a freshly loaded one."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import octorec
from octorec.engine.engine import Engine
from octorec.engine.policy import BeamStarts
from octorec.engine.refresh import Weights, exchange, read_weights, tensors_of
from octorec.engine.request import Request
from octorec.engine.starts_file import write_starts


def shuffled(folder: Path, out: Path, seed: int) -> Path:
    """Copy a folder, with the numbers of each tensor in another order: scales, norms and FP8 values stay what they may
    be. A table of where `auto` begins lies beside it."""
    shutil.copytree(folder, out)
    generator = torch.Generator().manual_seed(seed)
    for path in out.glob("*.safetensors"):
        tensors = {name: _shuffled(tensor, generator) for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    write_starts(out, BeamStarts({5: 8 + seed}), {})
    return out


def _shuffled(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    order = torch.randperm(tensor.numel(), generator=generator)
    flat = tensor.reshape(-1)
    if tensor.itemsize == 1:
        return flat.view(torch.uint8)[order].view(tensor.dtype).reshape(tensor.shape)
    return flat[order].reshape(tensor.shape).clone()


def addresses(engine: Engine) -> dict[str, int]:
    model: Any = engine.model
    return {name: tensor.data_ptr() for name, tensor in tensors_of(model).items()}


def refreshed(engine: Engine, folder: Path, host: bool = False) -> Weights:
    """Refresh an engine from a folder; no tensor of it moves. host: whether others wait there."""
    before = addresses(engine)
    old = exchange(engine, read_weights(engine, folder, "cpu" if host else engine.device))
    assert addresses(engine) == before
    return old


def check_like_fresh(engine: Engine, folder: Path, requests: Sequence[Request], **options: Any) -> None:
    """Check that an engine answers, to the bit, as one that is loaded from a folder, and has the same in its memory.

    Nothing of what prompts left under other weights is used."""
    fresh = octorec.load(folder, engine.catalog, str(engine.device), **options)
    if engine.device.type == "cuda":
        fresh.warm_up()
    own: Any = engine.model
    new: Any = fresh.model
    there = tensors_of(own)
    for name, tensor in tensors_of(new).items():
        assert there[name].view(-1).view(torch.uint8).equal(tensor.view(-1).view(torch.uint8)), name
    found, wanted = engine.recommend(requests), fresh.recommend(requests)
    assert found == wanted
    assert all(answer.cached_tokens == 0 for answer in found)
    assert (engine.margin, engine.checkpoint, engine.policy) == (fresh.margin, fresh.checkpoint, fresh.policy)
    targets = [answer.items[0] for answer in found]
    assert engine.score(requests, targets).tobytes() == fresh.score(requests, targets).tobytes()
