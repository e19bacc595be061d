"""Rows of whole batches of a Qwen model on a GPU: `benchmarks.qwen_speed`, `qwen_stock` and `qwen_ablation`."""

from dataclasses import dataclass, field
from typing import Literal

from benchmarks.records import Row
from benchmarks.rows.engine import KernelTime

Lengths = Literal["equal", "recif"]
Prefix = Literal["off", "miss", "hit"]


@dataclass(frozen=True)
class QwenWanted:
    """A batch to measure, on one system."""

    system: str  # octorec, stock graph or transformers, each with `, no trie` where any code may follow; a step's name
    model: str  # whose dimensions: 1.7b or 8b
    precision: str  # bf16, or a recipe: fp8 or fp8-block
    batch: int  # requests
    beam: int  # beams a request
    context: int  # tokens a prompt, at the mean
    lengths: Lengths = field(default="equal", kw_only=True)  # all prompts of `context` tokens, or as RecIF's
    prefix: Prefix = field(default="off", kw_only=True)  # no prefix cache; prompts that it has not met; that it holds

    @property
    def name(self) -> str:
        """What `--rows` looks in."""
        shape = f"{self.batch}x{self.context}x{self.beam}"
        return f"{self.system} {self.model} {self.precision} {shape} {self.lengths} prefix-{self.prefix}"


@dataclass(frozen=True)
class QwenRunRow(QwenWanted, Row):
    """What every row has."""

    run: str  # when the run began, ISO; all rows of one run carry it


@dataclass(frozen=True)
class QwenSpeedRow(QwenRunRow):
    """One batch: three levels of 8,192 codes, scores over the whole vocabulary, random weights."""

    requests_per_s: float  # batch / ms_per_batch
    ms_per_batch: float  # median on the device, from tokens on the host to codes there
    ms_p20: float  # 20th and 80th percentile of the same
    ms_p80: float
    tflops: float  # 10^12 operations a second of the model's work (`models.qwen_work`)
    mfu: float  # tflops as a share of the peak in the card's data sheet
    memory_gb: float  # most GPU memory that was allocated, in 10^9 bytes
    p50_ms: float | None = None  # from requests to answers of items, median; None: a system that gives codes
    p99_ms: float | None = None  # 99th percentile of the same
    n_items: int | None = None  # of the catalog; None: a system without a trie
    cached_tokens: int | None = None  # of a prompt that a prefix cache held, at the mean; None: there was none
    kernels_ms: float | None = None  # all kernels of one batch; None: not measured
    kernels: tuple[KernelTime, ...] | None = None  # the slowest of them, slowest first; None: not measured


@dataclass(frozen=True)
class QwenSpeedFailure(QwenRunRow):
    """A batch that could not be measured, such as for want of memory."""

    error: str  # class and message of the exception


@dataclass(frozen=True)
class QwenStepRow(QwenSpeedRow):
    """A batch with some operations replaced by our kernels."""

    replaced: tuple[str, ...] = field(kw_only=True)  # operations that are kernels of ours


@dataclass(frozen=True)
class ProbeWanted:
    """One operation of a Qwen model at one shape, computed in one way."""

    operation: str
    model: str  # whose dimensions: 1.7b or 8b
    shape: str  # what differs between calls, such as requests x tokens
    by: str  # ours, torch's way in words, or reference
    precision: str  # bf16; rows or groups: FP8 with scales by token and channel, or by group and block


@dataclass(frozen=True)
class ProbeRow(ProbeWanted, Row):
    """What one call takes."""

    us: float  # microseconds of a call: median, 20th and 80th percentile
    us_p20: float
    us_p80: float
    tflops: float  # TFLOP/s of what must be computed: of causal attention, half
    gb_s: float  # GB/s of the fewest bytes that must move
    error: float | None  # relative, against the reference in float32; None: the way leaves some of the work out


@dataclass(frozen=True)
class ProbeFailure(ProbeWanted, Row):
    """A way that was refused."""

    failure: str  # class and message of the exception
