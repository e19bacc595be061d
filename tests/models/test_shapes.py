"""Names and shapes told from config.json alone are the model's own; a config that claims others is refused at once."""

import dataclasses
import math
import time

import pytest
import torch

from octorec.errors import MismatchError
from octorec.models.names import disk_tensors
from octorec.models.onerec import OneRecV2
from octorec.models.onerec_config import OneRecConfig
from octorec.models.onerec_shapes import check_shapes, disk_shapes, parameters
from octorec.models.presets import PRESETS, preset
from octorec.models.user import UserField

FIELDS = (UserField("type", "number"), UserField("training", "category", ("a", "b")))
VARIANTS = [
    *((name, {}) for name in PRESETS),
    ("tiny", {"s_kv": 2, "l_kv": 3, "user_fields": FIELDS}),
    ("tiny", {"g_kv": 1, "codebook_sizes": (7,), "n_shared": 0}),
    ("tiny", {"n_dense": None, "d_ff": 48}),
    ("demo", {"n_dense": 0, "n_shared": 2, "s_kv": 2}),
]


def shapes_in_memory(config: OneRecConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in disk_tensors(OneRecV2(config)).items()}


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_every_shape_is_the_models(name: str, changes: dict) -> None:
    config = preset(name, **changes)
    listed = list(disk_shapes(config))
    assert dict(listed) == shapes_in_memory(config)
    assert len({name for name, _ in listed}) == len(listed)
    assert parameters(config) == sum(math.prod(shape) for _, shape in listed)


def test_a_missing_tensor_and_another_shape_are_named() -> None:
    config = preset("tiny")
    shapes = dict(disk_shapes(config))
    check_shapes(config, shapes, "checkpoint f")
    with pytest.raises(MismatchError, match="missing nothing; unexpected more'"):
        check_shapes(config, {**shapes, "more": (3,)}, "checkpoint f")
    with pytest.raises(MismatchError, match=r"f: head.1.weight: got \(5, 9\); its config.json says \(5, 32\)"):
        check_shapes(config, {**shapes, "head.1.weight": (5, 9)}, "checkpoint f")
    del shapes["bos"]
    with pytest.raises(
        MismatchError, match="checkpoint f: got 'missing bos; unexpected nothing'; its tensors must be those"
    ):
        check_shapes(config, shapes, "checkpoint f")
    others = {f"model.{name}": shape for name, shape in disk_shapes(config)}
    with pytest.raises(MismatchError, match=r"missing .* and more; there are model\..* and more'"):
        check_shapes(config, others, "checkpoint f")


@pytest.mark.parametrize(
    "claim",
    [
        *({key: 2**20} for key in ("d_model", "embed_dim", "d_ff", "recency_buckets")),
        *({key: 2**16} for key in ("n_expert", "n_shared")),
        *({"n_layer": 1024}, {"n_layer": 4, "l_kv": 4}, {"codebook_sizes": (2**31 - 1,) * 64}),
    ],
)
def test_an_absurd_claim_is_refused_in_a_moment(claim: dict) -> None:
    config = dataclasses.replace(preset("tiny"), **claim)
    shapes = dict(disk_shapes(preset("tiny")))
    start = time.process_time()
    with pytest.raises(MismatchError):
        check_shapes(config, shapes, "checkpoint f")
    assert time.process_time() - start < 5
