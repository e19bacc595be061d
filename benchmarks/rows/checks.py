"""Rows of `benchmarks.correctness`: the GPU engine against references."""

from dataclasses import dataclass

from benchmarks.records import Row


@dataclass(frozen=True)
class EngineCheck(Row):
    """A trained checkpoint on the GPU beside the reference operations on the CPU."""

    precision: str  # bf16 or fp8
    mean_drift: float  # |difference| of teacher-forced log-probabilities, nats a code: mean and largest
    max_drift: float
    top10_overlap: float  # mean share of the ten best items that both return
    beam_overlap: float  # the same of all items of 128 beams
    bounds: dict[str, float]  # by the names of the fields that they bound
    mixes: int  # other batch compositions that were tried
    differing: int  # answers that changed by a bit in one of them
    batches: int  # of the long run
    invalid: int  # answers of it with an unknown item or a score that is not finite
    memory_gained_mb: float  # GPU memory gained over it, 2^20 bytes
    held: bool  # whether every bound held
    checkpoint: str | None = None  # the folder's name; None: rows of a check without the noise, which no page shows
    noise_at_max_drift: float | None = None  # nats; this and what follows None: the noise was not measured
    max_noise: float | None = None  # the most that roundings move a code of the reference, nats
    beyond_noise: float | None = None  # the most by which a code's difference exceeds its noise, nats


@dataclass(frozen=True)
class LayerCheck(Row):
    """One layer's kernels against float64; all errors are relative in the root of the sum of squares."""

    layer: str
    precision: str  # bf16 or fp8
    error: float  # of the kernel's result against float64 on the same operands
    rounding: float  # of that float64 result in the kernel's output type
    quantization: float  # of that float64 result against unquantized operands; 0 in 16 bit
    bound: float  # the largest `error` that is allowed
    held: bool
