"""Begin with what the codebook knows: codes whose centroids are near start with near embeddings and near head rows."""

import numpy as np
import torch
from torch import Tensor

from octorec.catalog.codebook import Codebook
from octorec.models.onerec import OneRecV2

EMBEDDING_STD = 0.2  # above `initialize`'s 0.02, so that the first steps do not wipe it out
HEAD_STD = 0.02


@torch.no_grad()
def start_from_codebook(model: OneRecV2, codebook: Codebook, seed: int) -> None:
    """Set the code embeddings and the heads of `model` to random projections of the codebook's centroids."""
    generator = torch.Generator().manual_seed(seed)
    for level, centroids in enumerate(codebook.centroids):
        _fill(model.context.code_embed[level].weight, centroids, EMBEDDING_STD, generator)
        _fill(model.head[level].weight, centroids, HEAD_STD, generator)
        if level < len(model.code_embed):
            _fill(model.code_embed[level].weight, centroids, EMBEDDING_STD, generator)


def _fill(weight: Tensor | torch.nn.Module, centroids: np.ndarray, std: float, generator: torch.Generator) -> None:
    """Fill weight [V, N] with the centroids [V, D] around their mean through a random matrix, with deviation `std`."""
    assert isinstance(weight, Tensor)
    centred = torch.from_numpy(centroids - centroids.mean(0))
    projected = centred @ torch.randn(centroids.shape[1], weight.shape[1], generator=generator)
    weight.copy_(projected * (std / projected.std().clamp(min=1e-12)))
