"""The temperature is found that logits were made with, and a checkpoint has it inside its softmax."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from octorec.models.hf_folder import Checkpoint
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.output.write import new_folder
from octorec.quant.convert import quantize_checkpoint
from studies.exact.asked import Deadline, Lists, OutOfTime
from studies.exact.certified import mass
from studies.exact.policies import differences
from studies.exact.temperature import calibrated, nll, tempered


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.15, 2.0])
def test_the_search_finds_the_temperature_that_logits_were_made_with(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = [3 * torch.randn(6000, size, generator=generator) for size in (40, 30)]
    drawn = [torch.multinomial((one / temperature).softmax(-1), 1, generator=generator) for one in logits]
    codes = torch.cat(drawn, 1)
    found = calibrated(logits, codes)
    assert found == pytest.approx(temperature, rel=0.03)
    assert nll(logits, codes, found) <= min(nll(logits, codes, one * found) for one in (0.98, 1.0, 1.02))


def test_a_copy_has_its_heads_divided_and_all_else_the_same(tmp_path: Path) -> None:
    model = OneRecV2(preset("tiny"))
    initialize(model, 0)
    with new_folder(tmp_path / "bf16") as scratch:
        save(model, scratch, torch.bfloat16)
    quantize_checkpoint(tmp_path / "bf16", tmp_path / "fp8", "fp8")
    for name in ("bf16", "fp8"):
        before, after = Checkpoint(tmp_path / name), Checkpoint(tempered(tmp_path / name, tmp_path / "t", 1.25))
        assert before.config == after.config
        assert before.names() == after.names()
        heads = [one for one in before.names() if one.startswith("head.")]
        assert len(heads) == 3
        for one in before.names():
            old, new = before.load(one), after.load(one)
            assert old.dtype == new.dtype
            wanted = (old.float() / 1.25).to(old.dtype) if one in heads else old
            assert torch.equal(new.float(), wanted.float()), one


def lists(places: list[list[int]], scores: list[list[float]], bounds: list[float], exact: bool = True) -> Lists:
    n = len(places)
    columns = np.array(places, np.int32), np.array(scores, np.float32), np.array(bounds, np.float64)
    return Lists(*columns, np.full(n, exact), np.zeros(n, bool), np.full(n, len(places[0])))


def test_mass_is_the_probability_of_the_first_ten() -> None:
    scores = np.log(np.full((2, 12), 0.05))
    scores[1, 3:] = -np.inf  # a list of three items
    found = lists([[*range(12)]] * 2, scores.tolist(), [-np.inf] * 2)
    assert mass(found) == pytest.approx((10 * 0.05 + 3 * 0.05) / 2)


def test_a_list_certifies_its_first_k_items_above_the_bound() -> None:
    found = lists(
        [[4, 5, 6], [4, 5, 6], [4, 5, -1], [4, 5, -1]],
        [[-1, -2, -3], [-1, -2, -3], [-1, -2, -np.inf], [-1, -2, -np.inf]],
        [-2.5, -2.0, -np.inf, -9.0],
    )
    assert [found.certified(k).tolist() for k in (1, 2, 3)] == [
        [True, True, True, True],
        [True, False, True, True],
        [False, False, True, False],
    ]
    assert found.found.tolist() == [3, 3, 2, 2]


def test_near_ties_are_told_from_answers_that_differ() -> None:
    tie, ours = -1.0000005, [[1, 2], [1, 2], [2, 1], [1, 3], [2, 1]]
    scores = [[-1, -2], [-1, -2.25], [-1, -1], [-1, -2], [-1, -2]]
    theirs = lists([[1, 2, 7]] * 5, [[-1, -2, -5], [-1, -2, -5], [-1, tie, -5], [-1, -2, -5], [-1, -2, -5]], [-3.0] * 5)
    found = differences(lists(ours, scores, [-9.0] * 5), theirs, 2)
    assert (found.both_exact, found.differ, found.near_ties) == (5, 2, 1)
    assert found.score_difference == 1.0
    assert found.equal_scores == pytest.approx(3 / 5)
    assert differences(lists(ours, scores, [-9.0] * 5, exact=False), theirs, 2).both_exact == 0


def test_a_stage_ends_when_its_time_is_up() -> None:
    Deadline.within("x", 60).check()
    with pytest.raises(OutOfTime, match="x"):
        Deadline("x", time.perf_counter() - 1).check()
