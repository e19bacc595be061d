"""A training has these settings. This imports no torch, so that the command line can read its defaults."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from octorec.settings import LARGE, SEED, AtLeastOne, Rate, Share, check_types, setting

Precision = Literal["float32", "bfloat16"]
Positive = Annotated[float, Interval(gt=0, le=LARGE)]


@dataclass(frozen=True)
class TrainConfig:
    """A TrainConfig says how to train.

    steps of batch_size examples each; warmup and *_every count steps. bias_rate: see `balance`; the highest one.

    dropout: see `dropout`. history_drop: share of context items left out of an example, see `examples.drop_items`.
    codebook_start: begin with the codebook's centroids, see `warm_start`.
    precision: of the products; weights, their sums and the optimiser stay in float32.
    """

    steps: AtLeastOne = setting(1000, "Optimiser steps.")
    batch_size: AtLeastOne = setting(256, "Examples a step.")
    learning_rate: Positive = setting(2e-3, "Highest learning rate.")
    warmup: Annotated[int, Interval(ge=0, lt=2**31)] = setting(100, "Steps of warm-up.")
    weight_decay: Rate = setting(0.05, "AdamW's weight decay, on matrices.")
    label_smoothing: Share = setting(0.0, "Of the codes' cross-entropy.")
    clip_norm: Positive = 1.0
    bias_rate: Rate = 1e-2
    dropout: Share = setting(0.0, "Share of values dropped.")
    history_drop: Share = setting(0.0, "Share of history items left out.")
    codebook_start: bool = setting(False, "Start from the codebook's centroids.")
    precision: Precision = setting("float32", "Of products: float32 or bfloat16.")
    validate_every: AtLeastOne = setting(250, "Steps between validations.")
    save_every: AtLeastOne = setting(250, "Steps between saved states.")
    seed: Annotated[int, Interval(ge=0, le=2**32 - 1)] = setting(SEED, "Of weights and order.")

    def __post_init__(self) -> None:
        check_types(self)
