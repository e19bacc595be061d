"""CARDS are what the kernels know, and TABLE says which matrix product serves which card and shape.

A product is x [T, K] times a weight [N, K] transposed, or a weight of experts [E, N, K]. Three implementations exist:

| by | is |
| --- | --- |
| torch | cuBLAS, for one weight |
| triton | `gemm`: one kernel for every card, laid out by the card's tile |
| hopper | `gemm_hopper`: for tensor cores that groups of four warps feed from shared memory |

A kernel for another card is a record in CARDS, or a feature of one, and its rows in TABLE. Imports neither triton nor
torch: loading a checkpoint asks as well.
"""

from dataclasses import dataclass
from typing import Literal

from octorec.errors import InputError

Scales = Literal["none", "rows", "groups"]  # 16 bit; by token and channel; by group and block
Fusion = Literal["none", "residual", "swiglu", "swiglu_cast"]  # what a product does before it writes; `_cast`: by group
Accumulate = Literal["float32", "fast"]  # where sums are kept; `fast`: in the tensor cores, over all of K
Implementation = Literal["torch", "triton", "hopper"]
ACCUMULATE: Accumulate = "fast"  # of linear layers by rows; `linear` says why


@dataclass(frozen=True)
class Tile:
    """A Tile lays out `gemm`'s kernel. It is never a matter of the result, and chosen by the card, not by rows.

    rows x columns: of an accumulator; `halves` accumulators lie side by side and share the rows of x. depth: values of
    K a step. band: row tiles that are walked column by column, so that they stay in L2. stages: steps of K in
    flight. resident: programs a multiprocessor, of which there are as many as fit at once.
    """

    rows: int = 128
    columns: int = 128
    halves: int = 2
    depth: int = 128
    band: int = 8
    warps: int = 8
    stages: int = 4
    resident: int = 1


@dataclass(frozen=True)
class Tiling:
    """A Tiling lays out `cross_attention`'s kernel.

    rows (beams) and context items of a tile: powers of two. warps of a program; stages of its loads.
    """

    rows: int = 128
    items: int = 128
    warps: int = 8
    stages: int = 2


@dataclass(frozen=True)
class Card:
    """A Card is what kernels need to know of all cards of one kind.

    capabilities: the compute capabilities (major, minor) of its chips. shared: bytes of shared memory a block may take.
    fp8: whether tensor cores multiply FP8. warp_groups: whether groups of four warps feed them from shared memory.
    """

    name: str
    capabilities: tuple[tuple[int, int], ...]
    shared: int
    fp8: bool
    tile: Tile
    attention: Tiling
    warp_groups: bool = False

    @property
    def overlaps(self) -> bool:
        """Tell whether a kernel's programs may start before the kernel before it has ended."""
        return self.capabilities >= ((9, 0),)


LARGE, SMALL = Tile(), Tile(rows=32, stages=3)  # these ask for 224 and 80 KB of shared memory
SQUARE = Tiling(rows=64, items=64, warps=4, stages=3)  # a third faster than rows of 128 at B 32, W 512, S 512
FLAT = Tiling(items=32)  # where sums of the older tensor cores leave registers for no more

AMPERE = Card("Ampere", ((8, 0), (8, 7)), 163 * 1024, fp8=False, tile=SMALL, attention=FLAT)
AMPERE_RTX = Card("Ampere RTX", ((8, 6),), 99 * 1024, fp8=False, tile=SMALL, attention=FLAT)
ADA = Card("Ada", ((8, 9),), 99 * 1024, fp8=True, tile=SMALL, attention=FLAT)
HOPPER = Card("Hopper", ((9, 0),), 227 * 1024, fp8=True, tile=LARGE, attention=SQUARE, warp_groups=True)
BLACKWELL = Card("Blackwell", ((10, 0), (10, 3)), 227 * 1024, fp8=True, tile=LARGE, attention=SQUARE)
BLACKWELL_RTX = Card("Blackwell RTX", ((12, 0), (12, 1)), 99 * 1024, fp8=True, tile=SMALL, attention=SQUARE)
CARDS = (AMPERE, AMPERE_RTX, ADA, HOPPER, BLACKWELL, BLACKWELL_RTX)
INTERPRETER = Card("Triton's interpreter", (), 227 * 1024, fp8=True, tile=LARGE, attention=SQUARE)


def card_with(capability: tuple[int, int]) -> Card:
    """Return the one record of a compute capability (major, minor); raise InputError where there is none."""
    for card in CARDS:
        if capability in card.capabilities:
            return card
    known = sorted(each for card in CARDS for each in card.capabilities)
    *first, last = (".".join(map(str, each)) for each in known)
    has = ".".join(map(str, capability))
    raise InputError("compute capability", has, f"{', '.join(first)} or {last} is needed: take cpu")


@dataclass(frozen=True)
class Problem:
    """A Problem is what is to be multiplied: a weight of N rows and K columns, of a layer or of `experts`, and how."""

    scales: Scales
    n: int
    k: int
    fusion: Fusion = "none"
    sums: Accumulate = "float32"
    experts: bool = False


@dataclass(frozen=True)
class Row:
    """A Row is a line of the table: `by` serves where all of it holds, and None stands for any."""

    by: Implementation
    scales: Scales | None = None
    fusions: tuple[Fusion, ...] | None = None
    sums: Accumulate | None = None
    experts: bool | None = None
    warp_groups: bool = False  # the card has them
    shapes: tuple[tuple[int, int], ...] | None = None  # (N, K)

    def serves(self, card: Card, problem: Problem) -> bool:
        """Tell whether everything that this line asks for holds."""
        return (
            self.scales in (None, problem.scales)
            and (self.fusions is None or problem.fusion in self.fusions)
            and self.sums in (None, problem.sums)
            and self.experts in (None, problem.experts)
            and (card.warp_groups or not self.warp_groups)
            and (self.shapes is None or (problem.n, problem.k) in self.shapes)
        )


FASTER = (
    (1408, 1408),
    (11264, 1408),
    (4096, 2048),
)  # ours than torch's, by results/products.jsonl and qwen_kernels.jsonl
ADDS: tuple[Fusion, ...] = ("none", "residual")

TABLE = (  # the first line that serves
    Row("torch", "none", ADDS, experts=False),
    Row("hopper", "rows", ("none",), "fast", experts=False, warp_groups=True, shapes=FASTER),
    Row("torch", "rows", ("none",), experts=False),
    Row("hopper", "rows", ADDS, "fast", warp_groups=True),
    Row("hopper", "groups", warp_groups=True),
    Row("triton"),
)


def product_for(card: Card, problem: Problem, but: Implementation | None = None) -> Implementation:
    """Return who multiplies, as the first line of TABLE that serves says; lines of `but` are left out."""
    return next(row.by for row in TABLE if row.by != but and row.serves(card, problem))
