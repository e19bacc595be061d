"""A refresh copies a checkpoint of the same shape into the memory of a running engine: nothing is captured again.

What a model makes of its weights, such as a level's rows of the head, lies in buffers of the model. The new model is
loaded whole, elsewhere, so that all of it is there before the first byte is copied, and no rule of loading is written
twice. Its tensors and the engine's then exchange their contents; their addresses, which graphs know, stay.
"""

from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from octorec.engine.engine import Engine
from octorec.engine.load import activation_dtype
from octorec.engine.memory import free_bytes
from octorec.engine.needs import needs_of, readable
from octorec.engine.policy import BeamStarts
from octorec.engine.reader import Reader
from octorec.engine.starts_file import read_starts
from octorec.errors import InputError, MismatchError, shown
from octorec.kernels.device import shapes_for
from octorec.models.families import ContextModule
from octorec.models.hf_folder import Checkpoint
from octorec.models.lora import open_checkpoint
from octorec.models.model import token_model
from octorec.models.prompts import Prompts
from octorec.quant.load import empty_like, load_model

PIECE = 2**24  # bytes that are exchanged at a time: what needs room beside both
LIKE_THE_ENGINE = "must be as in the engine for its memory to be used again: load it beside, not in place"


@dataclass(frozen=True)
class Weights:
    """Weights are a checkpoint that fits an engine's memory, with all else that an engine takes from a folder.

    model: where they lie, on the engine's device or on the host. checkpoint: the folder, as errors name it.
    margins: of each engine that answered with them; empty where none has yet.
    """

    model: nn.Module
    checkpoint: str
    starts: BeamStarts
    prompts: Prompts | None
    margins: tuple[float, ...] = ()


def fits_beside(
    engine: Engine, folder: str | Path, context_module: ContextModule = None, base: str | Path | None = None
) -> bool:
    """Say whether the engine's device has room for other weights beside the engine's, and for searches with them.

    On a CPU it always has. Raises as `read_weights` for a folder that is none of a checkpoint like the engine's.
    """
    checkpoint = open_checkpoint(folder, base)
    model: Any = _without_weights(engine, checkpoint, context_module)
    if engine.device.type != "cuda":
        return True
    config = replace(engine.config, prefix_cache_bytes=0)
    needs = needs_of(model, engine.catalog, config, shapes_for(engine.device), engine.device)
    return needs.total <= free_bytes(str(engine.device))


def read_weights(
    engine: Engine,
    folder: str | Path,
    device: str | torch.device,
    context_module: ContextModule = None,
    base: str | Path | None = None,
) -> Weights:
    """Read a checkpoint folder onto `device`, the engine's or the CPU, and check that it fits the engine's memory.

    The engine answers meanwhile, and nothing of it changes. context_module, base: as `engine.load.load` has them.
    Raises InputError as loading does, and where the host has no room for the weights, and MismatchError where config,
    or a tensor's name, shape or type, or a granularity, is not the engine's.
    """
    checkpoint = open_checkpoint(folder, base)
    model = _without_weights(engine, checkpoint, context_module)
    needed, free = sum(tensor.nbytes for tensor in tensors_of(model).values()), free_bytes("cpu")
    if needed > free:
        raise InputError("memory", f"{readable(needed)} for weights", f"only {readable(free)} of the host are free")
    dtype = activation_dtype(engine.device)
    loaded = load_model(folder, engine.ops, str(device), dtype, context_module, base)
    _check_form(engine, loaded, checkpoint)
    if engine.device.type == "cuda" and torch.device(device).type == "cpu":
        _pin(loaded)
    domains = [*engine.domains] or None
    prompts = None if engine.prompts is None else Prompts(checkpoint.tokenizer_folder, loaded.sids, domains)
    return Weights(loaded, str(folder), read_starts(folder), prompts)


def engine_beside(engine: Engine, weights: Weights) -> Engine:
    """Return an engine of `weights`, on the same device, over the catalog of `engine`, also when that is replaced.

    It captures no graph and keeps no beginnings of prompts.
    """
    other = copy(engine)
    other.model, other.graphed = _as_model(weights.model), False
    other.config = replace(engine.config, prefix_cache_bytes=0)
    _take_folder(other, weights)
    other.domains = dict.fromkeys(engine.own_domains, other)
    if (model := token_model(other.model)) is not None:
        other.reader = Reader(model, engine.device, engine.config.batch_sizes[-1], engine.most_tokens)
        other.reader.rooms = ()
    return other


@torch.no_grad()
def exchange(engine: Engine, weights: Weights) -> Weights:
    """Let `weights` answer from the next call on, and return those that answered, in the memory of the others.

    It is for the thread that calls `recommend`, and changes the engines of all domains. Where it fails, the weights
    that answered are there again. All that was made of weights is made again: the beginnings of prompts that were kept
    are forgotten, and on a GPU the margin is measured, unless these weights brought theirs.
    """
    engines = list(dict.fromkeys((engine, *engine.domains.values())))
    margins = tuple(one.margin for one in engines)
    before = Weights(weights.model, engine.checkpoint, engine.policy.starts, engine.prompts, margins)
    _swap(engine.model, weights.model)
    try:
        _renew(engines, weights)
    except BaseException:
        _swap(engine.model, weights.model)
        _renew(engines, before)
        raise
    return before


def on_host(weights: Weights) -> Weights:
    """Let weights lie on the host, where they wait; the GPU's memory that they had is free then."""
    if any(tensor.is_cuda for tensor in weights.model.parameters()):
        _pin(weights.model)
    return weights


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return every tensor of a model by its name in memory: weights, scales, and what was made of them at load."""
    named = chain(model.named_parameters(), model.named_buffers())
    return {name: tensor.detach() for name, tensor in named}


def _renew(engines: list[Engine], weights: Weights) -> None:
    """Let engines take from the folder what is no tensor, and forget or measure again what others left."""
    for one in engines:
        _take_folder(one, weights)
        if one.prefixes is not None:
            one.prefixes.clear()
    for number, one in enumerate(engines):
        if weights.margins:
            one.margin = weights.margins[number]
        elif one.device.type == "cuda":
            one.measure_margin()


def _take_folder(engine: Engine, weights: Weights) -> None:
    engine.checkpoint, engine.prompts = weights.checkpoint, weights.prompts
    engine.policy = replace(engine.policy, starts=weights.starts)


def _swap(own: Any, others: nn.Module) -> None:
    """Let the tensors of two models exchange their contents, a piece at a time."""
    there = tensors_of(others)
    pairs = ((tensor, there[name]) for name, tensor in tensors_of(own).items())
    done: list[tuple[Tensor, Tensor]] = []
    try:
        for pieces in (zip(*map(_pieces, pair), strict=True) for pair in pairs):
            for mine, other in pieces:
                _exchange(mine, other)
                done.append((mine, other))
    except BaseException:
        for mine, other in reversed(done):
            _exchange(mine, other)
        raise
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _exchange(mine: Tensor, other: Tensor) -> None:
    before = mine.clone()
    mine.copy_(other)
    other.copy_(before)


def _pieces(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the bytes of a tensor, some at a time."""
    assert tensor.is_contiguous()
    return tensor.reshape(-1).view(torch.uint8).split(PIECE)


def _pin(model: nn.Module) -> None:
    """Let a model's tensors lie in pinned memory of the host, which a GPU copies from and to at the bus's speed."""
    for tensor in chain(model.parameters(), model.buffers()):
        tensor.data = tensor.data.cpu().pin_memory()


def _without_weights(engine: Engine, checkpoint: Checkpoint, context_module: ContextModule) -> nn.Module:
    """Return the model of a checkpoint on the meta device; refuse it where its headers show that it does not fit."""
    model = empty_like(checkpoint, shapes_for(engine.device), activation_dtype(engine.device), context_module)
    own, config = _as_model(engine.model).config.to_dict(), _as_model(model).config.to_dict()
    for name in sorted(own.keys() | config.keys()):
        if own.get(name) != config.get(name):
            allowed = f"the engine's is {shown(own.get(name))}: {LIKE_THE_ENGINE}"
            raise MismatchError(f"checkpoint {checkpoint.path}: {name}", config.get(name), allowed)
    _check_form(engine, model, checkpoint, whole=False)
    return model


def _check_form(engine: Engine, model: nn.Module, checkpoint: Checkpoint, whole: bool = True) -> None:
    """Raise MismatchError where a part of a model is not of the engine's form.

    whole: without, what one of both lacks is let be: a head that equals the embeddings is found once they are there.
    """
    own, others = _form(_as_model(engine.model)), _form(model)
    for name in sorted(own.keys() | others.keys() if whole else own.keys() & others.keys()):
        if own.get(name) != others.get(name):
            allowed = f"the engine's is {own.get(name, 'nothing')}: {LIKE_THE_ENGINE}"
            raise MismatchError(f"checkpoint {checkpoint.path}: {name}", others.get(name, "nothing"), allowed)


def _form(model: nn.Module) -> dict[str, str]:
    """Return in words what each part of a model is: a module's kind and granularities, a tensor's type and shape."""
    found = {
        name: f"{type(module).__name__} {getattr(module, 'granularity', '')} {_input_of(module)}".strip()
        for name, module in model.named_modules()
    }
    shapes = {name: f"{str(one.dtype)[6:]} {list(one.shape)}" for name, one in tensors_of(model).items()}
    return found | shapes


def _input_of(module: nn.Module) -> str:
    """Return how a module wants its input quantized, in words."""
    return str(getattr(module, "input_granularity", None) or "")


def _as_model(model: Any) -> Any:
    """Return a model as the module that its memory belongs to."""
    assert isinstance(model, nn.Module)
    return model
