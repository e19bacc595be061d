"""User fields: any name a column may have becomes a tensor, and what no model could read is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from octorec.errors import InputError
from octorec.models.names import disk_tensors
from octorec.models.onerec_config import OneRecConfig
from octorec.models.onerec_context import ContextBatch
from octorec.models.presets import preset
from octorec.models.user import UserField, encode_user
from octorec.quant.load import load_model

AWKWARD = ("type", "training", "keys", "values", "forward", "half", "weight", "field_a", "年龄", "a b", "_modules")


def test_names_that_torch_has_for_itself_work(make_checkpoint: Any) -> None:
    fields = tuple(UserField(name, "category", ("x", "y")) for name in AWKWARD)
    model = load_model(make_checkpoint("tiny", user_fields=fields))
    names = disk_tensors(model)
    assert all(f"context.field_embed.{name}.weight" in names for name in AWKWARD)
    user = torch.tensor([encode_user(fields, dict.fromkeys(AWKWARD, "y"))])
    batch = ContextBatch(torch.tensor([1]), torch.tensor([[[1, 2, 3]]]), user)
    others = ContextBatch(batch.lengths, batch.codes, torch.zeros_like(user))
    assert not torch.equal(model.encode_context(batch).keys[0], model.encode_context(others).keys[0])


@pytest.mark.parametrize("bad", ["", "a.b", ".", " a", "a ", "a\n", "\x1b[31m", "a" * 101, "\ud800", None, 3, ["a"]])
def test_a_name_that_no_tensor_can_carry(bad: Any) -> None:
    with pytest.raises(InputError, match=r"user_fields: name: got "):
        UserField(bad, "number")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": None}, "kind"),
        ({"kind": ["number"]}, "kind"),
        ({"values": ("x", "x")}, "values"),
        ({"values": (1, 2)}, "values"),
        ({"values": "xy"}, "values"),
        ({"values": ()}, "values"),
        ({"kind": "number", "mean": float("nan")}, "mean"),
        ({"kind": "number", "mean": float("inf")}, "mean"),
        ({"kind": "number", "mean": "30"}, "mean"),
        ({"kind": "number", "mean": 1e300}, "mean"),
        ({"kind": "number", "std": 0}, "std"),
        ({"kind": "number", "std": -1.0}, "std"),
        ({"kind": "number", "std": True}, "std"),
        ({"kind": "number", "std": float("nan")}, "std"),
        ({"kind": "number", "std": 1e-300}, "std"),
        ({"kind": "number", "std": 10**400}, "std"),
    ],
)
def test_a_definition_that_makes_no_number(change: dict, field: str) -> None:
    raw = {"name": "plan", "kind": "category", "values": ["x", "y"], **change}
    raw = {key: list(value) if isinstance(value, tuple) else value for key, value in raw.items()}
    with pytest.raises(InputError, match=rf"user_fields.plan.{field}: got "):
        OneRecConfig.from_dict({**preset("tiny").to_dict(), "user_fields": [raw]})


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan"), 1e300, 10**400, True, "30", [30]])
def test_a_value_that_float32_cannot_hold(bad: Any) -> None:
    with pytest.raises(InputError, match=r"user.age: got "):
        encode_user((UserField("age", "number", mean=30, std=10),), {"age": bad})


def test_a_key_of_a_field_that_is_none(tmp_path: Path) -> None:
    fields = [{"name": "age", "kind": "number", "scale": 3}]
    with pytest.raises(InputError, match=r"user_fields: got 'scale'; unknown key; known: name, kind"):
        OneRecConfig.from_dict({**preset("tiny").to_dict(), "user_fields": fields})
