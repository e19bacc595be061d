"""Models of the three layouts learn MovieLens-100K, and answer as transformers does with wide beams too."""

from pathlib import Path

import numpy as np
import pytest

from octorec.data.movielens import movielens_100k
from octorec.parity.folder import open_ours
from octorec.parity.run import compare
from octorec.parity.theirs import open_model, teacher_forced
from tests.qwen.made_models import SIZES, Training, make_folder

CACHE = Path(__file__).parents[2] / ".cache"
USERS = 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openonerec", "onereason", "minionerec"])
def test_movielens_models_answer_as_in_transformers(name: str, tmp_path: Path) -> None:
    movies = movielens_100k(CACHE)
    one = make_folder(tmp_path / name, name, movies.interactions, Training(steps=300, longest=10))
    prompts, targets = [one.layout.prompt(history) for history in one.histories(USERS, 10)], one.targets(USERS)
    theirs, opened = open_model(one.folder), open_ours(one.folder)
    learned = teacher_forced(theirs, prompts, targets, one.layout.sids)[:, :3].sum(1).mean()
    assert learned > -3 * np.log(SIZES[0])  # a code's mean probability beats chance among its level
    found = compare(
        opened.ours, theirs, prompts, targets, 64, next_logits=opened.next_logits, vocabulary=opened.vocabulary
    )
    assert found.outcome == "parity", found.to_dict()
