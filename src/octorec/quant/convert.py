"""Quantize a checkpoint folder tensor by tensor, without building the model.

Reads memory-mapped shards and holds one output shard at a time, so that a folder of any size fits.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.files import json_text
from octorec.kernels import reference
from octorec.models.families import ContextModule, completed_or_plain, known_family, maker
from octorec.models.hf_folder import Checkpoint, write_config, write_tensors
from octorec.models.lora import EMBEDDING, HEAD, open_checkpoint
from octorec.models.names import views
from octorec.models.weights import check_fits
from octorec.output.refuse import refuse_folder, refuse_full
from octorec.output.write import new_folder
from octorec.progress import Progress, silent
from octorec.quant.carried import REPORT, copy_rest, layout_of
from octorec.quant.format import to_quantization_config
from octorec.quant.load import empty_model
from octorec.quant.products import unit, width_faults
from octorec.quant.recipe import ActivationGranularity, Group, Recipe, WeightGranularity, load_recipe, matrices
from octorec.quant.rounding import Rounded, absmax, one_thread, round_weight
from octorec.quant.shipped import recipe_file

SHARD_BYTES = 5 * 10**8  # half of what a shard may have: older safetensors copy a shard while they write it


@dataclass(frozen=True)
class TensorReport:
    """A TensorReport says what rounding one matrix lost. sqnr_db is None where nothing was lost."""

    name: str
    shape: tuple[int, int]
    weights: WeightGranularity
    activations: ActivationGranularity
    sqnr_db: float | None
    relative_error: float
    absmax: float


@dataclass(frozen=True)
class KeptMatrix:
    """A KeptMatrix is a matrix that the recipe chose and that stays in 16 bit, and why."""

    name: str
    shape: tuple[int, int]
    reason: str


@dataclass(frozen=True)
class QuantizationReport:
    """A QuantizationReport says what became of a checkpoint; `quantization.json` in the new folder holds the same.

    Bytes are of tensors: of the quantized matrices alone (their scales included), and of the whole checkpoint.
    quantized_ratio compares with the same matrices in 16 bit. kept: matrices of the recipe whose widths no FP8 product
    takes. left_behind: what was not copied along: large files,
    folders, links that lead out of the checkpoint's folder, and what lies in its catalog beside the catalog's files.
    """

    recipe: str
    tensors: tuple[TensorReport, ...]
    kept: tuple[KeptMatrix, ...]
    quantized_bytes_before: int
    quantized_bytes_after: int
    quantized_ratio: float
    total_bytes_before: int
    total_bytes_after: int
    left_behind: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def quantize_checkpoint(
    folder: str | Path,
    out: str | Path,
    recipe: str | Path | Recipe,
    force: bool = False,
    progress: Progress = silent,
    shard_bytes: int = SHARD_BYTES,
    context_module: ContextModule = None,
    base: str | Path | None = None,
) -> QuantizationReport:
    """Write the FP8 form of the checkpoint `folder` to `out`, as `recipe` (a name, a path or a Recipe) says.

    An adapter's folder is merged into its base (see `lora.open_checkpoint`), and the whole is written. Any other folder
    of 2-D safetensors will do; the recipe's patterns choose by name. `progress` is called after each tensor.
    shard_bytes: the most that a file of tensors holds, unless one tensor alone is larger.
    context_module: see `families.maker_of`.
    A matrix whose N or K no FP8 product takes stays in 16 bit, with those that one product computes with it.
    Raises InputError: `out` exists (without `force`) or must not be replaced, too little room for it, an unknown
    recipe, a pattern that matches nothing, a recipe that quantizes nothing, a checkpoint that is quantized already or
    does not suit FP8 modules, NaN or Inf in a tensor. Nothing is left at `out` then.
    """
    read = [folder, *([] if isinstance(recipe, Recipe) else recipe_file(recipe)), *([] if base is None else [base])]
    refuse_folder(Path(out), force, read)
    checkpoint = open_checkpoint(folder, base)
    if checkpoint.folder != checkpoint.path:  # the base that the adapter itself names
        refuse_folder(Path(out), force, [checkpoint.folder])
    chosen = load_recipe(recipe)
    shapes = {name: checkpoint.shape(name) for name in checkpoint.names()}
    _check_plain(checkpoint)
    chosen.check_matches(shapes)
    ours = known_family(completed_or_plain(checkpoint.config, checkpoint.tokenizer_folder)[0]) is not None
    kept = _kept(chosen, shapes, _product_of(checkpoint, context_module) if ours else unit)
    left = [re.escape(_module(each.name)) for each in kept] + _tied_head(shapes)
    chosen = dataclasses.replace(chosen, ignore=(*chosen.ignore, *left))
    config = {**checkpoint.config, "quantization_config": to_quantization_config(chosen, matrices(shapes))}
    if ours:  # refuse now what could not be loaded later
        empty_model(maker(checkpoint, reference, context_module), config["quantization_config"], torch.bfloat16)
    assigned = chosen.assign(matrices(shapes))
    refuse_full(Path(out), _bytes_after(checkpoint, assigned))
    with new_folder(out, force, read) as scratch, one_thread():
        work = _Conversion(checkpoint, assigned, progress)
        written = write_tensors(scratch, work.tensors(), shard_bytes)
        left_behind = copy_rest(checkpoint, scratch)
        report = work.report(chosen.name, kept, written, left_behind)
        write_config(scratch, config, layout_of(checkpoint))
        (scratch / REPORT).write_text(json_text(report.to_dict(), indent=1))
    return report


class _Conversion:
    """A _Conversion is the stream of new tensors, and the counts that the report is made of once it has run dry."""

    def __init__(self, checkpoint: Checkpoint, assigned: dict[str, Group], progress: Progress):
        self.checkpoint = checkpoint
        self.assigned = assigned
        self.progress = progress
        self.reports: list[TensorReport] = []
        self.read = self.before = self.after = self.values = 0

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        total = sum(header.nbytes for header in self.checkpoint.headers.values())
        for name, tensor in self.checkpoint.items():
            group = self.assigned.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
            if group is None:
                kept = self.checkpoint.as_stored(name, tensor)
                if kept.is_floating_point():
                    _check_finite(name, kept, absmax(kept))
                yield name, kept
            else:
                rounded = self._round(name, tensor, group)
                yield name, rounded.values
                yield f"{name}_scale", rounded.scale
            self.read += tensor.nbytes
            self.progress(self.read, total)

    def _round(self, name: str, tensor: Tensor, group: Group) -> Rounded:
        if not tensor.is_floating_point():
            raise InputError(f"weight {name}", str(tensor.dtype), "only floating-point matrices can be quantized")
        rounded = round_weight(tensor, group.weights)
        _check_finite(name, tensor, rounded.absmax)
        sqnr = rounded.sqnr_db if math.isfinite(rounded.sqnr_db) else None
        shape = (tensor.shape[0], tensor.shape[1])
        self.reports.append(
            TensorReport(name, shape, group.weights, group.activations, sqnr, rounded.relative_error, rounded.absmax)
        )
        self.before += tensor.nbytes
        self.after += rounded.values.nbytes + rounded.scale.nbytes
        self.values += tensor.numel()
        return rounded

    def report(self, recipe: str, kept: list[KeptMatrix], written: int, left_behind: list[str]) -> QuantizationReport:
        return QuantizationReport(
            recipe=recipe,
            tensors=tuple(self.reports),
            kept=tuple(kept),
            quantized_bytes_before=self.before,
            quantized_bytes_after=self.after,
            quantized_ratio=self.after / (2 * self.values),
            total_bytes_before=self.read,
            total_bytes_after=written,
            left_behind=tuple(left_behind),
        )


def _product_of(checkpoint: Checkpoint, context_module: ContextModule) -> Callable[[str], str]:
    """Return which product computes a matrix, as the modules of its family have it. Raises as `check_fits`."""
    model = empty_model(maker(checkpoint, reference, context_module), None, torch.bfloat16)
    check_fits(model, checkpoint)
    known = views(model)
    return lambda matrix: known[f"{matrix}.weight"].module


def _kept(recipe: Recipe, shapes: Mapping[str, tuple[int, ...]], product_of: Callable[[str], str]) -> list[KeptMatrix]:
    """Return the matrices of `recipe` that no FP8 product takes. Raises InputError where no other is left."""
    assigned = recipe.assign(matrices(shapes))
    widths = {module: shapes[f"{module}.weight"] for module in assigned}
    faults = width_faults(widths, assigned, product_of)
    if len(faults) == len(assigned):
        first, reason = next(iter(faults.items()))
        allowed = f"quantizes nothing, for no FP8 product takes the widths: {first} is {reason}"
        raise InputError(f"recipe {recipe.name}", f"{len(faults)} matrices", allowed)
    return [KeptMatrix(f"{name}.weight", (widths[name][0], widths[name][1]), reason) for name, reason in faults.items()]


def _module(name: str) -> str:
    return name.removesuffix(".weight")


def _tied_head(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the head of a language model that has no tensor of its own: other programs make a module of it."""
    return ["lm_head"] if EMBEDDING in shapes and HEAD not in shapes else []


def _bytes_after(checkpoint: Checkpoint, assigned: Mapping[str, Group]) -> int:
    """Return the bytes of all tensors, but for scales: a byte a value of what is quantized."""
    return sum(
        math.prod(header.shape) if name.removesuffix(".weight") in assigned else header.nbytes
        for name, header in checkpoint.headers.items()
    )


def _check_plain(checkpoint: Checkpoint) -> None:
    if checkpoint.quantized is not None:
        allowed = "is quantized already: give its 16-bit parent"
        raise InputError(f"checkpoint {checkpoint.folder}", checkpoint.quantized, allowed)


def _check_finite(name: str, tensor: Tensor, largest: float) -> None:
    if not math.isfinite(largest):
        narrow = tensor.float()  # a float64 beyond float32's range becomes Inf
        found = f"{int(narrow.isnan().sum())} NaN and {int(narrow.isinf().sum())} Inf among {tensor.numel()} values"
        raise InputError(
            f"weight {name}", found, "must be finite in float32; `octorec analyze` lists every such tensor"
        )
