"""config.json of checkpoints, in 16 bit and in FP8 with its quantization_config."""

import random
from pathlib import Path

import pytest
from checkpoints import asked_all, choose, make_both, recommended, rewritten_json
from harness import fuzz

from octorec.numerics.checkpoint_files import CheckpointFiles

make = make_both


def broken(folder: Path, rng: random.Random) -> str:
    return rewritten_json(choose(folder, rng) / "config.json", rng)


def read(folder: Path) -> object:
    """Read it by analyze's reader, and by the engine, which answers a request."""
    return asked_all(lambda: CheckpointFiles(folder / "input").names(), lambda: recommended(folder / "input"))


@pytest.mark.slow
def test_a_broken_config_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_config")
