"""What a training is made of. Imports no torch, so that the command line can read its defaults."""

from dataclasses import dataclass
from typing import Literal

from octorec.settings import check_types, require

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
        check_types(self)
        for name in ("steps", "batch_size", "validate_every", "save_every"):
            require(1 <= getattr(self, name) < 2**31, name, self, "must be an integer above 0, below 2^31")
        require(0 <= self.warmup < 2**31, "warmup", self, "must be 0 or more, below 2^31")
        for name in ("learning_rate", "clip_norm"):
            require(getattr(self, name) > 0, name, self, "must be above 0")
        for name in ("weight_decay", "bias_rate"):
            require(getattr(self, name) >= 0, name, self, "must be 0 or more")
        require(0 <= self.seed < 2**32, "seed", self, "must be an integer from 0 to 4294967295")
        for name in ("dropout", "history_drop", "label_smoothing"):
            require(0 <= getattr(self, name) < 1, name, self, "must be 0 or more and below 1")
