"""Small random Qwen models as transformers makes and saves them, with tokens of semantic IDs in their config.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octorec.models.sid_tokens import EndToken, SidTokens

ROWS = 97  # of the vocabulary: an odd number, more than there are tokens
BEGIN, NEWLINE, EOS = 90, 91, 92
SIDS = SidTokens(
    (np.array([40, 41, 42, 43, 44]), np.array([53, -1, 51, 50]), np.array([60, 62, 61])),
    {"": BEGIN},
    (EndToken(NEWLINE), EndToken(EOS)),
)
SIZES = {
    "vocab_size": ROWS, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "rope_parameters": {"rope_theta": 5e5},
}  # fmt: skip


def reference_model(kind: str, tied: bool = True, seed: int = 0, **changes: Any) -> Any:
    """transformers' own model, with weights large enough that every part of it shows in the logits."""
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config

    own = {"head_dim": 16} if kind == "qwen3" else {}
    config = {"qwen3": Qwen3Config, "qwen2": Qwen2Config}[kind](
        **{**SIZES, **own, "tie_word_embeddings": tied, **changes}
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * (0.6 if parameter.shape[0] == ROWS else 0.25))
    return model


def save(model: Any, folder: Path, sids: SidTokens | None = SIDS, **save: Any) -> Path:
    """What `save_pretrained` writes, with `sid_tokens` in config.json; None: the folder's tokenizer says them."""
    model.save_pretrained(folder, **save)
    change_config(folder, sid_tokens=... if sids is None else sids.to_dict())
    return folder


def change_config(folder: Path, **keys: Any) -> None:
    """Set keys of config.json; those that are `...` are taken out."""
    path = folder / "config.json"
    raw = {**json.loads(path.read_text()), **keys}
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not ...}))


def item_tokens(codes: Sequence[int], sids: SidTokens = SIDS) -> list[int]:
    """The tokens of an item: its codes', then its end."""
    return [int(level[code]) for level, code in zip(sids.levels, codes, strict=True)] + [end.id for end in sids.end]


@torch.no_grad()
def expected(model: Any, prompt: Sequence[int], tokens: Sequence[int]) -> Tensor:
    """transformers' log-probabilities [tokens, vocabulary] of each next token, after a prompt."""
    ids = torch.tensor([[*prompt, *tokens[:-1]]])
    logits = model(ids).logits[0, len(prompt) - 1 :].float()
    return logits.log_softmax(-1)
