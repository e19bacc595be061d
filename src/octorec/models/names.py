"""Names say which tensor on disk is which view of a model's memory: this is the one place that knows both.

On disk every matrix is 2-D and goes by its own name. In memory matrices that one product computes lie together: q, k, v
of an attention, gate and up of an FFN, all experts of a block. A module says so itself: `models.layers.Linear` by its
`parts` (their names and rows, in order), `Experts` by `routed` and `parts`, a child with another name on disk by its
parent's `disk_name`. `docs/checkpoint.md` lists every tensor of OneRec-V2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from octorec.kernels.fp8 import GROUP

Parts = tuple[tuple[str, int], ...]  # the name and the rows of each matrix in a product, in order


@dataclass(frozen=True)
class View:
    """A View is a tensor on disk as it lies in memory. module: the name of the module in memory that holds it."""

    tensor: Tensor
    module: str


def views(model: nn.Module) -> dict[str, View]:
    """Return every tensor of `model`, 16 bit or FP8, under its name on disk: copying into its view loads it."""
    return dict(_views(model, "", ""))


def disk_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of `views`."""
    return {name: view.tensor for name, view in views(model).items()}


def _views(module: Any, name: str, disk: str) -> Iterator[tuple[str, View]]:
    """Walk through a module that has one name in memory and another on disk; both end with a point, or are empty."""
    parts: Parts = getattr(module, "parts", ())
    for own, tensor in _tensors(module):
        if hasattr(module, "routed"):
            found = _experts(disk, own, tensor, module.routed, parts)
        else:
            found = _split(disk, f".{own}", tensor, parts)
        yield from ((each, View(part, name[:-1])) for each, part in found)
    for child, inner in module.named_children():
        renamed = module.disk_name(child) if hasattr(module, "disk_name") else child
        yield from _views(inner, f"{name}{child}.", f"{disk}{renamed}.")


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters, then buffers that are saved."""
    yield from ((name, parameter.detach()) for name, parameter in module.named_parameters(recurse=False))
    for name, buffer in module.named_buffers(recurse=False):
        if name not in module._non_persistent_buffers_set:
            yield name, buffer


def _experts(disk: str, own: str, tensor: Tensor, routed: int, parts: Parts) -> Iterator[tuple[str, Tensor]]:
    """Split the tensor `own` [E, ...] of all experts: gate_up_proj or down_proj, or one of their scales."""
    block = disk.removesuffix("experts.")
    product = own.removesuffix("_scale")
    suffix = f".weight{own.removeprefix(product)}"
    for expert, matrix in enumerate(tensor):
        where = f"experts.{expert}" if expert < routed else f"shared_experts.{expert - routed}"
        inside = parts if product == "gate_up_proj" else ()
        yield from _split(f"{block}{where}.{product}.", suffix, matrix, inside)


def _split(disk: str, suffix: str, tensor: Tensor, parts: Parts) -> Iterator[tuple[str, Tensor]]:
    """Split a product's rows, or its scales' rows, under the names of its parts."""
    module = disk[:-1]
    if not parts:
        yield (module + suffix).lstrip("."), tensor
        return
    per = 1 if len(tensor) == sum(rows for _, rows in parts) else GROUP  # rows of the product in a row of `tensor`
    start = 0
    for part, rows in parts:
        end = start + rows
        yield f"{module.rpartition('.')[0]}.{part}{suffix}".lstrip("."), tensor[start // per : -(-end // per)]
        start = end
