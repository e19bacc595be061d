"""Checkpoints into models: 16 bit and FP8 alike, each tensor straight into the memory it will be used from."""

import re
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from octorec.errors import InputError, MismatchError
from octorec.kernels import reference
from octorec.kernels.quantized import E4M3, GROUP, Granularity, Quantized, dequantize
from octorec.models.checkpoint import PARTS, Checkpoint, disk_tensors, load_into, read_config
from octorec.models.config import OneRecConfig
from octorec.models.layers import Experts, Linear
from octorec.models.onerec import OneRecV2
from octorec.quant.format import from_quantization_config
from octorec.quant.modules import FP8Experts, FP8Linear, WeightInMemory, scale_shape
from octorec.quant.recipe import Group, Recipe, matrices


def load_model(
    folder: str | Path, ops: ModuleType = reference, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> OneRecV2:
    """The model of a checkpoint folder, 16 bit or FP8, on `device`.

    `dtype` (bfloat16 or float32) is that of its 16-bit tensors and of its activations; the router's bias and all scales
    are float32, FP8 values E4M3. Needs memory for the model alone: shards are read as memory maps.
    Raises InputError for a folder that is no such checkpoint, MismatchError where config and tensors disagree.
    """
    checkpoint = Checkpoint(folder)
    return _filled(empty_model(read_config(checkpoint), checkpoint.quantization, ops, dtype), checkpoint, device)


def load_dequantized(
    folder: str | Path, ops: ModuleType = reference, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> OneRecV2:
    """The same model with plain weights, those of an FP8 checkpoint multiplied by their scales."""
    checkpoint = DequantizedCheckpoint(folder)
    return _filled(empty_model(read_config(checkpoint), None, ops, dtype), checkpoint, device)


class DequantizedCheckpoint(Checkpoint):
    """A checkpoint read through its scales: FP8 tensors come as float32, others as they are, scales not at all.

    Reads the scales of compressed-tensors (`weight_scale`) and of DeepSeek (`weight_scale_inv`); both multiply.
    """

    def names(self) -> list[str]:
        names = super().names()
        scales = {name + suffix for name in names for suffix in ("_scale", "_scale_inv")}
        return [name for name in names if name not in scales]

    def stored(self, name: str) -> Tensor:
        """The tensor as it lies on disk."""
        return super().load(name)

    def load(self, name: str) -> Tensor:
        values = super().load(name)
        scales = [name + suffix for suffix in ("_scale", "_scale_inv") if name + suffix in self._files]
        if not scales and values.dtype != E4M3:
            return values
        if not scales:
            raise InputError(
                f"checkpoint {self.folder}: {name}", str(values.dtype), f"needs its {name}_scale beside it"
            )
        scale = super().load(scales[0]).float()
        rows, columns = values.shape
        by_shape: dict[tuple[int, ...], Granularity] = {
            (1, 1): "tensor",
            scale_shape(rows, columns, "channel"): "channel",
            scale_shape(rows, columns, "block"): "block",
        }
        shape = (scale.numel(), 1) if scale.dim() < 2 else tuple(scale.shape)
        if shape not in by_shape:
            allowed = f"one of {', '.join(map(str, by_shape))} for values {tuple(values.shape)}"
            raise MismatchError(f"checkpoint {self.folder}: {scales[0]}", shape, allowed)
        return dequantize(Quantized(values, scale.view(shape), by_shape[shape], torch.float32))


def empty_model(
    config: OneRecConfig, quantization: dict[str, Any] | None, ops: ModuleType, dtype: torch.dtype
) -> OneRecV2:
    """The model on the meta device, with FP8 modules where `quantization` (a `quantization_config`) says so.

    Raises InputError for what has no FP8 form: parts of one product under different groups, blocks across parts.
    """
    with torch.device("meta"):
        model = OneRecV2(config, ops)
        if quantization is not None:
            _swap(model, from_quantization_config(quantization), dtype)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
    return model


def _filled(model: OneRecV2, checkpoint: Checkpoint, device: str) -> OneRecV2:
    _check_types(model, checkpoint)
    model.to_empty(device=device)
    load_into(model, checkpoint)
    return model.eval()


def _check_types(model: OneRecV2, checkpoint: Checkpoint) -> None:
    """FP8 bytes must not be taken for plain numbers, nor the other way round."""
    wanted = disk_tensors(model)
    for name in checkpoint.names():
        found = checkpoint.load(name).dtype
        if name in wanted and (found == E4M3) != (wanted[name].dtype == E4M3):
            allowed = f"its config.json says {'FP8' if wanted[name].dtype == E4M3 else '16 bit'}"
            raise MismatchError(f"checkpoint {checkpoint.folder}: {name}", str(found), allowed)


def _swap(model: OneRecV2, recipe: Recipe, dtype: torch.dtype) -> None:
    """Put the FP8 twin in the place of each Linear and Experts that `recipe` assigns to a group."""
    modules = dict(model.named_modules())
    names = matrices({name: tuple(tensor.shape) for name, tensor in disk_tensors(model).items()})
    assigned = recipe.assign(names)
    owned: dict[str, list[str]] = defaultdict(list)
    for name in names:
        owned[_owner(name, modules)].append(name)
    for owner, parts in owned.items():
        group = _common_group(parts, assigned)
        if group is not None:
            parent, _, child = owner.rpartition(".")
            setattr(modules[parent], child, _twin(owner, modules[owner], group, parts, dtype))


def _owner(matrix: str, modules: dict[str, nn.Module]) -> str:
    """The module that holds the disk's `matrix` in memory: itself, a fused projection, or all experts of a block."""
    experts = re.sub(r"\.(shared_)?experts\.\d+\.\w+$", ".experts", matrix)
    if experts != matrix:
        return experts
    parent, _, part = matrix.rpartition(".")
    fused = (f"{parent}.{fused}" for fused, parts in PARTS.items() if part in parts)
    return next((name for name in fused if name in modules), matrix)


def _common_group(parts: list[str], assigned: dict[str, Group]) -> Group | None:
    """The one group of matrices that lie in one product."""
    first = assigned.get(parts[0])
    for part in parts:
        if assigned.get(part) != first:
            allowed = f"it must be in the group of {parts[0]}: one product computes both"
            raise InputError("quantization groups", part, allowed)
    return first


def _twin(owner: str, module: nn.Module, group: Group, parts: list[str], dtype: torch.dtype) -> nn.Module:
    weights: WeightInMemory = "block" if group.weights == "block" else "channel"
    if isinstance(module, Experts):
        n_expert, width, hidden = module.down_proj.shape
        _check_blocks(parts[0], hidden, weights)
        return FP8Experts(n_expert, width, hidden, weights, group.activations, dtype, module.ops)
    if isinstance(module, Linear) and not owner.startswith("head."):
        n_out, n_in = module.weight.shape
        if len(parts) > 1:
            _check_blocks(parts[0], n_out // len(parts), weights)
        return FP8Linear(n_in, n_out, weights, group.activations, dtype, module.ops)
    allowed = "has no FP8 form (heads, router and embeddings are read in 16 bit): put it under `ignore`"
    raise InputError("quantization groups", owner, allowed)


def _check_blocks(part: str, rows: int, weights: str) -> None:
    """Parts that lie over each other in memory must begin where a block begins."""
    if weights == "block" and rows % GROUP:
        allowed = (
            f"{GROUP}-row blocks need a multiple of {GROUP}: give it `weights: channel` (as recipe fp8-channel does)"
        )
        raise InputError(f"rows of {part}", rows, allowed)
