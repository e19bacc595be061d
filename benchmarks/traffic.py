"""Bytes that PyTorch's operations move, counted as they run: what each reads and what it writes."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PICKS = ("index.", "gather.", "embedding.", "index_select.")  # read as much as they write, and the index
PUTS = ("index_put_.", "scatter_.", "_index_put_impl_.")  # write as much as they are given


class Traffic(TorchDispatchMode):
    """Counts while it is entered. Views and allocations move nothing; a cache would make it less, never more."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.bytes += moved(func, (args, kwargs), out)
        return out


def moved(func: Any, arguments: Any, out: Any) -> int:
    """Bytes that one of PyTorch's operations reads and writes: none for a view or an allocation."""
    name = str(func).removeprefix("aten.")
    given, result = list(tensors(arguments)), list(tensors(out))
    if (func.is_view and _shared(given, result)) or name.startswith(("empty", "new_empty", "_unsafe_view")):
        return 0
    if name.startswith(PICKS):
        return size(given[1:]) + 2 * size(result)
    if name.startswith(PUTS):
        return 2 * size(given[1:])
    return size(given) + size(result)


def _shared(given: list[Tensor], result: list[Tensor]) -> bool:
    """Whether the result lies in the memory of what was given; `to` and `reshape` are views only where they can be."""
    memory = {t.untyped_storage().data_ptr() for t in given}
    return all(t.untyped_storage().data_ptr() in memory for t in result)


def tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors in nested containers and in objects that hold some, such as `Quantized`."""
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield leaf
        elif hasattr(leaf, "__dataclass_fields__"):
            yield from tensors(list(vars(leaf).values()))


def size(found: Iterable[Tensor]) -> int:
    """Bytes in memory; a tensor that repeats its memory has as many as it repeats."""
    return sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in found)
