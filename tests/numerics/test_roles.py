"""Roles and families by the names that real checkpoints use."""

from typing import Any

import pytest

from octorec.numerics.roles import block, family, role
from octorec.quant.products import unit


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("blocks.3.ffn.experts.7.gate_proj.weight", "expert"),
        ("blocks.3.ffn.shared_experts.0.gate_proj.weight", "expert"),
        ("blocks.3.ffn.router.bias", "router"),
        ("blocks.3.ffn_norm.weight", "norm"),
        ("blocks.0.ffn.down_proj.weight", "ffn"),
        ("blocks.0.self_attn.q_proj.weight", "attention"),
        ("context.code_embed.1.weight", "embedding"),
        ("context.proj.weight", "context"),
        ("bos", "embedding"),
        ("head.2.weight", "head"),
        ("head_norm.2.weight", "norm"),
        ("model.layers.1.self_attn.k_norm.weight", "norm"),
        ("model.layers.1.mlp.up_proj.weight", "ffn"),
        ("lm_head.weight", "head"),
        ("cross.0.kernel", "cross"),
        ("model.layers.0.mlp.gate.weight", "router"),
        ("model.layers.0.mlp.experts.5.gate_proj.weight", "expert"),
        ("model.layers.0.mlp.shared_expert.up_proj.weight", "expert"),
        ("model.layers.0.mlp.shared_expert_gate.weight", "router"),
        ("model.layers.0.mlp.shared_experts.up_proj.weight", "expert"),
        ("model.layers.3.mlp.gate.e_score_correction_bias", "router"),
        ("model.layers.0.mlp.gate_proj.weight", "ffn"),
        ("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "attention"),
        ("model.layers.0.self_attn.q_a_layernorm.weight", "norm"),
        ("model.layers.0.block_sparse_moe.gate.weight", "router"),
        ("model.layers.0.block_sparse_moe.experts.1.w2.weight", "expert"),
        ("model.layers.0.input_layernorm.weight", "norm"),
        ("model.embed_tokens.weight", "embedding"),
        ("emb_l.3.weight", "embedding"),
        ("sparse_arch.embedding_bag_collection.embedding_bags.t_1.weight", "embedding"),
        ("bot_l.0.weight", "mlp"),
        ("over_arch.model.0.weight", "mlp"),
        ("inter_arch.crossnet.kernels.0", "cross"),
        ("embed.item.weight", "embedding"),
        ("attention.mlp.0.proj.weight", "attention"),
        ("bottom_mlp.0.proj.weight", "mlp"),
        ("top_mlp.2.proj.weight", "mlp"),
        ("cross.1.proj.weight", "cross"),
        ("anything.weight", "other"),
    ],
)
def test_roles(name: str, wanted: str) -> None:
    assert role(name) == wanted


@pytest.mark.parametrize(
    ("names", "config", "wanted"),
    [
        (["bos", "blocks.0.cross_attn.q_proj.weight"], {"model_type": "onerec_v2"}, "OneRec-V2"),
        (["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"], {}, "decoder"),
        (["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.experts.0.up_proj.weight"], {}, "MoE decoder"),
        (["embed.item.weight", "attention.mlp.0.proj.weight", "cross.0.proj.weight"], {}, "ranker"),
        (["emb_l.0.weight", "top_l.0.weight"], {}, "ranker"),
        (["conv.weight", "x.weight"], {}, "unknown"),
    ],
)
def test_families(names: list[str], config: dict[str, Any], wanted: str) -> None:
    assert family(names, config) == wanted


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("blocks.0.self_attn.k_proj", "blocks.0.self_attn.qkv_proj"),
        ("blocks.0.self_attn.qkv_proj", "blocks.0.self_attn.qkv_proj"),
        ("blocks.0.self_attn.o_proj", "blocks.0.self_attn.o_proj"),
        ("blocks.1.ffn.gate_proj", "blocks.1.ffn.gate_up_proj"),
        ("blocks.1.ffn.experts.3.down_proj", "blocks.1.ffn.experts"),
        ("blocks.1.ffn.shared_experts.0.up_proj", "blocks.1.ffn.experts"),
        ("blocks.1.ffn.experts.down_proj", "blocks.1.ffn.experts"),  # as activations name it
        ("blocks.1.ffn.experts", "blocks.1.ffn.experts"),
    ],
)
def test_what_one_product_computes(module: str, wanted: str) -> None:
    assert unit(module) == wanted


def test_blocks() -> None:
    assert block("model.layers.17.mlp.up_proj.weight") == 17
    assert block("head.2.weight") is None
