"""A checkpoint of the demo's size with random weights: for time, never for quality."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save

N_ITEMS = 1682  # as MovieLens 100K, the demo's data, has


def save_demo_size(folder: Path, seed: int = 0) -> list[str]:
    """Save such a checkpoint with its catalog inside; return the ids of its items."""
    config = preset("demo")
    generator = np.random.default_rng(seed)
    codes = np.stack([generator.integers(0, size, N_ITEMS) for size in config.codebook_sizes], 1)
    items = [f"i{number}" for number in range(N_ITEMS)]
    columns = {
        "item_id": items,
        "title": [f"Item {number}" for number in range(N_ITEMS)],
        "codes": pa.array(codes.tolist(), pa.list_(pa.int32())),
        "sets": pa.array([["red"] if number % 3 else [] for number in range(N_ITEMS)], pa.list_(pa.string())),
    }
    centroids = tuple(np.zeros((size, 2), np.float32) for size in config.codebook_sizes)
    catalog = Catalog.of_items(pa.table(columns), config.codebook_sizes, Codebook(centroids))
    model = OneRecV2(preset("demo", codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=seed)
    folder.mkdir(parents=True)
    save(model.eval(), folder, torch.float32)
    catalog.save(folder / "catalog")
    return items
