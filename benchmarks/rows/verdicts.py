"""Rows of verdicts: the demo, how often intervals err, and experiments that were replayed.

Metrics are named as `octorec evaluate` names them: `recall@10`, `ndcg@10`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.records import Row, key


@dataclass(frozen=True)
class Interval:
    """A difference between two systems with its 95 % interval, as `octorec.evaluate.paired.Estimate` writes it."""

    value: float
    low: float | None  # None: unbounded
    high: float | None  # None: unbounded
    users: int
    discordant_users: int  # those whose sums differ
    joint_high: float | None = None  # the end that `inferior` is judged by; None: unbounded, or an older row
    method: str | None = None  # how it was computed; None: by the one method that there is today


@dataclass(frozen=True)
class Proof:
    """What `octorec prove` says of the same checkpoint."""

    outcome: str
    faults: tuple[str, ...]


@dataclass(frozen=True)
class DemoRow(Row):
    """One run of `make demo`: the fields of its demo.json."""

    bf16: dict[str, float]  # by metric
    fp8: dict[str, float]
    popularity: dict[str, float]
    markov: dict[str, float]
    difference: dict[str, Interval]  # relative, FP8 against BF16, by metric
    nll_difference: Interval  # nats a target
    beats: dict[str, bool]  # whether BF16 beats each floor
    margin: float  # relative
    verdict: str
    users_needed: int | None  # for a verdict; None: there is one
    bytes: dict[str, int]  # of the weights, by precision
    quantized_ratio: float  # bytes after / before, over the quantized parts
    seconds: dict[str, float]  # by stage
    cores: int
    proof: Proof | None = None  # None: the demo had no such stage


@dataclass(frozen=True)
class PopulationRow(Row):
    """How often intervals of differences err on one made-up population. Rates are shares of samples."""

    losses: int  # expected in a sample
    targets: int  # a user
    who: str  # who loses
    balanced: bool  # whether as much is gained as lost
    kind: Literal["ratio", "mean"]
    simulations: int  # samples
    users: float  # a sample
    recall_low_errs: float = key("recall: low errs")  # the low end lies above the truth
    recall_high_errs: float = key("recall: high errs")  # the high end lies below it
    recall_power: float = key("recall: power")
    ndcg_low_errs: float = key("ndcg: low errs")
    ndcg_high_errs: float = key("ndcg: high errs")
    ndcg_power: float = key("ndcg: power")
    not_inferior_errs: float = key("not_inferior errs")  # the verdict, at a margin that is the truth
    inferior_errs: float = key("inferior errs")

    @property
    def error_rates(self) -> list[float]:
        ends = [self.recall_low_errs, self.recall_high_errs, self.ndcg_low_errs, self.ndcg_high_errs]
        return [*ends, self.not_inferior_errs, self.inferior_errs]


@dataclass(frozen=True)
class NllRow(Row):
    """How often intervals of NLL err on one made-up population."""

    shape: str  # of the differences
    users: float  # a sample
    simulations: int  # samples
    low_errs: float = key("nll: low errs")
    high_errs: float = key("nll: high errs")
    power: float = key("nll: power")
    not_inferior_errs: float = key("not_inferior errs")
    inferior_errs: float = key("inferior errs")

    @property
    def error_rates(self) -> list[float]:
        return [self.low_errs, self.high_errs, self.not_inferior_errs, self.inferior_errs]


@dataclass(frozen=True)
class OnlineCellRow(Row):
    """How often the verdict online errs in one cell. Rates are shares of runs in which it happens at some look."""

    what: str  # is measured
    share: str  # of the units that the treatment gets
    when: str  # looks are taken
    truth: Literal["same", "margin"]  # nothing differs, or the treatment loses what the guardrail allows
    simulations: int  # runs
    units: float  # planned
    coverage: float  # all looks' intervals hold the truth
    coverage_at_the_end: float = key("coverage at the end")
    # Not measured (None) where the truth is `margin`:
    goal_errs: float | None = field(default=None, metadata={"key": "goal errs"})  # its word is better or worse
    power: float | None = None  # the guardrail's word is not_inferior
    # Not measured (None) where the truth is `same`:
    guardrail_errs: float | None = field(default=None, metadata={"key": "guardrail errs"})  # not_inferior, wrongly


@dataclass(frozen=True)
class SampleRatioRow(Row):
    """How often sound experiments are found broken by their sample ratio."""

    what: Literal["sample ratio"]
    share: str  # of the units that the treatment gets
    simulations: int  # runs
    errs: float  # share of runs


@dataclass(frozen=True)
class ReplayRow(Row):
    """One experiment on people's past, from its file to its verdict."""

    set: str  # whose past
    experiment: str
    expected: str  # the verdict that was written down before the first run
    outcome: str  # the verdict
    users: int
    requests: int
    hits: int  # requests whose next item was shown
    failed: int  # requests without an answer
    seconds: float
    report: dict[str, Any]  # what `octorec ab report --json` prints, and its exit code
    device: str = "cpu"  # of the server; the default is where rows were measured before it was recorded
