"""A model of transformers' is made ready to learn: dropout, stock norms, embeddings from the codebook, and its loss.

Letters: B histories, n items of the longest, L levels, m items in all, C hidden size, N rows of the vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octorec.catalog.codebook import Codebook
from octorec.models.sid_tokens import SidTokens


def add_dropout(model: Any, rate: float) -> None:
    """Drop values of the embeddings and of what each sublayer adds, while the model is in training mode."""

    def dropped(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # attention returns its weights too
            return F.dropout(output[0], rate, module.training), *output[1:]
        return F.dropout(output, rate, module.training)

    model.model.embed_tokens.register_forward_hook(dropped)
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(dropped)
        layer.mlp.register_forward_hook(dropped)


def use_stock_norms(model: Any) -> None:
    """Compute each RMS norm by PyTorch's one operation, where transformers has six."""

    def stock(norm: Any) -> Any:
        return lambda x: F.rms_norm(x, (x.shape[-1],), norm.weight.to(x.dtype), norm.variance_epsilon)

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = stock(module)


@torch.no_grad()
def start_from_codebook(model: Any, codebook: Codebook, sids: SidTokens, std: float, seed: int) -> None:
    """Set the embeddings of codes to a random projection of their centroids, with deviation `std` in each level."""
    weight, generator = model.model.embed_tokens.weight, torch.Generator().manual_seed(seed)
    for ids, centroids in zip(sids.levels, codebook.centroids, strict=True):
        centred = torch.from_numpy(centroids - centroids.mean(0))
        projected = centred @ torch.randn(centroids.shape[1], weight.shape[1], generator=generator)
        weight[torch.from_numpy(ids)] = projected * (std / projected.std().clamp(min=1e-12))


def loss_of(model: Any, tokens: Tensor, items: Tensor, levels: Sequence[Tensor], smoothing: float) -> Tensor:
    """Return the mean loss of a code: -log p over the whole vocabulary, in part of all codes of its level.

    tokens [B, n * (L + 1)] and items [m] as in `batches.Batch`. levels: the token ids of each. smoothing: the part of
    the target that all codes of the level share.
    """
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
    places = len(levels) + 1
    hidden = hidden.unflatten(1, (-1, places)).flatten(0, 1)[items]  # [m, L + 1, C]
    targets = tokens.unflatten(1, (-1, places)).flatten(0, 1)[items]
    total = hidden.new_zeros((), dtype=torch.float32)
    for level, ids in enumerate(levels):
        logits = model.lm_head(hidden[:, level]).float()  # [m, N]
        given = logits.gather(1, targets[:, level + 1, None])[:, 0]
        of_all = (hidden[:, level] @ model.lm_head.weight[ids].mean(0)).float()  # the mean of the level's logits
        total = total + (logits.logsumexp(1) - (1 - smoothing) * given - smoothing * of_all).mean()
    return total / len(levels)


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's groups: matrices decay, norms do not."""
    weights = list(model.parameters())
    return [
        {"params": [one for one in weights if one.ndim > 1], "weight_decay": weight_decay},
        {"params": [one for one in weights if one.ndim <= 1], "weight_decay": 0.0},
    ]


def rate(step: int, steps: int, warmup: int, highest: float) -> float:
    """Return the learning rate of a linear warm-up, then of a cosine down to a hundredth."""
    if step < warmup:
        return highest * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return highest * float(0.01 + 0.495 * (1 + np.cos(np.pi * done)))
