"""Layouts of the kernels that `benchmarks.attention_probe --tilings` tries beside those that a card has."""

import itertools
from collections.abc import Iterator
from dataclasses import asdict

from octorec.kernels.products import Tile, Tiling

TRIED = "tried: "  # how the name of such a way begins
ATTENTION = tuple(
    Tiling(rows, items, warps, stages)
    for rows, items, warps, stages in itertools.product((64, 128), (32, 64, 128), (4, 8), (2, 3, 4))
    if (rows + 2 * items * stages) * 256 <= 227 * 1024 and (rows == 128 or warps == 4)  # bytes of heads of 128 values
)
VOCABULARY = tuple(
    Tile(rows=rows, columns=columns, halves=1, depth=64, band=band, warps=8, stages=stages)
    for rows, columns, stages, band in (
        (64, 128, 4, 16), (64, 256, 4, 16), (128, 128, 4, 16), (128, 256, 3, 16), (128, 256, 4, 8), (128, 256, 4, 32)
    )
)  # fmt: skip
PRODUCTS = tuple(
    Tile(rows=rows, columns=columns, halves=halves, stages=stages, warps=warps, resident=resident)
    for rows, columns, halves, stages, warps, resident in (
        (128, 128, 2, 4, 8, 1), (128, 128, 1, 4, 8, 1), (128, 128, 1, 3, 4, 2), (64, 128, 1, 4, 4, 2),
        (64, 128, 2, 4, 4, 1), (32, 128, 1, 4, 4, 2), (64, 256, 1, 4, 4, 1),
    )
)  # fmt: skip


def called(layout: Tile | Tiling) -> str:
    """A layout in words."""
    return TRIED + " ".join(f"{name} {value}" for name, value in asdict(layout).items())


def layouts(operation: str) -> Iterator[Tile | Tiling]:
    """The layouts that an operation's kernel takes."""
    if operation in ("prefill_attention", "beam_attention"):
        yield from ATTENTION
    elif operation == "log_norm":
        yield from VOCABULARY
    elif operation == "product":
        yield from PRODUCTS
