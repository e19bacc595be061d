"""A small study on made-up shops: a model of two layers that learns for a few seconds on a CPU."""

from pathlib import Path

from octorec.catalog.catalog import Catalog
from studies.exact import data
from studies.qwen.settings import Study, Training
from tests.studies.exact.made_union import made_shops

SIZES = (16, 16, 32)
SHAPE = {
    "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 8, "head_dim": 16,
}  # fmt: skip
TRAINING = Training(
    steps=200, batch=128, learning_rate=1e-2, warmup=5, dropout=0.1, history_drop=0.2, smoothing=0.05, embedding_std=0.2
)
STUDY = Study(
    SHAPE, TRAINING, SIZES, widths=(12, 16, 32), longest=6, most_beams=256, validation_users=30, parity_prompts=3,
    parity_width=8, quality_width=16, quality_chunk=50, quality_noise=40,
)  # fmt: skip


def made_data(folder: Path) -> Catalog:
    """Write interactions.csv and the catalog of three made-up shops."""
    return data.write(made_shops(folder), folder, SIZES)
