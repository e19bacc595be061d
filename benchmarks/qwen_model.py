"""A Qwen3 with random weights, a random catalog and random prompts of it, made where they are used: for time alone.

The dimensions are Qwen3's, the vocabulary has OpenOneRec's 176,384 rows, and three levels of 8,192 codes among them.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.random_model import filled, random_items
from benchmarks.rows.qwen_speed import QwenWanted
from octorec.catalog.catalog import Catalog
from octorec.engine.request import Request
from octorec.kernels import fused
from octorec.kernels.ops import Ops
from octorec.models.prompts import Prompts
from octorec.models.qwen import Qwen
from octorec.models.qwen_config import QwenConfig
from octorec.models.sid_tokens import SidTokens
from octorec.models.work import Work
from octorec.quant.recipe import load_recipe
from studies.qwen.folder import made_tokenizer, sids_of, write_tokenizer

LEVELS = (8192,) * 3
N_ITEMS = 1_000_000
RECIF = (1600, 2380, 2420, 2465, 2490, 2540, 2640, 2753)  # tokens: mean 2,411 and near the median of 2,465, published


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model and of its codes."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    tied: bool
    head_dim: int = 128
    vocab_size: int = 176_384
    max_position_embeddings: int = 40_960
    codebook_sizes: tuple[int, ...] = LEVELS
    n_items: int = N_ITEMS


SHAPES = {
    "1.7b": Shape(2048, 6144, 28, 16, 8, tied=True),
    "8b": Shape(4096, 12288, 36, 32, 8, tied=False),
    "tiny": Shape(256, 128, 2, 4, 2, True, 64, 512, 256, (16, 16, 16), 600),  # widths that blocks of 128 divide
}


@lru_cache(maxsize=2)
def tokens_of(codebook_sizes: tuple[int, ...]) -> SidTokens:
    """The tokens of codes in OpenOneRec's layout, over a tokenizer of bytes."""
    return sids_of(made_tokenizer(codebook_sizes))


def config_of(model: str) -> QwenConfig:
    """The configuration of one of SHAPES."""
    shape = vars(SHAPES[model]).copy()
    sizes, tied = shape.pop("codebook_sizes"), shape.pop("tied")
    del shape["n_items"]
    same: dict[str, Any] = {"model_type": "qwen3", "rope_theta": 1e6, "rms_norm_eps": 1e-6}
    return QwenConfig(**same, **shape, tie_word_embeddings=tied, sids=tokens_of(sizes))


def random_qwen(
    config: QwenConfig, precision: str, seed: int = 0, ops: Ops = fused, device: str = "cuda",
    dtype: torch.dtype = torch.bfloat16,
) -> Qwen:  # fmt: skip
    """A model with random weights on a device. precision: `bf16` or a recipe's name; dtype: of what is not FP8."""
    recipe = None if precision == "bf16" else load_recipe(precision)
    model = filled(lambda: Qwen(config, ops), recipe, dtype, device, seed)
    model.derive()
    return model


@lru_cache(maxsize=1)
def catalog_of(model: str) -> Catalog:
    """Items on random code tuples."""
    return random_items(SHAPES[model].codebook_sizes, SHAPES[model].n_items)


@lru_cache(maxsize=1)
def prompts_of(model: str) -> Prompts:
    """What checks prompts, and appends a begin token where there is none."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_tokenizer(folder, made_tokenizer(SHAPES[model].codebook_sizes))
        (folder / "config.json").write_text(json.dumps({"vocab_size": SHAPES[model].vocab_size}))
        return Prompts(folder)


def lengths_of(row: QwenWanted) -> list[int]:
    """Tokens of each prompt of a batch."""
    if row.lengths == "equal":
        return [row.context] * row.batch
    return [round(length * row.context / (sum(RECIF) / len(RECIF))) for length in np.resize(RECIF, row.batch).tolist()]


def random_prompts(config: QwenConfig, lengths: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Prompts of random tokens that end with the begin token: int64 [length] each."""
    random, (begin,) = np.random.default_rng(seed), config.sids.begin.values()
    found = []
    for length in lengths:
        ids = random.integers(0, config.vocab_size, length)
        ids[ids == begin] = 0
        ids[-1] = begin
        found.append(ids)
    return found


def requests_of(row: QwenWanted, config: QwenConfig, seed: int = 0) -> list[Request]:
    """The requests of a batch, each for as many items as it has beams."""
    prompts = random_prompts(config, lengths_of(row), seed)
    return [Request(input_ids=ids.tolist(), k=row.beam, beam_width=row.beam) for ids in prompts]


def flop(config: QwenConfig, row: QwenWanted, cached: int = 0) -> float:
    """Floating-point operations of a batch, as `models.qwen_work` counts rows: products, attention, and the vocabulary.

    A step is scored over the whole vocabulary, in which its own codes are contained. cached: tokens of each prompt that
    are not read.
    """
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Qwen(config).state_dict().items()}
    total = 0.0
    for length in lengths_of(row):
        work: Work = Qwen.work(config, 1, row.beam, length)
        layers = [(name, size) for name, size in shapes.items() if len(size) == 2 and ".layers." in name]
        total += sum(2.0 * n * k * (sum(work.rows(name)) - cached) for name, (n, k) in layers)
        total += 2.0 * config.vocab_size * config.hidden_size * sum(work.rows("lm_head.weight"))
        total += sum(each.flops for each in work.traffic if each.part == "attention")
        total -= 2.0 * config.num_hidden_layers * config.q_width * cached * (cached + 1)
    return total
