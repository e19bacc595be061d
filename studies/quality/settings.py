"""The models and trainings of the proof; chosen on validation targets alone (studies.quality.sweep)."""

import dataclasses

from octorec.models.onerec_config import OneRecConfig
from octorec.training.config import TrainConfig

CODEBOOK_SIZES = (4096, 64, 64)  # three to five items a code of the first level, and a tuple for every item
BEAM_WIDTH = 128
K = 10

MOE = OneRecConfig(
    d_model=384, n_layer=3, n_head=3, embed_dim=128, codebook_sizes=CODEBOOK_SIZES, n_dense=1, n_expert=8, n_shared=1,
    top_k=2, d_expert=384, max_context=20, recency_buckets=20,
)  # fmt: skip
DENSE = OneRecConfig(
    d_model=384, n_layer=3, n_head=3, embed_dim=128, codebook_sizes=CODEBOOK_SIZES, max_context=20, recency_buckets=20,
)  # fmt: skip
TRAINING = TrainConfig(
    steps=3000, batch_size=2048, learning_rate=1e-3, warmup=100, weight_decay=0.1, label_smoothing=0.1, dropout=0.5,
    history_drop=0.5, codebook_start=True, precision="bfloat16", validate_every=1500,
    save_every=10**9,
)  # fmt: skip


def of(model: str, seed: int, tiny: bool) -> tuple[OneRecConfig, TrainConfig]:
    """Dimensions and training of `model` (moe, dense), the same for every set. tiny: smaller, for a try."""
    config, training = {"moe": MOE, "dense": DENSE}[model], dataclasses.replace(TRAINING, seed=seed)
    if not tiny:
        return config, training
    small = {"d_model": 128, "n_head": 2, "n_layer": 2, "embed_dim": 32, "codebook_sizes": (128, 32, 256)}
    if config.n_expert:
        small |= {"d_expert": 128}
    short = {"steps": 40, "batch_size": 64, "warmup": 5, "validate_every": 40, "precision": "float32"}
    return dataclasses.replace(config, **small), dataclasses.replace(training, **short)  # type: ignore[arg-type]
