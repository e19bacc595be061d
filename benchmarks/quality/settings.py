"""The models and trainings of the proof; chosen on validation targets alone (benchmarks.quality.sweep)."""

import dataclasses

from octorec.models.config import OneRecConfig
from octorec.training.config import TrainConfig

CODEBOOK_SIZES = (256, 256, 256)
BEAM_WIDTH = 128
K = 10

MOE = OneRecConfig(
    d_model=256, n_layer=4, n_head=4, embed_dim=128, codebook_sizes=CODEBOOK_SIZES, n_dense=1, n_expert=8, n_shared=1,
    top_k=2, d_expert=256, l_kv=4, s_kv=2, max_context=20, recency_buckets=20,
)  # fmt: skip
DENSE = OneRecConfig(
    d_model=256, n_layer=4, n_head=4, embed_dim=128, codebook_sizes=CODEBOOK_SIZES, l_kv=4, s_kv=2, max_context=20,
    recency_buckets=20,
)  # fmt: skip
TRAINING = TrainConfig(
    steps=3000, batch_size=4096, learning_rate=1.5e-3, warmup=200, weight_decay=0.1, label_smoothing=0.1, dropout=0.2,
    history_drop=0.3, precision="bfloat16", validate_every=1000, save_every=10**9,
)  # fmt: skip


def of(model: str, name: str, seed: int, tiny: bool) -> tuple[OneRecConfig, TrainConfig]:
    """Dimensions and training of `model` (moe, dense) for the set `name`. tiny: the same in small, for a try."""
    config, training = {"moe": MOE, "dense": DENSE}[model], dataclasses.replace(TRAINING, seed=seed)
    if not tiny:
        return config, training
    small = {"d_model": 128, "n_head": 2, "n_layer": 2, "l_kv": 2, "embed_dim": 32}
    if config.n_expert:
        small |= {"d_expert": 128}
    short = {"steps": 40, "batch_size": 64, "warmup": 5, "validate_every": 40, "precision": "float32"}
    return dataclasses.replace(config, **small), dataclasses.replace(training, **short)  # type: ignore[arg-type]
