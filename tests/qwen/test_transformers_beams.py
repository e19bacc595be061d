"""Transformers' side of the comparison alone: its beams against brute force, and what must not reach them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octorec.models.sid_tokens import EndToken
from octorec.parity.beams import Beam, item_tokens
from octorec.parity.free_search import free_search
from octorec.parity.theirs import constrained_beams, free_beams, open_model, teacher_forced, up_to
from octorec.parity.token_trie import TokenTrie
from tests.qwen.made_models import Made

NAMES = ("openonerec", "onereason", "minionerec")


@pytest.fixture(params=NAMES)
def opened(request: pytest.FixtureRequest, made: Callable[[str], Made]) -> tuple[Made, Any]:
    one = made(request.param)
    return one, open_model(one.folder)


def tuples(one: Made) -> np.ndarray:
    """Every code tuple of the catalog, ascending."""
    return np.unique(one.catalog.codes, axis=0).astype(np.int64)


def trie_of(one: Made) -> TokenTrie:
    return TokenTrie(one.catalog.trie, one.layout.sids)


def ranked(one: Made, model: Any, prompt: np.ndarray, sids: Any = None) -> list[Beam]:
    """All items by their teacher-forced scores: what a beam search of all width must find."""
    sids, codes = sids or one.layout.sids, tuples(one)
    scores = teacher_forced(model, [prompt] * len(codes), codes, sids).sum(1)
    tokens = item_tokens(sids, torch.from_numpy(codes)).tolist()
    return sorted(
        (Beam(tuple(row), float(score)) for row, score in zip(tokens, scores, strict=True)), key=lambda b: -b.score
    )


def close(found: list[Beam], expected: list[Beam], tolerance: float = 1e-4) -> bool:
    """Whether lists have the same beams and scores, in one order but for near ties."""
    wanted = dict(expected)
    return (
        {beam.tokens for beam in found} == set(wanted)
        and all(abs(beam.score - wanted[beam.tokens]) < tolerance for beam in found)
        and all(abs(a.score - b.score) < tolerance for a, b in zip(found, expected, strict=True))
    )


def test_models_are_sharp(opened: tuple[Made, Any]) -> None:
    one, model = opened
    prompts = [one.layout.prompt(history) for history in one.histories(60)]
    scores = teacher_forced(model, prompts, one.targets(60), one.layout.sids)
    assert scores[:, :3].sum(1).mean() > -8  # three codes by chance: -10.4
    assert (scores[:, 3:] > -0.3).all()  # what ends an item is learned


def test_beams_of_all_width_are_all_items_teacher_forced(opened: tuple[Made, Any]) -> None:
    one, model = opened
    for history in one.histories(2):
        prompt = one.layout.prompt(history)
        expected = ranked(one, model, prompt)
        found = constrained_beams(model, prompt, trie_of(one), one.layout.sids, len(expected) + 20)
        assert len(expected) > 150
        assert close(found, expected)


def test_a_narrow_beam_is_a_beam_search_by_hand(opened: tuple[Made, Any]) -> None:
    one, model = opened
    prompt, sids, width = one.layout.prompt(one.histories(3)[2]), one.layout.sids, 5
    codes = tuples(one)
    levels = teacher_forced(model, [prompt] * len(codes), codes, sids)
    kept = np.arange(len(codes))
    for level in range(codes.shape[1]):
        prefixes, first = np.unique(codes[kept, : level + 1], axis=0, return_index=True)
        best = np.argsort(-levels[kept[first], : level + 1].sum(1))[:width]
        kept = np.array([row for row in kept if (codes[row, : level + 1] == prefixes[best]).all(1).any()])
    totals = levels[kept].sum(1)
    found = constrained_beams(model, prompt, trie_of(one), sids, width)
    assert [beam.score for beam in found] == pytest.approx(sorted(totals, reverse=True), abs=1e-4)
    tokens = item_tokens(sids, torch.from_numpy(codes[kept])).tolist()
    assert {beam.tokens for beam in found} == set(map(tuple, tokens))


def test_length_penalties_0_and_1_rank_alike(opened: tuple[Made, Any]) -> None:
    one, model = opened
    prompt = one.layout.prompt(one.histories(1)[0])
    sums, means = (constrained_beams(model, prompt, trie_of(one), one.layout.sids, 12, at) for at in (0.0, 1.0))
    assert [beam.tokens for beam in sums] == [beam.tokens for beam in means]
    assert [beam.score for beam in sums] == pytest.approx([beam.score for beam in means], abs=1e-4)


def test_what_ends_an_item_counts_in_its_score(made: Callable[[str], Made]) -> None:
    one = made("minionerec")
    model, prompt = open_model(one.folder), one.layout.prompt(one.histories(1)[0])
    scores = teacher_forced(model, [prompt], one.targets(1), one.layout.sids)
    assert scores.shape == (1, 5)
    assert (scores < 0).all()
    bare = replace(one.layout.sids, end=())
    with_end, without = (
        {beam.tokens[:3]: beam.score for beam in constrained_beams(model, prompt, trie, sids, 10)}
        for trie, sids in ((trie_of(one), one.layout.sids), (TokenTrie(one.catalog.trie, bare), bare))
    )
    assert all(with_end[tokens] < without[tokens] for tokens in with_end)


def test_over_a_level_only_its_codes_share_the_probability(made: Callable[[str], Made]) -> None:
    one = made("minionerec")
    model, prompt = open_model(one.folder), one.layout.prompt(one.histories(1)[0])
    sids = replace(one.layout.sids, scores_over="level")
    trie = TokenTrie(one.catalog.trie, sids)
    expected = ranked(one, model, prompt, sids)
    assert close(constrained_beams(model, prompt, trie, sids, len(expected)), expected)
    assert sum(np.exp(beam.score) for beam in expected) <= 1 + 1e-6
    assert teacher_forced(model, [prompt], one.targets(1), sids).shape == (1, 3)


def test_a_forced_token_that_is_not_scored_counts_nothing(made: Callable[[str], Made]) -> None:
    one = made("minionerec")
    model, prompt = open_model(one.folder), one.layout.prompt(one.histories(1)[0])
    line, stop = one.layout.sids.end
    sids = replace(one.layout.sids, end=(EndToken(line.id, scored=False), stop))
    expected = ranked(one, model, prompt, sids)
    found = constrained_beams(model, prompt, TokenTrie(one.catalog.trie, sids), sids, len(expected))
    assert close(found, expected)
    assert len(teacher_forced(model, [prompt], one.targets(1), sids)[0]) == 4


def test_a_folder_s_generation_config_reaches_no_beam(opened: tuple[Made, Any], tmp_path: Path) -> None:
    one, model = opened
    assert json.loads((one.folder / "generation_config.json").read_text())["repetition_penalty"] > 1
    prompt = one.layout.prompt(one.histories(1)[0])
    clean = constrained_beams(model, prompt, trie_of(one), one.layout.sids, 12)
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig.from_pretrained(one.folder)
    reached = constrained_beams(model, prompt, trie_of(one), one.layout.sids, 12)
    assert dict(reached) != dict(clean)  # so that the first list would have shown it
    assert open_model(one.folder).generation_config.repetition_penalty is None


def test_rows_without_a_legal_path_are_left_out(opened: tuple[Made, Any]) -> None:
    one, model = opened
    items = one.catalog.trie
    few = np.arange(len(one.catalog)) < 3
    trie = TokenTrie(items.with_live(few), one.layout.sids)
    found = constrained_beams(model, one.layout.prompt(one.histories(1)[0]), trie, one.layout.sids, 16)
    alive = np.unique(one.catalog.codes[few], axis=0)
    assert len(found) == len(alive) < 16
    assert len({beam.tokens for beam in found}) == len(found)


def test_free_beams_are_those_of_a_search_without_a_trie(opened: tuple[Made, Any]) -> None:
    one, model = opened
    steps = len(one.layout.sids.levels) + len(one.layout.sids.end)
    stops = ([], one.layout.ids("<|im_end|>"), [int(one.layout.sids.levels[1][7]), int(one.layout.sids.levels[2][3])])

    def next_logits(ids: torch.Tensor) -> torch.Tensor:
        return model(ids, use_cache=False).logits[:, -1]

    for history, stop in zip(one.histories(3), stops, strict=True):
        prompt = one.layout.prompt(history)
        for penalty in (0.0, 1.0):
            asked = steps, 8, penalty, one.layout.vocabulary, [token for token in stop if token >= 0]
            expected, found = free_search(next_logits, prompt, *asked), free_beams(model, prompt, *asked)
            assert close(found, expected)
            assert max(max(beam.tokens) for beam in found) < one.layout.vocabulary


def test_ids_without_a_token_would_be_chosen_if_they_were_not_masked(opened: tuple[Made, Any]) -> None:
    one, model = opened
    prompt = one.layout.prompt(one.histories(1)[0])
    unmasked = free_beams(model, prompt, 3, 32)
    assert any(max(beam.tokens) >= one.layout.vocabulary for beam in unmasked)


def test_a_penalty_ranks_beams_that_stop_early_by_their_length(made: Callable[[str], Made]) -> None:
    one = made("openonerec")
    model, prompt = open_model(one.folder), one.layout.prompt(one.histories(1)[0])
    free = free_beams(model, prompt, 3, 8, 0.0, one.layout.vocabulary)
    stop = [free[0].tokens[1]]  # ends the likely beams after two tokens
    sums, means = (free_beams(model, prompt, 3, 8, penalty, one.layout.vocabulary, stop) for penalty in (0.0, 1.0))
    assert {len(beam.tokens) for beam in sums} == {2, 3}
    assert [beam.score for beam in sums] == sorted((beam.score for beam in sums), reverse=True)
    assert [beam.score / len(beam.tokens) for beam in means] == sorted(
        (beam.score / len(beam.tokens) for beam in means), reverse=True
    )


def test_a_sequence_ends_with_its_first_stop_token() -> None:
    assert up_to([4, 5, 6], [5]) == (4, 5)
    assert up_to([4, 5, 6], []) == (4, 5, 6)
