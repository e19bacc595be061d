"""Rows of the proof of quality: `studies.quality.run`, `pool` and `sweep`."""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.records import Row, key
from benchmarks.rows.verdicts import Interval


@dataclass(frozen=True)
class Subject(Row):
    """What a row of the proof is of."""

    scope: str  # beauty, sports, toys, or pooled
    model: str  # moe or dense
    seed: int  # of the training
    recipe: str  # the system's name
    arithmetic: str  # in what it computes


@dataclass(frozen=True)
class Metrics:
    """Means over both targets of every user."""

    recall_5: float = key("recall@5")
    ndcg_5: float = key("ndcg@5")
    recall_10: float = key("recall@10")
    ndcg_10: float = key("ndcg@10")


@dataclass(frozen=True)
class TrainingRow(Subject):
    """One training of a BF16 model."""

    beam: int  # beams that its system is asked with
    parameters: int
    train_config: dict[str, Any]  # the fields of TrainConfig
    history: tuple[dict[str, Any], ...]  # the trainer's records of validation, oldest first
    interactions: int  # learned from
    items: int  # of the catalog
    users: int


@dataclass(frozen=True)
class FloorRow(Metrics, Subject):
    """Popularity or the Markov chain on the same targets."""

    beam: int = field(kw_only=True)
    test: dict[str, float] = field(kw_only=True)  # the metrics over the test targets alone


@dataclass(frozen=True)
class Judged(Metrics, Subject):
    """A system against BF16 on the same targets."""

    users: int = field(kw_only=True)
    targets: int = field(kw_only=True)
    nll: float = field(kw_only=True)  # nats a target
    relative_difference: dict[str, Interval] = field(kw_only=True)  # by metric
    nll_difference: Interval = field(kw_only=True)  # nats a target
    verdict: str = field(kw_only=True)
    users_needed: int | None = field(kw_only=True)  # for a verdict; None: there is one, or no number would do
    margin: float = field(kw_only=True)  # relative


@dataclass(frozen=True)
class LogProbDifference:
    """|difference| of the log-probabilities of equal items, nats."""

    max: float
    mean: float


@dataclass(frozen=True)
class SetVerdict(Judged):
    """A system on one set, with its answers beside those of BF16."""

    beam: int = field(kw_only=True)
    test: dict[str, float] = field(kw_only=True)  # the metrics over the test targets alone
    top10_overlap: float = field(kw_only=True)  # mean share of the ten best items that both return
    log_prob_difference: LogProbDifference = field(kw_only=True)
    beam_overlap: float = field(kw_only=True)  # mean share of the beams that both return
    invalid: float = field(kw_only=True)  # share of beams that are no items
    # SQNR of the quantized products in dB; None: not simulated for this recipe.
    mean_sqnr_db: float | None = field(default=None, kw_only=True)
    lowest_sqnr_db: float | None = field(default=None, kw_only=True)
    lowest: str | None = field(default=None, kw_only=True)  # the product that has it
    products: int | None = field(default=None, kw_only=True)  # that are quantized


@dataclass(frozen=True)
class PooledVerdict(Judged):
    """A system over the stored answers of several sets, or another seed beside the first."""

    bf16: dict[str, float] = field(kw_only=True)  # the metrics and nll of BF16


@dataclass(frozen=True)
class SweepRow(Row):
    """One change of the settings, trained and judged on validation targets."""

    set: str
    base: str  # changes that every variant of the call had
    variant: str  # changes beside those
    params: int
    seconds: float
    history: tuple[dict[str, Any], ...]  # the trainer's records of validation, oldest first
    recall_10: float = key("recall@10")
    ndcg_10: float = key("ndcg@10")
