"""NAME.widths.json beside a checkpoint, where `auto` begins."""

import json
import random
from pathlib import Path

import pytest
from harness import fuzz
from mutate import broken_bytes, mutated

from octorec.engine.starts_file import read_starts, starts_file

TABLE = {
    "format": 1,
    "starts": {"1": 16, "10": 32, "50": 128},
    "checkpoint": "fp8-935184e1b84d",
    "requests": 128,
    "widths": [{"beam_width": 32, "ms": 2376.2, "certified": {"10": 0.992}}],
}


def make(folder: Path) -> None:
    starts_file(folder / "model").write_text(json.dumps(TABLE))


def broken(folder: Path, rng: random.Random) -> str:
    if rng.random() < 0.7:
        content = json.dumps(mutated(TABLE, rng)).encode("utf-8", "surrogateescape")
    else:
        content = broken_bytes(json.dumps(TABLE).encode(), rng)
    starts_file(folder / "model").write_bytes(content)
    return repr(content)


def read(folder: Path) -> object:
    """Read it as every load of a checkpoint does, and begin by it."""
    starts = read_starts(folder / "model")
    return [starts.of(k, (32, 128, 512)) for k in (1, 10, 512)]


@pytest.mark.slow
def test_a_broken_table_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_widths")
