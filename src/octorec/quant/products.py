"""Tell from their names which matrices one product computes, and which of them FP8 tensor cores can multiply."""

import re
from collections.abc import Callable, Iterable, Mapping

from octorec.quant.recipe import ActivationGranularity

MULTIPLE = 16  # N and K must be multiples of it for FP8 tensor cores and the kernels

ACTIVATIONS: dict[str, ActivationGranularity] = {
    "channel": "token",
    "block": "group",
}  # granularity of weights -> that of the activations beside them


def unit(module: str) -> str:
    """Return the product that computes `module`, as fused stacks run it: its matrices need one scheme.

    q, k, v of an attention are one; gate and up of an FFN are one; all experts of a block, shared ones included, are.
    """
    module = re.sub(r"\.(shared_)?experts?(\.\d+)?\.\w+$", ".experts", module)
    module = re.sub(r"\.[qkv]_proj$", ".qkv_proj", module)
    return re.sub(r"\.(gate|up)_proj$", ".gate_up_proj", module)


def width_fault(shape: tuple[int, ...]) -> str | None:
    """Return why no FP8 product takes a matrix [N, K] of this shape; None where one does."""
    if all(width % MULTIPLE == 0 for width in shape):
        return None
    return f"{' x '.join(map(str, shape))}: FP8 products take multiples of {MULTIPLE} for N and K"


def width_faults(
    shapes: Mapping[str, tuple[int, ...]], chosen: Iterable[str], product_of: Callable[[str], str] = unit
) -> dict[str, str]:
    """Return why each of the `chosen` modules stays in 16 bit for a width, where one does: its own, or that of another
    matrix in its product. shapes: [N, K] by module. product_of: names the product that computes a module.
    """
    chosen = list(chosen)
    broken = {product_of(name): name for name in reversed(chosen) if width_fault(shapes[name])}
    faults = {}
    for name in chosen:
        other = broken.get(product_of(name))
        if other is not None:
            own = width_fault(shapes[name])
            faults[name] = own or f"one product computes it and {other}, which is {width_fault(shapes[other])}"
    return faults
