"""Presets are the published OneRec-V2 sizes (arXiv 2508.20900) and small ones for tests and the demo."""

import dataclasses
from typing import Any

from octorec.errors import InputError
from octorec.models.onerec_config import OneRecConfig

PRESETS: dict[str, OneRecConfig] = {
    "0.1b": OneRecConfig(d_model=640, n_layer=12, n_head=10, embed_dim=32),
    "0.2b": OneRecConfig(d_model=896, n_layer=12, n_head=14, embed_dim=45),
    "0.5b": OneRecConfig(d_model=1408, n_layer=14, n_head=11, embed_dim=70),
    "1b": OneRecConfig(d_model=1792, n_layer=18, n_head=14, embed_dim=90),
    "2b": OneRecConfig(d_model=2304, n_layer=22, n_head=18, embed_dim=115),
    "4b": OneRecConfig(d_model=2944, n_layer=26, n_head=23, embed_dim=147),
    "8b": OneRecConfig(d_model=3584, n_layer=34, n_head=28, embed_dim=179),
    "moe-4b-a0.5b": OneRecConfig(
        d_model=1408, n_layer=14, n_head=11, embed_dim=70, n_dense=2, n_expert=53, n_shared=1, top_k=3, d_expert=1408
    ),
    "demo": OneRecConfig(
        d_model=128, n_layer=3, n_head=4, embed_dim=32, codebook_sizes=(256, 256, 256), max_context=50,
        recency_buckets=32, n_dense=1, n_expert=4, n_shared=1, top_k=2, d_expert=128,
    ),
    "tiny": OneRecConfig(
        d_model=32, n_layer=3, n_head=2, embed_dim=8, codebook_sizes=(7, 5, 6), max_context=12, recency_buckets=8,
        n_dense=1, n_expert=3, n_shared=1, top_k=2, d_expert=24,
    ),
}  # fmt: skip


def preset(name: str, **changes: Any) -> OneRecConfig:
    """Return the configuration called `name`, with `changes` to its fields."""
    if name not in PRESETS:
        raise InputError("preset", name, f"allowed: {', '.join(PRESETS)}")
    return dataclasses.replace(PRESETS[name], **changes)
