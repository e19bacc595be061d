"""Rows of single operations on a GPU: `benchmarks.kernels` and `benchmarks.products`. T: rows of an operation."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.records import Row


@dataclass(frozen=True)
class KernelCeilings(Row):
    """What the card reaches in this run; the rows that follow are measured against it."""

    op: Literal["ceilings"]
    copy: int  # GB/s
    bf16: int  # TFLOP/s of a large product
    fp8: int  # TFLOP/s of a large product
    add: int | None = None  # GB/s; None: only a copy was measured
    read: int | None = None  # GB/s; None: only a copy was measured

    @property
    def streams(self) -> dict[str, int]:
        """GB/s by way through memory, of those that were measured."""
        found = {"copy": self.copy, "add": self.add, "read": self.read}
        return {name: rate for name, rate in found.items() if rate is not None}

    @property
    def memory(self) -> int:
        """GB/s of the fastest way through memory that was measured."""
        return max(self.streams.values())

    @property
    def products(self) -> dict[str, int]:
        """TFLOP/s of a large product, by precision."""
        return {"bf16": self.bf16, "fp8": self.fp8}


@dataclass(frozen=True)
class KernelRow(Row):
    """One operation at one shape: its time, its rates, and stock PyTorch beside it."""

    op: str
    name: str  # the shape or variant
    T: int
    precision: str  # bf16 or fp8: whose ceiling counts
    us: float  # microseconds of a call: median, 20th and 80th percentile
    us_p20: float
    us_p80: float
    tflops: float  # TFLOP/s
    gb_s: int  # GB/s of the fewest bytes that must move
    flop_per_byte: float
    bound: Literal["memory", "arithmetic"]
    flop_per_byte_before: float | None = None  # of stock PyTorch; this and what follows None: nothing to compare with
    bound_before: Literal["memory", "arithmetic"] | None = None
    stock: str | None = None  # what it is compared with
    stock_us: float | None = None  # microseconds of a call
    times_stock: float | None = None  # stock_us / us
    percent_of_ceiling: int | None = None  # None: not kept any more, since it follows from the ceilings' row


@dataclass(frozen=True)
class KernelFailure(Row):
    """An operation that is wrong, or a shape that could not be timed."""

    op: str
    error: str
    name: str | None = None  # None: the whole operation
    T: int | None = None  # None: the whole operation


@dataclass(frozen=True)
class AttentionRow(Row):
    """One attention or beam step at one shape, by a program that `benchmarks.kernels` has replaced."""

    op: str
    shape: str
    variant: str
    us: float  # microseconds of a call: median, 20th and 80th percentile
    us_p20: float
    us_p80: float
    gb_s: int  # GB/s
    percent_of_copy: int  # gb_s as a percentage of a copy's
    tflops: float | None  # None: no products in it
    stock_us: float | None  # None: nothing to compare with
    times_stock: float | None


@dataclass(frozen=True)
class Product:
    """Which product it is, and who computes it: x [T, K] times weight [N, K] transposed."""

    product: str
    N: int
    K: int
    scales: Literal["rows", "groups"]  # what shares a scale
    T: int
    by: str  # ours, torch or deepgemm
    sums: Literal["fast", "float32"]  # where the sums of K are kept


@dataclass(frozen=True)
class ProductRow(Row, Product):
    """One FP8 product by one implementation: its time and its error."""

    us: float  # microseconds of a call: median, 20th and 80th percentile
    us_p20: float
    us_p80: float
    tflops: int  # TFLOP/s
    error: float  # relative, against float64 on the same quantized operands
    rounding: float  # relative error of the float64 result in the output's type
    right: bool | None = None  # None: not kept any more, since `speed_report.is_right` says it from the errors


@dataclass(frozen=True)
class ProductFailure(Row, Product):
    """A product that an implementation refused or that raised."""

    failure: str
