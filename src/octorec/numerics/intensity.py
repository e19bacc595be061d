"""Does speed follow? The roofline sets a part's FLOPs per byte beside a GPU's balance point (Williams et al. 2009).

A part takes at least the longer of its arithmetic at the peak rate and its traffic at the peak bandwidth. Neither peak
is ever reached, so these are bounds and shares, no forecasts. Letters: M rows, N and K of a product [M, K] x [K, N].
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from octorec.errors import InputError
from octorec.settings import AtLeastOne, check_types, setting


@dataclass(frozen=True)
class GPU:
    """A GPU has dense peaks: 16-bit and FP8 FLOP/s with 32-bit accumulation (fp8 None: no FP8 tensor
    cores), bytes/s.
    """

    name: str
    bf16: float
    fp8: float | None
    bandwidth: float

    @property
    def balance(self) -> float:
        """Return the FLOP per byte at which 16-bit arithmetic takes as long as the traffic."""
        return self.bf16 / self.bandwidth


GPUS = {
    # NVIDIA H100 Tensor Core GPU datasheet, SXM: half of the rates "with sparsity"; 3.35 TB/s
    "h100": GPU("H100 SXM 80GB", 989e12, 1979e12, 3.35e12),
    # NVIDIA H200 Tensor Core GPU datasheet, SXM: half of the rates "with sparsity"; 4.8 TB/s
    "h200": GPU("H200 SXM 141GB", 989e12, 1979e12, 4.8e12),
    # NVIDIA A100 Tensor Core GPU datasheet, 80GB SXM: 312 TFLOP/s BF16, 2,039 GB/s; no FP8
    "a100": GPU("A100 SXM 80GB", 312e12, None, 2.039e12),
    # NVIDIA L40S datasheet: 362 TFLOP/s BF16 and 733 FP8 without sparsity; 864 GB/s
    "l40s": GPU("L40S", 362e12, 733e12, 864e9),
    # NVIDIA Ada GPU architecture whitepaper, appendix A: 165.2 TFLOP/s BF16, 330.3 FP8 with FP32 accumulate; 1,008 GB/s
    "4090": GPU("RTX 4090", 165.2e12, 330.3e12, 1.008e12),
}


@dataclass(frozen=True)
class Workload:
    """A Workload is what is served: requests a batch, beams (of a ranker: candidates) a request, context items a
    request, and the GPU.
    """

    batch: AtLeastOne = setting(32, "Requests a batch, for the roofline.")
    beam: AtLeastOne = setting(512, "Beams (of a ranker: candidates) a request.")
    context: AtLeastOne = setting(512, "Context items a request.")
    gpu: str = setting("h100", "h100, h200, a100, l40s or 4090.")

    def __post_init__(self) -> None:
        check_types(self)
        if self.gpu not in GPUS:
            raise InputError("gpu", self.gpu, f"allowed: {', '.join(GPUS)}")


@dataclass(frozen=True)
class Work:
    """A Work is a launch of one part: FLOPs, and bytes in 16 bit and under the recipe.

    fp8: its FLOPs then run at FP8's rate.
    """

    part: str
    flops: float
    bytes_16: float
    bytes_8: float
    fp8: bool


@dataclass(frozen=True)
class Part:
    """A Part is all launches of one name.

    seconds_16, seconds_8: lower bounds of the time in 16 bit and in FP8. bound: what limits more than half of
    seconds_16.
    """

    name: str
    flops: float
    bytes_16: float
    seconds_16: float
    seconds_8: float
    memory_seconds: float
    fp8: bool

    @property
    def intensity(self) -> float:
        """Return the FLOP per byte in 16 bit."""
        return self.flops / self.bytes_16 if self.bytes_16 else 0.0

    @property
    def bound(self) -> str:
        return "memory" if self.memory_seconds > self.seconds_16 / 2 else "compute"


@dataclass(frozen=True)
class Roofline:
    """A Roofline bounds the speed of a workload on a GPU.

    memory_bound: share of the time in 16 bit that waits for memory.
    gain: the most that FP8 under the recipe can gain, time in 16 bit over time in FP8; gains: the same on every GPU of
    the table.
    """

    workload: Workload
    gpu: GPU
    parts: tuple[Part, ...]
    memory_bound: float
    gain: float
    gains: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(part.seconds_16 for part in self.parts)

    @property
    def reason(self) -> str:
        """Return the reason in words."""
        return (
            f"On an {self.gpu.name} at batch {self.workload.batch}, beam {self.workload.beam}, context "
            f"{self.workload.context} at least {self.memory_bound:.0%} of the time in 16 bit waits for memory (balance "
            f"point {self.gpu.balance:.0f} FLOP/byte); under this recipe FP8 gains {self.gain:.2f}x at most."
        )

    def to_dict(self) -> dict[str, Any]:
        shown = ("name", "flops", "bytes_16", "intensity", "bound", "seconds_16", "seconds_8", "fp8")
        return {
            "gpu": self.gpu.name,
            "balance": self.gpu.balance,
            "batch": self.workload.batch,
            "beam": self.workload.beam,
            "context": self.workload.context,
            "memory_bound": self.memory_bound,
            "gain": self.gain,
            "gains": self.gains,
            "parts": [{name: getattr(part, name) for name in shown} for part in self.parts],
            "notes": list(self.notes),
        }


def product(part: str, rows: float, n: int, k: int, fp8: bool, weights: float = 1.0, out_bytes: int = 2) -> Work:
    """Return the work of [M, K] x [K, N]: each operand read once, the result written once.

    weights: how many matrices [N, K] the M rows read between them (experts). out_bytes: of a value of the result.
    """
    operands = weights * n * k + rows * k
    written = rows * n * out_bytes
    return Work(part, 2.0 * rows * n * k, 2 * operands + written, (1 if fp8 else 2) * operands + written, fp8)


def traffic(part: str, values: float, flops: float = 0.0, width: int = 2, shrunk: float = 0.0) -> Work:
    """Return the work of `values` numbers of `width` bytes read or written; under the recipe `shrunk`
    of them are a byte shorter.

    They are what a part writes for an FP8 product, when it quantizes while it writes.
    """
    return Work(part, flops, values * width, values * width - shrunk, False)


def estimate(works: Sequence[Work], workload: Workload, notes: Iterable[str] = ()) -> Roofline:
    """Return the roofline of `works` on the workload's GPU."""
    gpu = GPUS[workload.gpu]
    parts = _parts(works, gpu)
    before = sum(part.seconds_16 for part in parts)
    waiting = sum(part.memory_seconds for part in parts)
    gains = {name: _gain(_parts(works, each)) for name, each in GPUS.items()}
    share = waiting / before if before else 0.0
    return Roofline(workload, gpu, tuple(parts), share, _gain(parts), gains, tuple(notes))


def _parts(works: Sequence[Work], gpu: GPU) -> list[Part]:
    groups: dict[str, list[Work]] = defaultdict(list)
    for work in works:
        groups[work.part].append(work)
    parts = []
    for name, group in groups.items():
        memory = [work.bytes_16 / gpu.bandwidth for work in group]
        compute = [work.flops / gpu.bf16 for work in group]
        slower = list(map(max, memory, compute))
        parts.append(
            Part(
                name=name,
                flops=sum(work.flops for work in group),
                bytes_16=sum(work.bytes_16 for work in group),
                seconds_16=sum(slower),
                seconds_8=sum(_seconds_8(work, gpu) for work in group),
                memory_seconds=sum(m for m, c in zip(memory, compute, strict=True) if m > c),
                fp8=any(work.fp8 for work in group),
            )
        )
    return parts


def _seconds_8(work: Work, gpu: GPU) -> float:
    if gpu.fp8 is None:
        return max(work.bytes_16 / gpu.bandwidth, work.flops / gpu.bf16)
    return max(work.bytes_8 / gpu.bandwidth, work.flops / (gpu.fp8 if work.fp8 else gpu.bf16))


def _gain(parts: Sequence[Part]) -> float:
    after = sum(part.seconds_8 for part in parts)
    return sum(part.seconds_16 for part in parts) / after if after else 1.0
