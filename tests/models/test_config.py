"""The configuration refuses what it cannot mean, naming the field, the value and what is allowed."""

import json

import pytest

from octorec.errors import InputError
from octorec.models.onerec_config import INTEGERS, REQUIRED, OneRecConfig, UserField, encode_user
from octorec.models.presets import PRESETS, preset

AGE = UserField("age", "number", mean=30.0, std=10.0)
GENDER = UserField("gender", "category", ("F", "M"))


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip(name: str) -> None:
    config = preset(name, user_fields=(AGE, GENDER), codebook_fingerprint="abc")
    assert OneRecConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_head": 3}, r"n_head: got 3; must divide d_model = 32"),
        ({"n_layer": 0}, r"n_layer: got 0; must be an integer from 1 to 1,024"),
        ({"n_layer": "3"}, r"n_layer: got '3'; must be an integer from 1 to 1,024"),
        ({"s_kv": 3}, r"s_kv: got 3; must be an integer from 1 to 2"),
        ({"l_kv": 4}, r"l_kv: got 4; at most n_layer = 3"),
        ({"g_kv": 3}, r"g_kv: got 3; must divide n_head = 2"),
        ({"top_k": 4}, r"top_k: got 4; 1 to n_expert = 3"),
        ({"n_expert": 0}, r"n_expert: got 0; blocks after n_dense need experts"),
        ({"n_dense": 5}, r"n_dense: got 5; 0 to n_layer = 3"),
        ({"codebook_sizes": ()}, r"codebook_sizes: got \(\); needs one size a level"),
        ({"user_fields": (AGE, AGE)}, r"user_fields: .* names must differ"),
    ],
)
def test_impossible_values(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        preset("tiny", **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_modle": 3}, r"got 'd_modle'; unknown key; did you mean d_model\? Known: d_model, n_layer"),
        ({"model_type": "qwen3"}, r"model_type: got 'qwen3'; allowed: 'onerec_v2'"),
        ({"user_fields": [{"name": "age"}]}, r"user_fields: kind: got None; is required"),
        ({"user_fields": [{"name": "a", "kind": "text"}]}, r"allowed: 'category', 'number'"),
        ({"user_fields": [{"name": "a", "kind": "category"}]}, r"needs its allowed values"),
        ({"user_fields": [{"name": "a", "kind": "number", "std": 0}]}, r"std: got 0; must be above 0"),
    ],
)
def test_foreign_config(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OneRecConfig.from_dict({**preset("tiny").to_dict(), **change})


@pytest.mark.parametrize("key", list(INTEGERS))
@pytest.mark.parametrize("bad", ["4", True, 4.0, -4, 2**63, 10**30, float("nan"), [4], {"a": 4}])
def test_an_integer_is_told_from_what_only_looks_like_one(key: str, bad: object) -> None:
    with pytest.raises(InputError, match=rf"^{key}: got .*; must be an integer from \d"):
        OneRecConfig.from_dict({**preset("tiny").to_dict(), key: bad})


@pytest.mark.parametrize("bad", [5, "7,5,6", ["a"], [7, 5.0], [7, True], [0], [-1], [2**31], [], [7] * 65, {"a": 1}])
def test_codebook_sizes_are_a_list_of_counts(bad: object) -> None:
    with pytest.raises(InputError, match=r"^codebook_sizes: got "):
        OneRecConfig.from_dict({**preset("tiny").to_dict(), "codebook_sizes": bad})


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        *(("g_kv", 0), ("recency_buckets", 1), ("n_shared", -1), ("codebook_fingerprint", 3)),
        *(("rms_eps", bad) for bad in (0, "1e-6", True, float("nan"), float("inf"))),
        *(("user_fields", bad) for bad in (3, {"age": "number"}, ["age"], "age")),
    ],
)
def test_what_no_model_can_have(key: str, bad: object) -> None:
    with pytest.raises(InputError, match=rf"^{key}: got "):
        OneRecConfig.from_dict({**preset("tiny").to_dict(), key: bad})


def test_keys_of_other_programs_are_not_read() -> None:
    foreign = {"dtype": "bfloat16", "torch_dtype": 3, "architectures": ["OneRecV2"], "transformers_version": "5.0.0"}
    foreign |= {
        "auto_map": {},
        "_name_or_path": "",
        "use_cache": True,
        "top_p": 1.0,
        "d_head": 3,
        "": 1,
        "hidden_size": 4,
    }
    raw = {**preset("tiny").to_dict(), **foreign, "quantization_config": None}
    assert OneRecConfig.from_dict(raw) == preset("tiny")


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        *(("n_experts", "n_expert"), ("nLayer", "n_layer"), ("d-model", "d_model"), ("top_ks", "top_k")),
        *(("G_KV", "g_kv"), ("max_contex", "max_context"), ("rms_esp", "rms_eps")),
        ("quantisation_config", "quantization_config"),
    ],
)
def test_a_slip_of_the_pen_is_told_what_was_meant(slip: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"got '{slip}'; unknown key; did you mean {meant}"):
        OneRecConfig.from_dict({**preset("tiny").to_dict(), slip: 4})


def test_null_is_absent() -> None:
    raw = preset("tiny").to_dict()
    optional = {key: None for key in raw if key not in ("model_type", *REQUIRED, "n_dense", "n_expert", "top_k")}
    read = OneRecConfig.from_dict({**raw, **optional})
    assert read == OneRecConfig.from_dict({key: value for key, value in raw.items() if key not in optional})
    for key in REQUIRED:
        with pytest.raises(InputError, match=f"{key}: got None; is required"):
            OneRecConfig.from_dict({**raw, key: None})
    with pytest.raises(InputError, match="model_type: got None"):
        OneRecConfig.from_dict({**raw, "model_type": None})


def test_missing_key() -> None:
    raw = preset("tiny").to_dict()
    del raw["n_head"]
    with pytest.raises(InputError, match="n_head: got None; is required"):
        OneRecConfig.from_dict(raw)


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match=r"preset: got '3b'; allowed: 0.1b, 0.2b"):
        preset("3b")


def test_user_fields() -> None:
    fields = (AGE, GENDER)
    assert encode_user(fields, {"gender": "M", "age": 45}) == [1.5, 2.0]
    assert encode_user(fields, {}) == [0.0, 0.0]
    with pytest.raises(InputError, match=r"user.gender: got 'X'; allowed: F, M"):
        encode_user(fields, {"gender": "X"})
    with pytest.raises(InputError, match=r"user.age: got 'old'; must be a number"):
        encode_user(fields, {"age": "old"})
    with pytest.raises(InputError, match=r"user.age: got nan; must be a number"):
        encode_user(fields, {"age": float("nan")})
    with pytest.raises(InputError, match=r"user: got 'height'; allowed: age, gender"):
        encode_user(fields, {"height": 3})
