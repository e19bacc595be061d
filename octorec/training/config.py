"""What a training is made of. Imports no torch, so that the command line can read its defaults."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from octorec.errors import InputError

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainConfig:
    """steps of batch_size examples each; warmup and *_every count steps. bias_rate: see `balance`.

    dropout: see `dropout`. history_drop: share of context items left out of an example, see `examples.drop_items`.
    codebook_start: begin with the codebook's centroids, see `warm_start`.
    precision: of the products; weights, their sums and the optimiser stay in float32.
    """

    steps: int = 1000
    batch_size: int = 256
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.05
    label_smoothing: float = 0.0
    clip_norm: float = 1.0
    bias_rate: float = 1e-3
    dropout: float = 0.0
    history_drop: float = 0.0
    codebook_start: bool = False
    precision: Precision = "float32"
    validate_every: int = 250
    save_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "save_every"):
            self._require(name, _is_count(getattr(self, name)) and getattr(self, name) > 0, "an integer above 0")
        for name in ("warmup", "seed"):
            self._require(name, _is_count(getattr(self, name)), "an integer from 0 to 2^32 - 1")
        for name in ("learning_rate", "clip_norm"):
            self._require(name, _is_number(getattr(self, name)) and getattr(self, name) > 0, "a number above 0")
        for name in ("weight_decay", "bias_rate"):
            self._require(name, _is_number(getattr(self, name)) and getattr(self, name) >= 0, "a number of 0 or more")
        for name in ("dropout", "history_drop", "label_smoothing"):
            self._require(
                name, _is_number(getattr(self, name)) and 0 <= getattr(self, name) < 1, "0 or more and below 1"
            )
        if self.precision not in get_args(Precision):
            raise InputError("precision", self.precision, f"allowed: {', '.join(get_args(Precision))}")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise InputError(name, getattr(self, name), f"must be {allowed}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
