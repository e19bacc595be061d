"""What the host does for many requests at once gives what it gives for each."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from made_up import MadeUpModel, random_catalog

from octorec.catalog.ids import IdHashes
from octorec.engine import engine as engine_module
from octorec.engine.batch import AT_ONCE, ParsedRequest, parse_all
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.items import items_of
from octorec.engine.rank import Found
from octorec.engine.request import Request
from octorec.errors import InputError

SIZES = (6, 5, 7)
CATALOG = random_catalog(300, SIZES, withdrawn=0.1, counted=True)  # tuples are shared
DRAW = np.random.default_rng(0)


def engine(**options: Any) -> Engine:
    config = {"batch_sizes": (1, 4), "beam_widths": (8, 32), "default_beam_width": 8, **options}
    return Engine(MadeUpModel(SIZES), CATALOG, EngineConfig(**config))


def drawn(count: int, unknown: bool = False) -> list[Request]:
    """Requests of all kinds: no history, a long one, exclusions, sets, seen items, two widths."""
    made = []
    for number in range(count):
        history = [f"i{item}" for item in DRAW.integers(0, 300, DRAW.choice([0, 1, 5, 20]))]
        exclude = [f"i{item}" for item in DRAW.integers(0, 300, 30)] if number % 3 == 0 else []
        if unknown and number % 5 == 0:
            history.append("stranger")
        fields: dict[str, Any] = {"allow": ["red"] if number % 4 == 0 else [], "exclude_seen": number % 2 == 0}
        made.append(Request(history, k=5, beam_width=(8, 32)[number % 2], exclude=exclude, **fields))
    return made


def as_lists(parsed: ParsedRequest) -> dict[str, Any]:
    found = {part.name: getattr(parsed, part.name) for part in dataclasses.fields(parsed)}
    sets, catalog = found["filter"].sets, found.pop("catalog")
    chosen = found.pop("filter").excluded.tolist(), None if sets is None else sets.tolist()
    banned = [nodes.tolist() for nodes in found.pop("banned")]
    return {**found, "codes": found["codes"].tolist(), "banned": banned, "chosen": chosen, "catalog": id(catalog)}


def test_many_requests_are_parsed_as_each_is() -> None:
    requests, subject = drawn(2 * AT_ONCE + 7, unknown=True), engine()
    many = list(parse_all(requests, CATALOG, subject._limits(), drop_unknown=True))
    assert [as_lists(one) for one in many] == [as_lists(subject.parse(one, drop_unknown=True)) for one in requests]
    assert any("1 unknown dropped" in note for one in many for note in one.notes)


def test_the_first_wrong_request_is_refused_in_the_words_of_one_alone() -> None:
    requests, subject = drawn(AT_ONCE + 9), engine()
    wrong = Request(["i1", "stranger"])
    requests[AT_ONCE + 3 : AT_ONCE + 5] = wrong, Request(["another"])
    with pytest.raises(InputError) as alone:
        subject.parse(wrong)
    taken: list[ParsedRequest] = []
    with pytest.raises(InputError) as caught:
        taken.extend(subject.parse_all(requests))
    assert str(caught.value) == str(alone.value)
    assert len(taken) == AT_ONCE + 3


def test_histories_are_looked_up_together(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up, find = [], IdHashes.find
    monkeypatch.setattr(IdHashes, "find", lambda hashes, ids: looked_up.append(len(ids)) or find(hashes, ids))
    requests = [Request([f"i{number}", "i1"], k=5) for number in range(2 * AT_ONCE + 1)]
    assert len(list(engine().parse_all(requests))) == len(requests)
    assert looked_up == [2 * AT_ONCE, 2 * AT_ONCE, 2]


def test_a_batchs_items_are_those_of_each_requests_live_beams() -> None:
    parsed = list(engine().parse_all([dataclasses.replace(one, history=["i1"]) for one in drawn(12)]))
    leaves = np.stack([DRAW.permutation(len(CATALOG.trie.leaf_items) - 1)[:32] for _ in parsed])
    scores = -np.sort(DRAW.random((len(parsed), 32), dtype=np.float32))
    live = DRAW.integers(0, 33, len(parsed))
    scores[np.arange(32) >= live[:, None]] = -np.inf
    found = Found(scores, leaves + 40, np.full((len(parsed), 2), -9, np.float32), 40, CATALOG)
    for row, one in enumerate(parsed):
        items, position = items_of(CATALOG, leaves[row, : live[row]], one.filter)
        ranked = found.ranked(row, one)
        assert ranked.item_indices.tolist() == items[: one.k].tolist()
        assert ranked.scores.tolist() == scores[row, position[: one.k]].tolist()


@pytest.mark.parametrize("width", [8, "auto"])
def test_lists_are_the_items_of_the_answers(width: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, subject = [dataclasses.replace(one, beam_width=width) for one in drawn(40)], engine()
    expected = [answer.items for answer in subject.recommend(requests)]
    monkeypatch.setattr("octorec.engine.rank.Answer", None)  # none is made
    assert subject.lists(requests) == expected
    assert any(expected)


def test_where_python_launches_each_operation_more_requests_are_scored_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = [Request([f"i{number}"], k=5) for number in range(70)]
    targets, sizes, score = [f"i{number}" for number in range(70, 140)], [], engine_module.score

    def noted(model: Any, inputs: Any, codes: torch.Tensor) -> torch.Tensor:
        sizes.append(len(codes))
        return score(model, inputs, codes)

    monkeypatch.setattr(engine_module, "score", noted)
    expected = engine().score(requests, targets)
    assert set(sizes) == {4}
    monkeypatch.setattr(Engine, "rows_are_fixed", True)
    sizes.clear()
    np.testing.assert_array_equal(engine().score(requests, targets), expected)
    rows = 4 * (8 + 32)  # of the largest search: beams, and items of a history
    assert sizes == [16] * 5
    assert max(sizes) * (8 + 1) <= rows
