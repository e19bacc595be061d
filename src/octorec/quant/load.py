"""Load checkpoints into models, 16 bit and FP8 alike, each tensor straight into the memory it will be used from."""

from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.device import check_fp8
from octorec.kernels.fp8 import E4M3, GROUP, Quantized, dequantize
from octorec.kernels.ops import Ops
from octorec.models.checkpoint_folder import is_adapter
from octorec.models.families import ContextModule, maker
from octorec.models.hf_folder import Checkpoint
from octorec.models.layers import Experts, Head, Linear, sizes_of
from octorec.models.lora import open_checkpoint
from octorec.models.names import disk_tensors, views
from octorec.models.weights import check_fits, load_into
from octorec.quant.format import from_quantization_config
from octorec.quant.modules import FP8Experts, FP8Linear, WeightInMemory
from octorec.quant.products import ACTIVATIONS, width_fault
from octorec.quant.recipe import Group, matrices

EXPERT_WIDTH = 8  # widths of experts in 16 bit must be multiples of it: rows of 16 bytes
M = TypeVar("M", bound=nn.Module)
PIECE = 2**18  # values that are checked at a time on a CPU: they stay in a core's cache


def load_model(
    folder: str | Path,
    ops: Ops = reference,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    context_module: ContextModule = None,
    base: str | Path | None = None,
) -> Any:
    """Load the model of a checkpoint folder, 16 bit or FP8, or of an adapter's, on `device`.

    context_module: see `families.maker_of`. base: see `lora.open_checkpoint`.

    `dtype` (bfloat16 or float32) is that of its 16-bit tensors and of its activations; the router's bias and all scales
    are float32, FP8 values E4M3. Needs memory for the model alone: shards are read as memory maps.
    Raises InputError for a folder that is no such checkpoint and for a NaN or infinity among its weights, MismatchError
    where config and tensors disagree.
    """
    checkpoint = open_checkpoint(folder, base)
    if checkpoint.quantization is not None:
        check_fp8(torch.device(device))
    model = empty_like(checkpoint, ops, dtype, context_module)
    ops.check_sizes(sizes_of(model))
    return _filled(model, checkpoint, device)


def load_dequantized(
    folder: str | Path,
    ops: Ops = reference,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    context_module: ContextModule = None,
    base: str | Path | None = None,
) -> Any:
    """Load the same model with plain weights, those of an FP8 checkpoint multiplied by their scales."""
    if base is not None or is_adapter(folder):
        return load_model(folder, ops, device, dtype, context_module, base)
    checkpoint = DequantizedCheckpoint(folder)
    return _filled(empty_model(maker(checkpoint, ops, context_module), None, dtype), checkpoint, device)


class DequantizedCheckpoint(Checkpoint):
    """A DequantizedCheckpoint is read through its scales: 8-bit weights come as float32, other tensors as they are."""

    def names(self) -> list[str]:
        return self.weights()

    def dtype(self, name: str) -> str:
        return "F32" if name in self.scales else super().dtype(name)

    def load(self, name: str) -> Tensor:
        values = super().load(name)
        if name not in self.scales:
            return values
        scale, granularity = self.load_scale(name)
        return dequantize(Quantized(values, scale, granularity, torch.float32))


def empty_like(checkpoint: Checkpoint, ops: Ops, dtype: torch.dtype, context_module: ContextModule = None) -> nn.Module:
    """Return the model of a checkpoint on the meta device.

    Raises as `families.maker` and `empty_model`, and InputError for scales of activations that are stored beforehand.
    """
    if checkpoint.activation_scales:
        name = min(checkpoint.activation_scales)
        allowed = "scales of activations, keys and values that are stored beforehand are not computed with"
        raise InputError(f"checkpoint {checkpoint.folder}: {name}", list(checkpoint.shape(name)), allowed)
    eight_bit = {name.removesuffix(".weight") for name in checkpoint.scales}
    return empty_model(maker(checkpoint, ops, context_module), checkpoint.quantization, dtype, eight_bit)


def empty_model(
    make: Callable[[], M],
    quantization: dict[str, Any] | None,
    dtype: torch.dtype,
    eight_bit: Collection[str] | None = None,
) -> M:
    """Return the model that `make` makes, on the meta device, with FP8 modules where `quantization_config` says so.

    eight_bit: modules whose weights are stored in 8 bits; None: those that it says. Heads are among the products of a
    model, and a writer may leave them in 16 bit without a word.
    Raises InputError for what has no FP8 form: parts of one product under different groups, blocks across parts, widths
    and pairs of granularities that no FP8 product takes, activations with one scale for all rows of a batch.
    """
    with torch.device("meta"):
        model = make()
        if quantization is not None:
            _swap(model, quantization, dtype, eight_bit)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
    _derive(model)
    return model


def _derive(model: Any) -> None:
    """Let a model make what follows from its weights, or find its sizes on the meta device."""
    if hasattr(model, "derive"):
        model.derive()


def _filled(model: nn.Module, checkpoint: Checkpoint, device: str) -> nn.Module:
    check_fits(model, checkpoint)
    check_experts(model, device)
    model.to_empty(device=device)
    load_into(model, checkpoint)
    _check_finite(model, checkpoint)
    _derive(model)
    return model.eval()


def check_experts(model: nn.Module, device: str) -> None:
    """Refuse experts in 16 bit whose widths the kernels of a GPU do not take, at load and not at the first batch."""
    if torch.device(device).type == "cpu":
        return
    for name, module in model.named_modules():
        if isinstance(module, Experts) and any(width % EXPERT_WIDTH for width in module.down_proj.shape[1:]):
            allowed = (
                f"on a GPU d_model and d_expert must be multiples of {EXPERT_WIDTH}: pad them, or load it on the CPU"
            )
            raise InputError(f"widths of {name}", tuple(module.down_proj.shape[1:]), allowed)


def _check_finite(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Refuse NaN and infinity among the weights. They are read where the model lies: on a GPU in milliseconds."""
    if all(is_finite(tensor) for tensor in model.state_dict().values()):
        return
    for name, tensor in disk_tensors(model).items():
        if not is_finite(tensor):
            raise InputError(
                f"checkpoint {checkpoint.folder}: {name}", "NaN or infinity", "every weight must be finite"
            )


def is_finite(tensor: Tensor) -> bool:
    """Tell whether a tensor of any type, shape and device holds neither NaN nor infinity; near the speed of memory."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    pieces = tensor.flatten().split(PIECE if tensor.device.type == "cpu" else 2**8 * PIECE)
    if tensor.dtype == E4M3:  # E4M3 has a NaN, all bits but the sign, and no infinity
        return all(int((piece.view(torch.uint8) & 0x7F).amax()) < 0x7F for piece in pieces)
    return bool(tensor.sum().isfinite()) or all(bool(piece.isfinite().all()) for piece in pieces)  # a sum may overflow


def _swap(
    model: nn.Module, quantization: dict[str, Any], dtype: torch.dtype, eight_bit: Collection[str] | None
) -> None:
    """Put the FP8 twin in the place of each Linear and Experts that a quantization_config assigns to a group."""
    modules = dict(model.named_modules())
    known = views(model)
    names = matrices({name: tuple(view.tensor.shape) for name, view in known.items()})
    assigned = from_quantization_config(quantization, names).assign(names)
    for name in [] if eight_bit is None else assigned.keys() - eight_bit:
        if isinstance(modules[known[f"{name}.weight"].module], Head):
            del assigned[name]
    owned: dict[str, list[str]] = defaultdict(list)
    for name in names:
        owned[known[f"{name}.weight"].module].append(name)
    for owner, parts in owned.items():
        group = _common_group(parts, assigned)
        if group is not None:
            parent, _, child = owner.rpartition(".")
            setattr(modules[parent], child, _twin(owner, modules[owner], group, parts, dtype))


def _common_group(parts: list[str], assigned: dict[str, Group]) -> Group | None:
    """Return the one group of matrices that lie in one product."""
    first = assigned.get(parts[0])
    for part in parts:
        if assigned.get(part) != first:
            allowed = f"it must be in the group of {parts[0]}: one product computes both"
            raise InputError("quantization groups", part, allowed)
    return first


def _twin(owner: str, module: nn.Module, group: Group, parts: list[str], dtype: torch.dtype) -> nn.Module:
    weights: WeightInMemory = "block" if group.weights == "block" else "channel"
    _check_pair(parts[0], weights, group)
    if isinstance(module, Experts):
        n_expert, width, hidden = module.down_proj.shape
        _check_widths(parts[0], (hidden, width))
        _check_blocks(parts[0], hidden, weights)
        return FP8Experts(n_expert, width, hidden, weights, group.activations, dtype, module.ops, module.routed)
    if isinstance(module, Linear) and not isinstance(module, Head):
        n_out, n_in = module.weight.shape
        rows = [count for _, count in module.parts] or [n_out]
        for part, count in zip(parts, rows, strict=True):
            _check_widths(part, (count, n_in))
        for part, count in zip(parts, rows[:-1], strict=False):
            _check_blocks(part, count, weights)
        return FP8Linear(n_in, n_out, weights, group.activations, dtype, module.ops, module.parts)
    allowed = "has no FP8 form (heads, router and embeddings are read in 16 bit): put it under `ignore`"
    raise InputError("quantization groups", owner, allowed)


def _check_pair(part: str, weights: WeightInMemory, group: Group) -> None:
    """Refuse a pair of granularities that no FP8 product takes; a scale for all rows of a batch is in none of them."""
    wanted = ACTIVATIONS[weights]
    if group.activations == "tensor":
        allowed = f"one scale for all rows lets an answer depend on its neighbours in a batch: say `{wanted}`"
        raise InputError(f"activations of {part}", group.activations, allowed)
    if group.activations != wanted:
        allowed = f"FP8 products with weights by {group.weights} take activations by `{wanted}`"
        raise InputError(f"activations of {part}", group.activations, allowed)


def _check_widths(part: str, shape: tuple[int, int]) -> None:
    fault = width_fault(shape)
    if fault is not None:
        raise InputError(f"shape of {part}", shape, f"{fault}: quantize the 16-bit parent, which keeps it in 16 bit")


def _check_blocks(part: str, rows: int, weights: str) -> None:
    """Refuse parts that lie over each other in memory and do not begin where a block begins."""
    if weights == "block" and rows % GROUP:
        allowed = (
            f"{GROUP}-row blocks need a multiple of {GROUP}: give it `weights: channel` (as recipe fp8-channel does)"
        )
        raise InputError(f"rows of {part}", rows, allowed)
