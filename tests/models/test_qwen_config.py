"""Each key of a Qwen's config.json that changes what is computed is obeyed as transformers does, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from octorec.engine.search import score
from octorec.errors import InputError, MismatchError
from octorec.models.qwen_config import QwenConfig
from octorec.quant.load import load_model
from tests.models.qwen_made import SIDS, change_config, expected, item_tokens, save
from tests.models.qwen_made import reference_model as made
from tests.models.test_qwen import PROMPTS, batch_of

BASE: dict[str, Any] = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 97, "hidden_size": 48,
    "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 64, "rope_theta": 1e6, "tie_word_embeddings": True, "sid_tokens": SIDS.to_dict(),
}  # fmt: skip
QWEN2 = {**BASE, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "head_dim": ...}


def read(base: dict[str, Any] = BASE, **changes: Any) -> QwenConfig:
    raw = {key: value for key, value in {**base, **changes}.items() if value is not ...}
    return QwenConfig.from_dict(json.loads(json.dumps(raw)))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"rope_theta": ...}, r"rope_parameters.rope_theta: got None; is required"),
    ({"rope_theta": ..., "rope_parameters": {"rope_type": "default"}}, r"rope_parameters.rope_theta: got None"),
    ({"rope_parameters": {"rope_theta": None}}, r"rope_parameters.rope_theta: got None; must be a number"),
    ({"rope_theta": "1e6"}, "rope_theta: got '1e6'"),
    ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, r"rope_scaling.rope_type: got 'yarn'; allowed: 'default'"),
    (
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 2.0}},
        r"rope_parameters.rope_type: .*yarn",
    ),
    ({"rope_parameters": {"rope_theta": 1e6, "factor": 2.0}}, r"rope_parameters.factor: got 2.0"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, r"rope_parameters.full_attention"),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, r"rope_parameters.partial_rotary_factor: got 0.5"),
    ({"rope_parameters": [1]}, r"rope_parameters: got \[1\]; must be an object"),
    ({"rope_scaling": {"type": "default"}, "rope_parameters": {"rope_theta": 1e6}}, "rope_scaling: .*must not stand"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: got 0.5; allowed: 1 or None"),
    ({"use_sliding_window": True, "max_window_layers": 1}, "use_sliding_window: got True; sliding windows are not"),
    ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types: .*allowed: 2 times 'full_attention'"),
    ({"use_sliding_window": 1}, "use_sliding_window: got 1; must be true or false"),
    ({"attention_bias": True}, "attention_bias: got True; allowed: False or None"),
    ({"mlp_bias": True}, "mlp_bias: got True"),
    ({"is_causal": False}, "is_causal: got False"),
    ({"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}, "auto_map: "),
    ({"architectures": ["Qwen3ForSequenceClassification"]}, "architectures: .*allowed: .*Qwen3ForCausalLM"),
    ({"hidden_act": "gelu"}, "hidden_act: got 'gelu'; allowed: 'silu'"),
    ({"head_dim": None}, "head_dim: got None"),
    ({"head_dim": 15}, "head_dim: got 15; must be even"),
    ({"num_key_value_heads": ...}, "num_key_value_heads: got None; must be an integer"),
    ({"num_key_value_heads": 3}, "num_key_value_heads: got 3; must divide num_attention_heads = 4"),
    ({"vocab_size": 2**40}, "vocab_size: got 1099511627776"),
    ({"vocab_size": 92}, "vocab_size: got 92; too few rows: .*go up to id 92"),
    ({"num_hidden_layers": True}, "num_hidden_layers: got True"),
    ({"max_position_embeddings": ...}, "max_position_embeddings: got None"),
    ({"rms_norm_eps": "small"}, "rms_norm_eps: got 'small'"),
    ({"tie_word_embeddings": None}, "tie_word_embeddings: got None"),
    ({"sid_tokens": ...}, "sid_tokens: got None; is required"),
    ({"model_type": "qwen3_moe"}, "model_type: got 'qwen3_moe'; allowed: 'qwen3', 'qwen2'"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_would_be_another_model_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=rf"^config\.json: {said}"):
        read(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attention_bias": False}, "attention_bias: got False; allowed: True or None"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "num_attention_heads: got 5; must divide hidden_size"),
        ({"architectures": ["Qwen3ForCausalLM"]}, "architectures"),
    ],
)
def test_qwen2_refuses_what_qwen3_has(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=rf"^config\.json: {said}"):
        read(QWEN2, **changes)


OBEYED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"rope_parameters": {"rope_theta": 500_000, "rope_type": "default"}, "rope_theta": ...}, {"rope_theta": 5e5}),
    ({"rope_parameters": {"rope_theta": 500_000}}, {"rope_theta": 5e5}),  # the latter wins over rope_theta
    ({"rope_parameters": {"type": "default"}}, {"rope_theta": 1e6}),
    ({"rope_scaling": None, "rope_parameters": None}, {"rope_theta": 1e6}),
    ({"rope_scaling": {"type": "default"}}, {"rope_theta": 1e6}),
    ({"head_dim": ...}, {"head_dim": 128}),
    ({"num_key_value_heads": None}, {"num_key_value_heads": 4}),
    ({"tie_word_embeddings": ...}, {"tie_word_embeddings": False}),
    ({"rms_norm_eps": 1e-5}, {"rms_norm_eps": 1e-5}),
    ({"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 1}, {}),
    ({"use_sliding_window": True, "sliding_window": None}, {}),
    ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}, {}),
    ({"layer_types": ["full_attention"] * 2, "attention_dropout": 0.1, "use_cache": False, "dtype": "float16"}, {}),
]


@pytest.mark.parametrize(("changes", "found"), OBEYED)
def test_what_is_obeyed_is_what_transformers_makes_of_it(
    changes: dict[str, Any], found: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoConfig

    raw = {key: value for key, value in {**BASE, **changes}.items() if value is not ...}
    config = read(**changes)
    assert {key: getattr(config, key) for key in found} == found
    (tmp_path / "config.json").write_text(json.dumps(raw))
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert config.rope_theta == theirs.rope_parameters["rope_theta"]
    assert theirs.rope_parameters["rope_type"] == "default"
    assert set(theirs.layer_types) == {"full_attention"}
    for key in ("head_dim", "num_key_value_heads", "tie_word_embeddings", "rms_norm_eps"):
        assert getattr(config, key) == getattr(theirs, key)


def test_heads_of_qwen2_divide_its_width() -> None:
    assert read(QWEN2).head_dim == 12
    assert read(QWEN2, head_dim=20).head_dim == 20


@pytest.mark.parametrize("base", [BASE, QWEN2], ids=["qwen3", "qwen2"])
def test_a_config_that_is_written_is_read_again(base: dict[str, Any]) -> None:
    config = read(base)
    again = QwenConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("qwen3", {"rope_parameters": {"rope_theta": 30.0}}),
        ("qwen3", {"rms_norm_eps": 0.3}),
        ("qwen3", {"head_dim": 20, "num_key_value_heads": 1}),
        ("qwen2", {"rope_parameters": {"rope_theta": 30.0}, "num_key_value_heads": 4}),
        ("qwen2", {"head_dim": 20}),
    ],
)
def test_each_value_counts_as_in_transformers(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = made(kind, **changes)
    model, item = load_model(save(theirs, tmp_path)), (2, 3, 1)
    tokens = item_tokens(item)
    log_p = expected(theirs, PROMPTS[2], tokens).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    found = score(model, batch_of(model, PROMPTS[2:3]), torch.tensor([item]))
    torch.testing.assert_close(found[0], log_p, atol=1e-4, rtol=0)


def test_shapes_that_the_config_does_not_say_are_refused_before_weights_are_read(tmp_path: Path) -> None:
    folder = save(made("qwen3"), tmp_path)
    change_config(folder, vocab_size=120)
    with pytest.raises(MismatchError, match=r"embed_tokens.weight: got \(97, 48\); its config.json says \(120, 48\)"):
        load_model(folder)
    change_config(folder, vocab_size=97, head_dim=...)
    with pytest.raises(MismatchError, match=r"q_proj.weight: got \(64, 48\); its config.json says \(512, 48\)"):
        load_model(folder)
    change_config(folder, head_dim=16, model_type="qwen2", architectures=..., attention_bias=...)
    with pytest.raises(MismatchError, match=r"missing model.layers.0.self_attn.q_proj.bias"):
        load_model(folder)
