"""A LoRA adapter is merged at load as PEFT merges it, and what it does not merge is refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from octorec.engine.search import score
from octorec.errors import InputError
from octorec.models.lora import open_checkpoint
from octorec.models.names import disk_tensors
from octorec.quant.load import load_model
from tests.models.qwen_made import ROWS, SIDS, change_config, expected, item_tokens, save
from tests.models.qwen_made import reference_model as made
from tests.models.test_qwen import ITEMS, KINDS, PROMPTS, batch_of

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LAYER = "base_model.model.model.layers.1.self_attn.q_proj"


def adapted(base: Any, folder: Path, dtype: torch.dtype = torch.float32, **config: Any) -> Any:
    """PEFT's model, its adapter moved away from zero and saved."""
    from peft import LoraConfig, get_peft_model

    given: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": ALL, "task_type": "CAUSAL_LM", **config}
    model = get_peft_model(base, LoraConfig(**given)).eval()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += (0.1 * torch.randn_like(parameter)).to(dtype).to(parameter.dtype)
    model.save_pretrained(folder)
    if dtype != torch.float32:
        path = folder / "adapter_model.safetensors"
        save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)
    return model


def both(tmp_path: Path, kind: str = "qwen3", tied: bool = True, rows: int = ROWS, **config: Any) -> tuple[Any, Any]:
    """PEFT's model as it is before merging, and ours of the two folders."""
    base = made(kind, tied)
    save(base, tmp_path / "base")
    if rows != ROWS:
        base.resize_token_embeddings(rows, mean_resizing=False)
    theirs = adapted(base, tmp_path / "adapter", **config)
    return theirs, load_model(tmp_path / "adapter", base=tmp_path / "base")


def assert_answers_are_those_of(theirs: Any, ours: Any) -> None:
    tokens = item_tokens(ITEMS[9])
    log_p = expected(theirs, PROMPTS[0], tokens).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    found = score(ours, batch_of(ours, PROMPTS[:1]), torch.tensor([ITEMS[9]]))[0]
    torch.testing.assert_close(found, log_p, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("kind", "tied"), KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_merged_weights_are_those_of_peft(kind: str, tied: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    from peft import PeftModel

    base = made(kind, tied)
    save(base, tmp_path / "base")
    adapted(base, tmp_path / "adapter", dtype)
    theirs = PeftModel.from_pretrained(made(kind, tied), tmp_path / "adapter").merge_and_unload().state_dict()
    ours = disk_tensors(load_model(tmp_path / "adapter", base=tmp_path / "base"))
    plain = disk_tensors(load_model(tmp_path / "base"))
    assert set(ours) == set(theirs) - ({"lm_head.weight"} if tied else set())
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-6, rtol=1e-6)
        assert tensor.equal(plain[name]) != name.endswith("_proj.weight")


OBEYED: list[dict[str, Any]] = [
    {"use_rslora": True, "r": 16, "lora_alpha": 16},
    {"r": 8, "rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 32}},
    {"rank_pattern": {r"^model.layers.0.mlp.up_proj": 2}, "alpha_pattern": {"(k_proj|v_proj)": 1}},
    {"target_modules": "all-linear"},
    {"target_modules": r".*layers\.1\..*(q|v)_proj"},
    {"target_modules": ["q_proj", "mlp.up_proj"], "layers_to_transform": [1]},
    {"target_modules": ALL, "exclude_modules": ["self_attn.q_proj"]},
    {"modules_to_save": ["norm", "q_norm"]},
    {"lora_dropout": 0.3, "init_lora_weights": "gaussian"},
]
TABLES: list[dict[str, Any]] = [
    {"modules_to_save": ["embed_tokens", "lm_head"]},
    {"modules_to_save": ["embed_tokens"]},
    {"modules_to_save": ["lm_head"]},
    {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    {"trainable_token_indices": [3, 40, 90]},
    {"trainable_token_indices": {"embed_tokens": [3, 40, 90]}},
    {"modules_to_save": ["embed_tokens", "lm_head"], "rows": ROWS + 8},
]


@pytest.mark.parametrize("config", OBEYED, ids=str)
def test_each_setting_counts_as_in_peft(config: dict[str, Any], tmp_path: Path) -> None:
    assert_answers_are_those_of(*both(tmp_path, **config))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("config", TABLES, ids=str)
def test_tables_that_an_adapter_changes_are_those_of_peft(config: dict[str, Any], tied: bool, tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, tied=tied, **config)
    assert_answers_are_those_of(theirs, ours)
    merged = theirs.merge_and_unload()
    same = merged.lm_head.weight.equal(merged.model.embed_tokens.weight)
    assert (ours.lm_head is None) == same


RESIZED: list[dict[str, Any]] = [
    {},
    {"modules_to_save": ["embed_tokens", "lm_head"]},
    {"modules_to_save": ["embed_tokens"]},
    {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    {"trainable_token_indices": [3, *range(ROWS, ROWS + 5)]},
]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("config", RESIZED, ids=lambda config: "-".join(map(str, config)) or "plain")
def test_tables_are_read_as_peft_writes_them_where_new_tokens_resized_a_folder_s(
    config: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    """PEFT sees the new size of a base that was read from a folder, and writes tables under several names."""
    from transformers import AutoModelForCausalLM

    save(made("qwen3", tied), tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    base.resize_token_embeddings(ROWS + 5, mean_resizing=False)
    theirs = adapted(base, tmp_path / "adapter", **config)
    ours = load_model(tmp_path / "adapter", base=tmp_path / "base")
    assert len(ours.head) == ROWS + 5
    assert_answers_are_those_of(theirs, ours)


def test_a_table_that_is_written_twice_with_other_values_is_refused(tmp_path: Path) -> None:
    both(tmp_path, modules_to_save=["embed_tokens"])
    table = torch.zeros(ROWS, 48)
    change(tmp_path, **{"base_model.model.model.embed_tokens.modules_to_save.weight": table})
    with pytest.raises(InputError, match=r"embed_tokens\.modules_to_save\.weight: .* meets no weight of the base"):
        load_model(tmp_path / "adapter", base=tmp_path / "base")


@pytest.mark.parametrize("table", ["embed_tokens", "lm_head"])
def test_a_product_for_a_table_is_merged_unless_the_base_is_tied(table: str, tmp_path: Path) -> None:
    assert_answers_are_those_of(*both(tmp_path / "untied", tied=False, target_modules=["q_proj", table]))
    with pytest.raises(InputError, match=f"{table}.lora.*before merging and another after it.*modules_to_save"):
        both(tmp_path / "tied", target_modules=["q_proj", table])


def test_a_stored_head_that_equals_the_tied_embedding_stays_tied(tmp_path: Path) -> None:
    theirs, _ = both(tmp_path, trainable_token_indices=[3, 40, 90])
    path = tmp_path / "base" / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, path)
    ours = load_model(tmp_path / "adapter", base=tmp_path / "base")
    assert ours.lm_head is None
    assert_answers_are_those_of(theirs, ours)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """The folders base/ and adapter/ within."""
    both(tmp_path)
    return tmp_path


def change(folder: Path, **tensors: Tensor | None) -> None:
    path = folder / "adapter" / "adapter_model.safetensors"
    changed = {**load_file(path), **tensors}
    save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, path)


def set_keys(folder: Path, **keys: Any) -> None:
    path = folder / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def opened(folder: Path) -> None:
    load_model(folder / "adapter", base=folder / "base")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"use_dora": True}, "use_dora: got True; allowed: False or None"),
    ({"bias": "all"}, "bias: got 'all'; allowed: 'none'"),
    ({"fan_in_fan_out": True}, "fan_in_fan_out: got True"),
    ({"peft_type": "IA3"}, "peft_type: got 'IA3'; allowed: 'LORA'"),
    ({"task_type": "SEQ_CLS"}, "task_type: got 'SEQ_CLS'"),
    ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights: got 'pissa_niter_16'"),
    ({"layer_replication": [[0, 2]]}, "layer_replication: "),
    ({"target_parameters": ["x"]}, "target_parameters: "),
    ({"use_rslora": "yes"}, "use_rslora: got 'yes'"),
    ({"r": 0}, "r: got 0; must be an integer above 0"),
    ({"lora_alpha": "16"}, "lora_alpha: got '16'"),
    ({"rank_pattern": {"(a+)+": 4}}, "rank_pattern: .*a pattern has at most 200 characters and 3 repetitions"),
    ({"target_modules": "("}, r"target_modules: got '\('; is no pattern"),
    ({"target_modules": [1]}, r"target_modules: got \[1\]; must be a list of names"),
    ({"trainable_token_indices": [-1]}, "trainable_token_indices.embed_tokens: "),
    ({"layers_to_transform": ["0"]}, "layers_to_transform: "),
]


@pytest.mark.parametrize(("keys", "said"), REFUSED)
def test_a_setting_that_is_not_merged_is_refused_by_name(keys: dict[str, Any], said: str, pair: Path) -> None:
    set_keys(pair, **keys)
    with pytest.raises(InputError, match=rf"adapter_config\.json: {said}"):
        opened(pair)


def test_a_tensor_that_meets_no_weight_is_named(pair: Path) -> None:
    change(pair, **{"base_model.model.layers.1.self_attn.q_proj.lora_A.weight": torch.zeros(4, 48)})
    with pytest.raises(
        InputError, match=r"base_model.model.layers.1.self_attn.q_proj.lora_A.weight: .*meets no weight"
    ):
        opened(pair)


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        (f"{LAYER}.lora_B.weight", None, "lora_A.weight: got 'half of a product'"),
        (f"{LAYER}.lora_A.weight", torch.zeros(5, 48), r"lora_A.weight: got \(5, 48\); must have the shape \(4, 48\)"),
        (f"{LAYER}.lora_B.weight", torch.zeros(60, 4), r"must have the shape \(64, 4\): rank 4"),
        (f"{LAYER}.lora_magnitude_vector", torch.zeros(64), "lora_magnitude_vector: .*meets no weight"),
        (f"{LAYER}.weight", torch.zeros(64, 48), "q_proj.weight: .*not in modules_to_save"),
        ("base_model.model.model.embed_tokens.weight", torch.zeros(97, 40), r"got \(97, 40\); must have the base's"),
        (f"{LAYER}.bias", torch.zeros(64), "q_proj.bias: .*meets no weight"),
    ],
)
def test_a_broken_adapter_is_refused(name: str, tensor: Tensor | None, said: str, pair: Path) -> None:
    change(pair, **{name: tensor})
    with pytest.raises(InputError, match=said):
        opened(pair)


def test_modules_and_targets_agree(pair: Path) -> None:
    set_keys(pair, target_modules=["q_proj"])
    with pytest.raises(InputError, match=r"is no target: .*adapter_config.json names target_modules"):
        opened(pair)
    set_keys(pair, target_modules=ALL)
    change(pair, **{f"{LAYER}.lora_A.weight": None, f"{LAYER}.lora_B.weight": None})
    with pytest.raises(InputError, match=r"q_proj.lora_A.weight: got 'no such tensor'; its config targets"):
        opened(pair)


def test_nan_in_an_adapter_is_told_by_name(pair: Path) -> None:
    change(pair, **{f"{LAYER}.lora_B.weight": torch.full((64, 4), torch.nan)})
    with pytest.raises(InputError, match=r"layers.1.self_attn.q_proj.weight: got 'NaN or infinity'"):
        opened(pair)


def test_the_base_is_the_one_given_or_the_one_that_the_adapter_names(pair: Path) -> None:
    for named in ("/home/somebody/their/base", "OpenOneRec/OneReason-0.8B", None):
        set_keys(pair, base_model_name_or_path=named)
        with pytest.raises(InputError, match=r"base_model_name_or_path: got .*is no folder here: give the base's"):
            open_checkpoint(pair / "adapter")
    set_keys(pair, base_model_name_or_path=str(pair / "base"))
    assert open_checkpoint(pair / "adapter").folder == pair / "base"
    with pytest.raises(InputError, match=r"base: got .*is no adapter"):
        open_checkpoint(pair / "base", pair / "base")
    with pytest.raises(InputError, match=r"base: got .*is an adapter itself"):
        open_checkpoint(pair / "adapter", pair / "adapter")
    with pytest.raises(InputError, match=r"base: got .*nowhere"):
        open_checkpoint(pair / "adapter", pair / "nowhere")


def test_the_tokenizer_is_the_adapters_where_it_has_one(pair: Path) -> None:
    assert open_checkpoint(pair / "adapter", pair / "base").tokenizer_folder == pair / "base"
    (pair / "adapter" / "tokenizer.json").write_text("{}")
    assert open_checkpoint(pair / "adapter", pair / "base").tokenizer_folder == pair / "adapter"


def test_pickled_and_missing_adapters_are_refused(pair: Path) -> None:
    (pair / "adapter" / "adapter_model.safetensors").rename(pair / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"has adapter_config.json and no adapter_model.safetensors"):
        opened(pair)
    (pair / "adapter" / "adapter_model.bin").write_bytes(b"\x80")
    with pytest.raises(InputError, match="pickled files are not read"):
        opened(pair)


def test_a_quantized_base_is_refused(pair: Path) -> None:
    change_config(pair / "base", quantization_config={"quant_method": "fp8"})
    with pytest.raises(InputError, match=r"is quantized .*16-bit parent"):
        opened(pair)


def test_fewer_rows_than_tokens_are_refused(pair: Path) -> None:
    shutil.rmtree(pair / "base")
    save(made("qwen3", vocab_size=80), pair / "base", SIDS)
    with pytest.raises(InputError, match=r"vocab_size: got 80; too few rows: .*id 92"):
        opened(pair)
