"""The Qwen3 of the study and its training, as data.

The catalog has one code of the first level for about five items and few codes behind it, as the models of the proof of
quality had: of codes that many items share, each is seen often. Residual dropout and histories with items left out are
as strong as there, because a model of this size learns these shops by heart within a few passes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CODEBOOK_SIZES = (8192, 64, 128)
SEED = 0
LONGEST = 50  # items of a history, the newest
POSITIONS = 512
ROPE_THETA = 10_000.0
SHAPE: Mapping[str, Any] = {  # 92 million parameters with the vocabulary; the heads are as wide as in every Qwen3
    "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 128,
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """A Training says how the model learns.

    steps: at most; fewer where `seconds` would not do for them. batch: items of a step, each predicted from those
    before it. history_drop: the mean share of items that are left out of a history. smoothing: over a level's codes.
    embedding_std: of the codes' embeddings, which begin as projections of the codebook's centroids.
    """

    steps: int = 2400
    batch: int = 8192
    learning_rate: float = 8e-4
    warmup: int = 150
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    dropout: float = 0.4
    history_drop: float = 0.5
    smoothing: float = 0.1
    embedding_std: float = 0.05
    seed: int = SEED


@dataclass(frozen=True)
class Study:
    """A Study says what is trained, and what is asked of it. widths: beams; the first is that of validation.

    most_beams: rows of a batch of searches. k: items a list. quality_width: beams of the proof of FP8, see plan.md;
    quality_chunk: targets that BF16 is asked at a time there; quality_noise: those that it is asked twice.
    """

    shape: Mapping[str, Any] = field(default_factory=lambda: SHAPE)
    training: Training = Training()
    codebook_sizes: tuple[int, ...] = CODEBOOK_SIZES
    widths: tuple[int, ...] = (32, 64, 128)
    k: int = 10
    longest: int = LONGEST
    most_beams: int = 128 * 128
    validation_users: int = 3000
    parity_prompts: int = 32
    parity_width: int = 32
    quality_width: int = 64
    quality_chunk: int = 4096
    quality_noise: int = 8192
