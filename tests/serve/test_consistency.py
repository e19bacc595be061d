"""Operators race under load for a minute."""

from pathlib import Path

import pytest
from raced import race


@pytest.mark.slow
def test_operators_race_under_load_and_every_answer_is_of_one_version(tmp_path: Path) -> None:
    race(tmp_path, 60)
