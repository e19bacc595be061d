"""A family says what a batch computes and moves; `numerics.workload` makes a roofline of it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Traffic:
    """A Traffic is values that are read and written beside the matrices' products.

    part: what for, in words. values: numbers moved, of `width` bytes each in 16 bit. flops: computed with them.
    product: the module whose input is written; where it is in FP8, `shrunk` of the values take a byte.
    """

    part: str
    values: float
    flops: float = 0.0
    width: int = 2
    product: str | None = None
    shrunk: float = 0.0


@dataclass(frozen=True)
class Work:
    """A Work is the work of one batch.

    rows: M of each pass, for the name of a tensor: rows that a matrix multiplies, that a norm reads, or that are looked
    up in a table of embeddings. traffic: whatever else is moved.
    """

    rows: Callable[[str], list[int]]
    traffic: tuple[Traffic, ...]
