"""Our search over the seam gives what transformers does, on the same weights recomputed as whole sequences."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from octorec.catalog.build import withdraw
from octorec.errors import InputError
from octorec.parity.compare import Parity
from octorec.parity.ours import Ours
from octorec.parity.run import compare
from octorec.parity.theirs import open_model
from tests.qwen.made_models import Made
from tests.qwen.whole_sequences import WholeSequences

REQUESTS = 4


def asked(one: Made) -> tuple[list[np.ndarray], np.ndarray]:
    return [one.layout.prompt(history) for history in one.histories(REQUESTS)], one.targets(REQUESTS)


def compared(one: Made, model: Any, theirs: Any, **options: Any) -> Parity:
    def next_logits(ids: torch.Tensor) -> torch.Tensor:
        return model(ids, use_cache=False, logits_to_keep=1).logits[:, 0]

    ours = Ours(WholeSequences(model, one.layout.sids), one.catalog, one.layout.sids)
    options = {"beam_width": 12, "next_logits": next_logits, "vocabulary": one.layout.vocabulary} | options
    return compare(ours, theirs, *asked(one), **options)


@pytest.mark.parametrize(
    "name", ["openonerec", *(pytest.param(name, marks=pytest.mark.slow) for name in ("onereason", "minionerec"))]
)
def test_the_same_weights_agree_in_every_search(name: str, made: Callable[[str], Made]) -> None:
    one = made(name)
    model, told = open_model(one.folder), []
    found = compared(one, model, model, progress=lambda done, total, what="": told.append((done, total)))
    assert found.outcome == "parity", found.to_dict()
    assert [(beams.search, beams.length_penalty) for beams in found.beams] == [
        ("constrained", 0.0), ("constrained", 1.0), ("free", 0.0), ("free", 1.0),
    ]  # fmt: skip
    assert all(beams.beams >= REQUESTS * 12 // 2 and beams.overlap == 1 for beams in found.beams)
    assert found.scores.steps == len(one.layout.sids.levels) + len(one.layout.sids.end)
    assert told == [(number, 4 * REQUESTS) for number in range(1, 4 * REQUESTS + 1)]
    assert (found.exit_code, found.to_dict()["outcome"], found.differing) == (0, "parity", ())


@torch.no_grad()
def test_other_weights_do_not_agree(made: Callable[[str], Made]) -> None:
    one = made("onereason")
    theirs, model = open_model(one.folder), open_model(one.folder)
    model.lm_head.weight[int(one.layout.sids.levels[0][3])] *= 1.01
    found = compared(one, model, theirs)
    assert (found.outcome, found.exit_code) == ("no_parity", 3)
    assert found.scores.difference > 1e-4
    assert found.differing
    assert compared(one, model, theirs, tolerance=0.9, next_logits=None).outcome == "parity"


def test_items_that_are_withdrawn_are_in_no_beam(made: Callable[[str], Made]) -> None:
    one = made("minionerec")
    model = open_model(one.folder)
    live = np.arange(len(one.catalog)) % 5 == 0
    gone = [item for item, stays in zip(one.catalog.item_ids, live, strict=True) if not stays]
    few = replace(one, catalog=withdraw(one.catalog, gone))
    found = compared(few, model, model, beam_width=48, next_logits=None)
    assert found.outcome == "parity"
    alive = len(np.unique(one.catalog.codes[live], axis=0))
    assert found.beams[0].beams == REQUESTS * min(48, alive)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"beam_width": 0}, "beam_width: got 0; must be 2 or more: of one beam transformers tells no score"),
        ({"tolerance": 0.0}, "tolerance: got 0.0; must be above 0 and below 1, in nats"),
    ],
)
def test_an_impossible_setting_is_refused(changed: dict[str, Any], said: str, made: Callable[[str], Made]) -> None:
    one = made("openonerec")
    model = open_model(one.folder)
    with pytest.raises(InputError) as refused:
        compared(one, model, model, **changed)
    assert str(refused.value) == said


def test_nothing_to_ask_is_refused(made: Callable[[str], Made]) -> None:
    one = made("openonerec")
    ours = Ours(WholeSequences(open_model(one.folder), one.layout.sids), one.catalog, one.layout.sids)
    with pytest.raises(InputError, match="requests: got 0; give at least one request"):
        compare(ours, None, [], one.targets(0))
