"""OctoRec's own Qwen answers as transformers does: scores, constrained and free beams, in the three layouts."""

from collections.abc import Callable

import pytest

from octorec.parity.folder import open_ours
from octorec.parity.run import compare
from octorec.parity.theirs import open_model
from tests.qwen.made_models import Made

REQUESTS, WIDTH = 6, 16


@pytest.mark.parametrize(
    "name", ["minionerec", *(pytest.param(name, marks=pytest.mark.slow) for name in ("openonerec", "onereason"))]
)
def test_a_folder_answers_as_in_transformers(name: str, made: Callable[[str], Made]) -> None:
    one = made(name)
    opened = open_ours(one.folder)
    assert opened.ours.sids.to_dict() == one.layout.sids.to_dict()
    assert opened.vocabulary == one.layout.vocabulary
    prompts = [one.layout.prompt(history) for history in one.histories(REQUESTS)]
    asked = prompts, one.targets(REQUESTS), WIDTH
    found = compare(
        opened.ours, open_model(one.folder), *asked, next_logits=opened.next_logits, vocabulary=opened.vocabulary
    )
    assert found.outcome == "parity", found.to_dict()
    assert len(found.beams) == 4
    assert all(beams.beams == REQUESTS * WIDTH for beams in found.beams)
