"""A Qwen's config.json, and the adapter_config.json and tensors' names of a LoRA adapter on it."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import rewritten_json
from harness import fuzz
from mutate import mutated
from safetensors.torch import load_file, save_file

from octorec.engine.search import score
from octorec.models.model import blank_inputs
from octorec.models.qwen import Qwen
from octorec.models.qwen_config import QwenConfig
from octorec.models.sid_tokens import EndToken, SidTokens
from octorec.models.weights import save
from octorec.quant.load import load_model

SIDS = SidTokens((np.arange(20, 25), np.array([30, -1, 31])), {"": 40}, (EndToken(41),))
SIZES = {
    "vocab_size": 43, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 32,
}  # fmt: skip
ADAPTER = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": False, "target_modules": ["q_proj", "up_proj"],
    "rank_pattern": {"layers.1.mlp.up_proj": 2}, "alpha_pattern": {}, "modules_to_save": ["norm"], "bias": "none",
    "layers_to_transform": None, "trainable_token_indices": [3, 5],
}  # fmt: skip


def make(folder: Path) -> None:
    torch.manual_seed(0)
    base, adapter = folder / "input" / "base", folder / "input" / "adapter"
    for one in (base, adapter):
        one.mkdir(parents=True)
    config = QwenConfig("qwen3", **SIZES, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=False, sids=SIDS)
    model = Qwen(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    save(model, base, torch.float32)
    (adapter / "adapter_config.json").write_text(json.dumps(ADAPTER))
    tensors = {"model.norm.weight": torch.ones(16)}
    tensors["model.embed_tokens.token_adapter.trainable_tokens_delta"] = torch.ones(2, 16)
    for module, rows in (("self_attn.q_proj", 16), ("mlp.up_proj", 24)):
        for layer in range(2):
            tensors[f"model.layers.{layer}.{module}.lora_A.weight"] = torch.ones(2, 16)
            tensors[f"model.layers.{layer}.{module}.lora_B.weight"] = torch.ones(rows, 2)
    save_file(
        {f"base_model.model.{name}": each for name, each in tensors.items()}, adapter / "adapter_model.safetensors"
    )


def broken(folder: Path, rng: random.Random) -> str:
    where, chosen = folder / "input", rng.randrange(3)
    if chosen < 2:
        return rewritten_json(where / ("base/config.json", "adapter/adapter_config.json")[chosen], rng)
    path = where / "adapter/adapter_model.safetensors"
    tensors = load_file(path)
    for _ in range(rng.choice((1, 1, 3))):
        name = rng.choice([*tensors])
        tensor = tensors.pop(name)
        if rng.random() < 0.7:
            parts = mutated(name.split("."), rng)
            name = ".".join(map(str, parts))[:200] if isinstance(parts, list) else name
            cut = slice(0, rng.choice((None, 0, 1)))
            tensors[name] = (
                tensor[cut].clone() if rng.random() < 0.5 else tensor.to(rng.choice((torch.bool, torch.int8)))
            )
    save_file(tensors, path)
    return repr({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})


def read(folder: Path) -> object:
    model = load_model(folder / "input" / "adapter", base=folder / "input" / "base")
    codes = torch.zeros(1, len(model.codebook_sizes), dtype=torch.int64)
    return score(model, blank_inputs(model.inputs(4), 1), codes).numel()


@pytest.mark.slow
def test_a_broken_qwen_or_adapter_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_qwen")
