"""The configuration refuses what it cannot mean, naming the field, the value and what is allowed."""

import json

import pytest

from octorec.errors import InputError
from octorec.models.config import OneRecConfig, UserField, encode_user
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
        ({"n_layer": 0}, r"n_layer: got 0; must be above 0"),
        ({"n_layer": "3"}, r"n_layer: got '3'; must be above 0"),
        ({"s_kv": 3}, r"s_kv: got 3; allowed: 1"),
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
        ({"d_modle": 3}, r"got 'd_modle'; unknown key; known: d_model, n_layer"),
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
