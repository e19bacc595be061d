"""Rows of `studies.exact.run`: how wide beams must be for exact answers, and what each policy costs and loses."""

from dataclasses import dataclass

from benchmarks.records import Row
from benchmarks.rows.verdicts import Interval


@dataclass(frozen=True)
class ExactRow(Row):
    """What every row of a run has."""

    run: str  # when the run began, ISO; all rows of one run carry it
    model: str  # which model
    parameters: int
    precision: str  # bf16 or fp8
    temperature: float  # that logits are divided by, inside the softmax; 1: as trained
    requests: int  # of a user each, whose seen items are excluded
    items: int  # of the catalog
    made_up: int  # of them that are neighbours of real items


@dataclass(frozen=True)
class TemperatureRow(ExactRow):
    """The temperature that makes validation targets likeliest; `temperature` is that one."""

    validation_nll: float  # nats a target, as trained
    validation_nll_calibrated: float  # nats a target, at the temperature


@dataclass(frozen=True)
class StartsRow(ExactRow):
    """How wide `auto` begins, as `octorec.evaluate.beam_starts.measure_widths` finds from validation histories."""

    starts: dict[str, int]  # beam width by k
    batch: int  # requests of a batch
    ms: dict[str, float]  # of a batch, host to host, at the median, by beam width


@dataclass(frozen=True)
class CertifiedRow(ExactRow):
    """What share of answers one beam width certifies."""

    beam_width: int
    certified: dict[str, float]  # share of requests, by k
    mass: float  # mean probability that the model gives its own ten
    recall_10: float  # of its own ten; a calibrated model's is its mass


@dataclass(frozen=True)
class PolicyAnswersRow(ExactRow):
    """The answers of one policy beside those of 512 beams."""

    policy: str  # a beam width, a schedule, or auto
    k: int
    recall: dict[str, float]  # by cutoff
    ndcg: dict[str, float]  # by cutoff
    overlap: dict[str, float]  # mean share of the list that 512 beams have too, by cutoff
    found: float  # mean items of a list
    exact: float  # share of answers that say so
    repeated: float  # share of requests that were searched for more than once
    beam_width: float  # mean beams of the last level that an answer says it took


@dataclass(frozen=True)
class ExactDifferenceRow(ExactRow):
    """Answers flagged exact beside the exact answers of the same requests from 512 beams."""

    policy: str
    k: int
    both_exact: int  # requests whose answer is exact on both sides
    differ: int  # of them, those with other items or another order
    near_ties: int  # of both_exact, those that differ only where scores are within 1e-6
    equal_scores: float  # share of both_exact whose scores have the same bits
    score_difference: float  # largest |difference| of the score of an item, where both have the same ones; nats


@dataclass(frozen=True)
class ScheduleVerdict(ExactRow):
    """A schedule against 512 beams at each level, on the same targets."""

    policy: str
    k: int
    relative_difference: dict[str, Interval]  # by metric; none of one that 512 beams have none of
    verdict: str
    users_needed: int | None  # for a verdict; None: there is one, or no number would do
    margin: float  # relative


@dataclass(frozen=True)
class ShopRow(ExactRow):
    """A model beside the counting Markov chain, on the test targets of one shop."""

    shop: str
    policy: str
    nll: float  # nats a target
    recall_10: float
    ndcg_10: float
    markov_recall_10: float
    markov_ndcg_10: float
    recall_lead: Interval  # mean difference, model - Markov chain
    ndcg_lead: Interval


@dataclass(frozen=True)
class BatchTimesRow(ExactRow):
    """What batches of requests take from host to host, repeats among them."""

    policy: str
    k: int
    batch: int  # requests of a batch
    batches: int
    p50_ms: float
    p99_ms: float
    repeated: float  # share of requests that were searched for more than once
