"""The models and trainings of the proof; chosen on validation targets alone (benchmarks.quality.sweep)."""

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
