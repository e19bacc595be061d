"""Rows of `studies.qwen.run`: a Qwen3 trained on three shops, its answers beside floors, and beside transformers'."""

from dataclasses import dataclass, field

from benchmarks.records import Row
from benchmarks.rows.quality import LogProbDifference, Metrics
from benchmarks.rows.verdicts import Interval


@dataclass(frozen=True)
class QwenRow(Row):
    """What every row of a run has."""

    run: str  # when the run began, ISO; all rows of one run carry it
    model: str  # which model
    parameters: int  # tied embeddings once


@dataclass(frozen=True)
class QwenTrainingRow(QwenRow):
    """How the model was trained; the same settings and steps on the same card train it again."""

    shape: dict[str, int]  # of config.json
    codebook_sizes: tuple[int, ...]
    training: dict[str, float | list[float]]  # `studies.qwen.settings.Training`, with the steps that were taken
    users: int
    seconds: float  # of the steps
    ms: float  # a step, at the mean
    items: int  # predicted in all
    tflops: float  # TFLOP/s of the products, six a weight and token
    losses: list[float]  # nats a code, smoothed, in each part of the training


@dataclass(frozen=True)
class QwenAnswersRow(QwenRow):
    """Answers to the held-out targets of one shop beside the floors'. A code tuple is an item: by SID is by item.

    Each request has one target, so that recall, hit rate and pass at k are one number.
    """

    shop: str
    split: str  # validation or test
    requests: int  # of a user each, whose seen items are excluded
    beam_width: int
    nll: float  # nats a target, over the whole vocabulary
    recall_10: float
    ndcg_10: float
    markov_recall_10: float
    markov_ndcg_10: float
    popularity_recall_10: float
    popularity_ndcg_10: float
    recall_lead: Interval  # mean difference, model - Markov chain
    ndcg_lead: Interval


@dataclass(frozen=True)
class QwenCertifiedRow(QwenRow):
    """What share of the first ten items one beam width certifies, and what it takes."""

    split: str
    requests: int
    beam_width: int
    certified: float  # share of requests whose first ten items no wider beam can change
    exact: float  # the same, where no score within `margin` of the bound counts
    margin: float  # nats: twice what scores differ by between batches
    mass: float  # mean probability that the model gives its ten
    recall_10: float
    seconds: float  # of the searches of all requests


@dataclass(frozen=True)
class QwenParityRow(QwenRow):
    """Two programs, or two precisions of one, on the same checkpoint and prompts."""

    one: str  # program and type, such as `OctoRec bfloat16`
    other: str
    prompts: int
    beam_width: int
    score_difference: float  # largest |difference| of a teacher-forced log-probability of one code, nats
    beam_difference: float  # largest |difference| of the score of a beam that both have, nats
    overlap: float  # mean share of the beams that both have
    identical: int  # prompts with the same beams in the same order, ties nearer than `tolerance` not counted
    tolerance: float  # nats


@dataclass(frozen=True)
class QwenVerdictRow(Metrics, QwenRow):
    """A system beside BF16 on the same targets, of one shop or of all; its fields are the candidate's."""

    scope: str = field(kw_only=True)  # a shop, or pooled
    recipe: str = field(kw_only=True)  # the candidate: a recipe, or `bf16, other batches`, the noise floor
    arithmetic: str = field(kw_only=True)  # in what the candidate computes
    users: int = field(kw_only=True)
    targets: int = field(kw_only=True)
    beam_width: int = field(kw_only=True)
    nll: float = field(kw_only=True)  # nats a target, over the whole vocabulary
    bf16: dict[str, float] = field(kw_only=True)  # the metrics and nll of BF16
    relative_difference: dict[str, Interval] = field(kw_only=True)  # by metric
    nll_difference: Interval = field(kw_only=True)  # nats a target
    top10_overlap: float = field(kw_only=True)  # mean share of the ten best items that both return
    log_prob_difference: LogProbDifference = field(kw_only=True)
    verdict: str = field(kw_only=True)
    users_needed: int | None = field(kw_only=True)  # for a verdict; None: there is one, or no number would do
    margin: float = field(kw_only=True)  # relative
    enough: bool = field(kw_only=True)  # whether the plan lets so many targets decide
    seconds: float = field(kw_only=True)  # of the candidate's searches and scores
