"""The names and shapes of a checkpoint's tensors are told from its config.json alone, without building a module.

A folder's headers are compared with it before anything of the sizes that config.json claims is made.
`docs/checkpoint.md` lists the same as a table.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from octorec.models.onerec_config import OneRecConfig
from octorec.models.shapes import compare

Named = Iterator[tuple[str, tuple[int, ...]]]


def checked_config(raw: dict[str, Any], found: Mapping[str, tuple[int, ...]], where: str) -> OneRecConfig:
    """Return the model's configuration from config.json's dictionary, once the folder's headers agree with it.

    Raises InputError as `OneRecConfig.from_dict` does, and MismatchError as `check_shapes` does.
    """
    config = OneRecConfig.from_dict(raw)
    check_shapes(config, found, where)
    return config


def disk_shapes(config: OneRecConfig) -> Named:
    """Yield the name and shape of each tensor of a 16-bit checkpoint, one at a time: a config may claim millions."""
    width, sizes = config.d_model, config.codebook_sizes
    yield "bos", (width,)
    yield "position", (len(sizes), width)
    for level, size in enumerate(sizes):
        yield f"head_norm.{level}.weight", (width,)
        yield f"head.{level}.weight", (size, width)
        if level < len(sizes) - 1:
            yield f"code_embed.{level}.weight", (size, width)
    if config.context_module is None:
        yield from _context(config)
    for layer in range(config.l_kv):
        yield f"key_norm.{layer}.weight", (config.kv_slice,)
        if config.s_kv == 2:
            yield f"value_norm.{layer}.weight", (config.kv_slice,)
    for block in range(config.n_layer):
        yield from _block(config, block)


def check_shapes(config: OneRecConfig, found: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Compare what `config` claims with the shapes `found`, as `shapes.compare` does.

    Tensors of a context module of the user's are left to `weights.check_fits`, which has the module.
    """
    compare(disk_shapes(config), found, where, ("context.",) if config.context_module is not None else ())


def parameters(config: OneRecConfig) -> int:
    """Return how many values all tensors hold together, counted without listing every expert."""
    one_expert = dataclasses.replace(config, n_expert=1, n_shared=0, top_k=1) if config.n_expert else config
    blocks = config.n_layer - config.dense_blocks
    expert = 3 * config.d_model * config.expert_width
    more = (config.n_expert - 1) * (expert + config.d_model + 1) + config.n_shared * expert if config.n_expert else 0
    return sum(math.prod(shape) for _, shape in disk_shapes(one_expert)) + blocks * more


def _context(config: OneRecConfig) -> Named:
    embed, sizes = config.embed_dim, config.codebook_sizes
    for level, size in enumerate(sizes):
        yield f"context.code_embed.{level}.weight", (size, embed)
    yield "context.recency_embed.weight", (config.recency_buckets, embed)
    for field in config.user_fields:
        rows = len(field.values) + 1 if field.kind == "category" else 2
        yield f"context.field_embed.{field.name}.weight", (rows, embed)
    yield "context.proj.weight", (config.d_context, (len(sizes) + 1 + len(config.user_fields)) * embed)


def _block(config: OneRecConfig, block: int) -> Named:
    width, name = config.d_model, f"blocks.{block}"
    for norm in ("cross_norm", "self_norm", "ffn_norm"):
        yield f"{name}.{norm}.weight", (width,)
    for part in ("cross_attn.q", "cross_attn.o", "self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o"):
        yield f"{name}.{part}_proj.weight", (width, width)
    if block < config.dense_blocks:
        yield from _ffn(f"{name}.ffn", width, config.ffn_width)
        return
    yield f"{name}.ffn.router.weight", (config.n_expert, width)
    yield f"{name}.ffn.router.bias", (config.n_expert,)
    for kind, count in (("experts", config.n_expert), ("shared_experts", config.n_shared)):
        for expert in range(count):
            yield from _ffn(f"{name}.ffn.{kind}.{expert}", width, config.expert_width)


def _ffn(name: str, width: int, hidden: int) -> Named:
    yield f"{name}.gate_proj.weight", (hidden, width)
    yield f"{name}.up_proj.weight", (hidden, width)
    yield f"{name}.down_proj.weight", (width, hidden)
