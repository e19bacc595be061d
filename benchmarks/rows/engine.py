"""Rows of whole batches on a GPU: `benchmarks.engine`, `benchmarks.headline` and `benchmarks.ablation`."""

from dataclasses import dataclass, field
from typing import Literal

from benchmarks.records import Row

Routing = Literal["random", "balanced", "skewed"]  # routers as initialised, or biased


@dataclass(frozen=True)
class Wanted:
    """A batch to measure, on one system."""

    system: str  # octorec, stock eager or stock graph; a step's name in the ablation
    preset: str
    precision: str  # bf16, fp16 or fp8
    batch: int  # requests
    beam: int  # beams a request
    context: int  # items of history a request
    routing: Routing = field(default="balanced", kw_only=True)

    @property
    def name(self) -> str:
        """What `--rows` looks in."""
        shape = f"{self.batch}x{self.beam}x{self.context}"
        return f"{self.system} {self.preset} {self.precision} {shape} {self.routing}"


@dataclass(frozen=True)
class KernelTime:
    """What one kernel takes in a batch."""

    kernel: str  # its name, cut to 80 characters
    calls: int
    ms: float  # of all calls


@dataclass(frozen=True)
class EngineRow(Wanted, Row):
    """One batch of a system, timed on the device and from the host to the host."""

    requests_per_s: float  # batch / ms_per_batch
    ms_per_batch: float  # median on the device
    ms_p20: float  # 20th and 80th percentile on the device
    ms_p80: float
    tflops: float  # floating-point operations a second, in 10^12
    mfu: float  # tflops as a share of the peak in the card's data sheet
    memory_gb: float  # most GPU memory that was allocated, in 10^9 bytes
    routing: Routing = field(default="random", kw_only=True)  # routers as initialised: before they were biased
    p50_ms: float | None = None  # from the host to the host, median and 99th percentile; None: not measured
    p99_ms: float | None = None
    busiest_expert: float | None = None  # its load over the mean; None: not measured, or a model without experts
    capture_s: float | None = None  # seconds to warm the bucket up and capture it; None: no graph of ours
    n_items: int | None = None  # of the catalog; None: a system without a trie
    accumulate: dict[str, str] | None = None  # how FP8 sums are made, by kind of scales; None: stock, or not recorded
    kernels_ms: float | None = None  # all kernels of one batch; None: not measured
    kernels: tuple[KernelTime, ...] | None = None  # the slowest of them, slowest first; None: not measured

    @property
    def shape(self) -> tuple[int, int, int]:
        """Batch, beam and context."""
        return self.batch, self.beam, self.context

    @property
    def skewed(self) -> bool:
        return self.routing == "skewed"


@dataclass(frozen=True)
class EngineFailure(Wanted, Row):
    """A batch that could not be measured."""

    error: str  # class and message of the exception


@dataclass(frozen=True)
class ProductBits(Row):
    """Whether the first rows of a product have the same bits, whatever number of rows stands below them."""

    preset: str
    precision: str  # bf16 or a recipe
    module: str
    kind: str  # Linear, FP8Linear or Head
    residual: bool  # whether one was added in the product
    n: int  # rows of the weight
    k: int  # its columns
    rows: tuple[int, ...]  # of x, which were tried
    differing_rows: tuple[int, ...]  # those where the first rows are not as among the most
    most: float  # the largest difference of a value


@dataclass(frozen=True)
class SearchBits(Row):
    """Whether code tuples score the same, whatever the width of the beam that found them."""

    preset: str
    precision: str  # bf16 or a recipe
    widths: tuple[int, ...]
    compared: int  # tuples that a beam and the widest both found
    differing: int  # those with another score
    most: float  # the largest difference, nats
    exact: int  # narrow answers called exact
    wrong: int  # those with other tuples than the widest's answer


@dataclass(frozen=True)
class HeadlineRow(Row):
    """What every row of `benchmarks.headline` has."""

    run: str = field(kw_only=True)  # when the run began, ISO; all rows of one run carry it


@dataclass(frozen=True)
class HeadlineCeilings(HeadlineRow):
    """What the card reaches in this run: GB/s of three ways through memory, TFLOP/s of large products."""

    kind: Literal["ceilings"]
    copy: int  # GB/s
    add: int  # GB/s
    read: int  # GB/s
    bf16: int  # TFLOP/s
    fp8: int  # TFLOP/s
    memory: int  # GB/s, the largest of the three


@dataclass(frozen=True)
class HeadlineBatch(EngineRow, HeadlineRow):
    """A row of `benchmarks.engine` that was measured in a run of `benchmarks.headline`."""

    kind: Literal["batch"] = field(kw_only=True)


@dataclass(frozen=True)
class HeadlineFailure(EngineFailure, HeadlineRow):
    """A batch of a run that could not be measured."""

    kind: Literal["batch"] = field(kw_only=True)


@dataclass(frozen=True)
class BoundTime:
    """What one operation takes in a batch while one thing bounds it."""

    operation: str  # of `bounds.OPERATIONS` or torch's name; a kernel's name where it belongs to none
    bound: str  # memory, arithmetic or unknown
    ms: float


@dataclass(frozen=True)
class HeadlineBounds(HeadlineRow):
    """How long the kernels of one batch take, by what bounds them."""

    kind: Literal["bounds"]
    system: str
    precision: str
    memory_ms: float  # waiting for memory
    arithmetic_ms: float
    unknown_ms: float  # kernels of no known operation
    largest: tuple[BoundTime, ...]  # the operations that take most


@dataclass(frozen=True)
class HeadlineBoundsFailure(HeadlineRow):
    """A system whose kernels could not be profiled."""

    kind: Literal["bounds"]
    system: str
    precision: str
    error: str


@dataclass(frozen=True)
class AblationRow(EngineRow):
    """A batch with some operations replaced by our kernels."""

    recipe: str = field(kw_only=True)  # of the weights; bf16 for none
    replaced: tuple[str, ...] = field(kw_only=True)  # operations that are kernels of ours


@dataclass(frozen=True)
class AblationFailure(Row):
    """A step that could not be measured."""

    system: str  # the step's name
    error: str
