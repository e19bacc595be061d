"""Open a folder as our side of the comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octorec.catalog.foreign import open_catalog
from octorec.catalog.tokens import check_tokens
from octorec.engine.model_folder import CATALOG
from octorec.errors import InputError
from octorec.kernels.device import open_device, ops_for
from octorec.models.lora import open_checkpoint
from octorec.models.prompts import Prompts
from octorec.parity.free_search import NextLogits
from octorec.parity.ours import Ours
from octorec.quant.load import load_model


@dataclass(frozen=True, eq=False)
class Opened:
    """An Opened is a folder's model over its catalog. next_logits: over its whole vocabulary.

    vocabulary: ids from this one on have no token. prompts: of the folder's tokenizer.
    longest: tokens of a prompt at most.
    """

    ours: Ours
    next_logits: NextLogits
    vocabulary: int
    prompts: Prompts
    longest: int

    def prompt(self, history: Sequence[str], domain: str = "") -> np.ndarray:
        """Return the prompt [T] int64 of a history of item ids, all of the catalog, the newest last.

        Raises InputError as `Prompts.of_history`, such as for a family with several domains and none given.
        """
        return self.prompts.of_history(self.codes(history), domain, longest=self.longest).ids

    def codes(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return the codes [n, L] int64 of items of the catalog."""
        catalog = self.ours.catalog
        return catalog.codes[catalog.places(item_ids)].astype(np.int64)


def open_ours(folder: Path, catalog: Path | None = None, device: str = "cpu", base: Path | None = None) -> Opened:
    """Open a folder on a device: in float32 on the CPU, else in bfloat16.

    catalog: a folder, or a file that another project made; None for the folder's own. base: the folder of an adapter's
    base, as in `lora.open_checkpoint`.
    Raises InputError as the loaders of model, catalog and tokenizer do, for a model that reads no tokens, and for an
    item with a code without a token.
    """
    opened = open_device(device)
    ops, dtype = ops_for(opened), torch.bfloat16 if opened.type == "cuda" else torch.float32
    model = load_model(folder, ops, device, dtype, base=base)
    if not hasattr(model.config, "sids"):
        raise InputError("checkpoint", str(folder), "must be a language model, which transformers can run too")
    where = folder / CATALOG if catalog is None else catalog
    items = open_catalog(where, levels=model.config.sids.levels)
    check_tokens(items, model.config.sids.levels, str(where))
    prompts = Prompts(open_checkpoint(folder, base).tokenizer_folder, model.config.sids)
    ids = prompts.layout.vocabulary.largest + 1
    return Opened(
        Ours(model, items, model.config.sids, ops, opened), whole_logits(model), ids, prompts, model.max_tokens
    )


def whole_logits(model: Any) -> NextLogits:
    """Return a function that gives our model's logits over its whole vocabulary: a prefill of the whole ids."""

    def next_logits(ids: Tensor) -> Tensor:
        device = model.head.device
        lengths = torch.full((len(ids),), ids.shape[1], device=device)
        state = model.prefill({"tokens": ids.to(device), "lengths": lengths})
        logits: Tensor = model.ops.head(state.hidden, model.head)
        return logits

    return next_logits
