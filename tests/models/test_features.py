"""Features: what may be declared, and what a request may give."""

from typing import Any

import numpy as np
import pytest
import torch

from octorec.errors import InputError
from octorec.models.features import Feature, any_features, encode_features, features_of

TAGS = Feature((4,), "int64", blank=-1, categories=10, shorter=True)
PAIRS = Feature((3, 2), "float32", blank=0.5, shorter=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (0,)},
        {"shape": (2, -1)},
        {"shape": (2**20, 2)},
        {"shape": (1, 1, 1, 1, 1)},
        {"shape": 3},
        {"shape": ("3",)},
        {"dtype": "float64"},
        {"dtype": torch.int64},
        {"blank": float("nan")},
        {"blank": "0"},
        {"dtype": "int64", "blank": 0.5},
        {"categories": 3},
        {"dtype": "int64", "categories": 0},
        {"shape": (3,), "shorter": True},
        {"shorter": True, "blank": 0},
    ],
)
def test_what_no_tensor_can_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Feature(**wrong)


@pytest.mark.parametrize(
    ("feature", "value", "read"),
    [
        (Feature(), 3, 3.0),
        (Feature(), np.float64(2.5), 2.5),
        (Feature(dtype="int64"), -(2**63), -(2**63)),
        (Feature(dtype="int64", categories=24), 23, 23),
        (Feature((2,)), [1, 2.5], [1, 2.5]),
        (Feature((2,)), torch.tensor([1.0, 2.0]), [1, 2]),
        (Feature((2,)), (np.float32(1), 2), [1, 2]),
        (Feature((2, 1)), [[1], [2]], [[1], [2]]),
        (TAGS, [3, 9], [3, 9, -1, -1]),
        (TAGS, np.array([], np.int64), [-1] * 4),
        (TAGS, None, [-1] * 4),
        (PAIRS, [[1, 2]], [[1, 2], [0.5, 0.5], [0.5, 0.5]]),
        (PAIRS, [], [[0.5, 0.5]] * 3),
    ],
)
def test_a_value_becomes_an_array_of_the_declared_shape_and_type(feature: Feature, value: Any, read: Any) -> None:
    found = feature.encode("x", value)
    assert (found.shape, found.dtype) == (feature.shape, np.dtype(feature.dtype))
    assert found.tolist() == read


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (Feature(), None),
        (Feature(), [1.0]),
        (Feature(), True),
        (Feature(), "1"),
        (Feature(), {}),
        (Feature(), float("nan")),
        (Feature(), float("inf")),
        (Feature(), 1e39),
        (Feature(), 10**400),
        (Feature(), 1j),
        (Feature((2,)), 1.0),
        (Feature((2,)), [1.0]),
        (Feature((2,)), [1.0, None]),
        (Feature((2,)), [1.0, [2.0]]),
        (Feature((2,)), [[1.0, 2.0]]),
        (Feature((2, 2)), [[1.0, 2.0], [3.0]]),
        (Feature((2,)), np.array([1.0, np.nan])),
        (Feature(dtype="int64"), 1.0),
        (Feature(dtype="int64"), 2**63),
        (TAGS, [1, 2, 3, 4, 5]),
        (TAGS, [10]),
        (TAGS, [-1]),
        (TAGS, [True]),
        (TAGS, [[1]]),
        (TAGS, [[]]),
        (TAGS, 3),
        (PAIRS, [1, 2]),
        (PAIRS, [[1, 2, 3]]),
        (PAIRS, [[1, 2]] * 4),
    ],
)
def test_another_value_is_refused_by_the_feature_s_name(feature: Feature, value: Any) -> None:
    with pytest.raises(InputError, match=r"^features\.x: got .*must be") as refused:
        feature.encode("x", value)
    assert refused.value.field == "features.x"


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"features\.b: got 1; is no feature of the model; known: a"):
        encode_features({"a": Feature()}, {"a": 1, "b": 1})
    with pytest.raises(InputError, match="the model reads none"):
        encode_features({}, {"b": 1})


def test_zeros_stand_for_what_must_be_given() -> None:
    features = {"a": Feature((2,)), "b": TAGS}
    assert {name: value.tolist() for name, value in any_features(features).items()} == {"a": [0, 0]}
    encode_features(features, any_features(features))


def test_a_model_that_says_nothing_of_features_reads_none() -> None:
    assert features_of(object()) == {}
