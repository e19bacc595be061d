"""SidTokens hold a layout of tokens: they survive JSON, and refuse what is none by the name of its field."""

import json
from typing import Any

import numpy as np
import pytest

from octorec.errors import InputError
from octorec.models.sid_tokens import EndToken, SidTokens

RAW: dict[str, Any] = {
    "levels": [[10, 11, -1, 12], [20, 21]],
    "begin": {"video": 30, "": 31},
    "end": [{"id": 40, "scored": False}, {"id": 41, "scored": True}],
    "scores_over": "level",
}


def test_a_layout_survives_json() -> None:
    tokens = SidTokens.from_dict(json.loads(json.dumps(RAW)), "sid_tokens")
    assert tokens.to_dict() == RAW
    assert tokens.codebook_sizes == (4, 2)
    assert tokens.levels[0].dtype == np.int64
    assert tokens.end == (EndToken(40, False), EndToken(41))
    assert tokens.largest == 41


def test_what_is_not_given_has_defaults() -> None:
    tokens = SidTokens.from_dict({"levels": [[1]]}, "sid_tokens")
    assert (dict(tokens.begin), tokens.end, tokens.scores_over, tokens.largest) == ({}, (), "vocabulary", 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"levels": []}, "levels"),
        ({"levels": 3}, "levels"),
        ({"levels": [[1], []]}, "levels.1"),
        ({"levels": [[1, True]]}, "levels.0.1"),
        ({"levels": [[1, -2]]}, "levels.0.1"),
        ({"levels": [[1, 2**40]]}, "levels.0.1"),
        ({"levels": [[1], [-1, -1]]}, "levels.1"),
        ({"levels": [[1, 2], [3, 3]]}, "levels.1"),
        ({"begin": []}, "begin"),
        ({"begin": {"video": "x"}}, "begin.video"),
        ({"begin": {"video": 10}}, "begin, end"),
        ({"end": {}}, "end"),
        ({"end": [{"id": -1}]}, "end.0: id"),
        ({"end": [{"id": 50, "scored": 1}]}, "end.0: scored"),
        ({"end": [{"id": 50, "score": True}]}, "end.0"),
        ({"end": [{"id": 21}]}, "begin, end"),
        ({"scores_over": "all"}, "scores_over"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        SidTokens.from_dict({**RAW, **change}, "sid_tokens")
    assert refused.value.field == f"sid_tokens: {field}"


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="known: levels, begin, end, scores_over"):
        SidTokens.from_dict({**RAW, "ends": []}, "sid_tokens")
