"""The rows of `studies.families.run`, one a model."""

from dataclasses import dataclass

from benchmarks.records import Row


@dataclass(frozen=True)
class Effect:
    """What rounding the operands of products does to a model's answers.

    baseline and value: the metric before and after. change with its 95 % interval low..high: value - baseline, or
    value / baseline - 1 where `relative`, on the same examples.
    """

    metric: str
    scheme: str  # a name of `numerics.activations.SCHEMES`, a recipe's, or bfloat16
    keeps: str  # what stayed as it was, in words, empty for nothing
    baseline: float
    value: float
    change: float
    low: float
    high: float
    relative: bool = False
    larger_is_better: bool = True


@dataclass(frozen=True)
class Summary:
    """Magnitudes of several tensors: largest and median of each measure, and the tensor that has the largest."""

    absmax_max: float
    absmax_median: float
    absmax_of: str
    mean_abs_max: float
    mean_abs_median: float
    mean_abs_of: str
    variance_max: float
    variance_median: float
    variance_of: str


@dataclass(frozen=True)
class Auc:
    """An AUC with its 95 % interval, and its difference from the model's with an interval of its own."""

    auc: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


@dataclass(frozen=True)
class FamilyRow(Row):
    """One model: its weights, its inputs, and its answers before and after FP8."""

    family: str  # the model's name
    kind: str  # ranker, OneRec-V2 or LLM
    source: str
    trained: bool  # False: an initialised network, which is no evidence of anything
    matrices: int  # operands of products
    quiet: int  # of them, those below the variance that the paper states
    weights: Summary | None  # of the matrices; None: none was measured
    other_tensors: Summary | None  # of all other tensors
    inputs: Summary | None  # of what the matrices are multiplied by
    sqnr_weights: dict[str, float | None]  # lowest in dB, by granularity; None: nothing was lost or measured
    sqnr_inputs: dict[str, float | None]
    output_error: dict[str, float | None]  # largest relative error of a product's output, by scheme
    effects: tuple[Effect, ...]  # the one that claims are judged by comes first
    memory_bound: float | None  # share of the least time in 16 bit; None: not computed
    gain: float | None  # the most that FP8 can gain, as a factor; None: not computed
    notes: tuple[str, ...]
    aucs: dict[str, Auc] | None  # of floors and other rankers, by name; None: no ranker
