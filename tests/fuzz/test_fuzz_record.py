"""Records of experiments: record.json, which is read again at each start and by every report."""

import json
import math
import random
from pathlib import Path

import pytest
from harness import fuzz
from mutate import broken_json

from octorec.evaluate.online.experiment import parse_experiment
from octorec.evaluate.online.record import add_look, read_record, start, stop
from octorec.evaluate.online.results import Effect, Look
from tests.evaluate.online.recorded import SMALL

NOON = 1_800_000_000.0
SECONDS = 10.0


def make(folder: Path) -> None:
    start(folder, parse_experiment(SMALL), {"control": ("m", "c"), "b": ("m", "c")}, NOON)
    begun = start(folder, parse_experiment(SMALL), {"control": ("m", "c"), "b": ("m2", "c")}, NOON + 1)
    effect = Effect("buyers", "b", 0.1, 0.1, 0.0, -math.inf, 0.5, -math.inf, 0.4, (5, 6), "inconclusive")
    add_look(begun.folder, Look(1, NOON + 2, 11, 0.1, 0.0, math.inf, False, (effect,)))
    stop(begun.folder, "b", "slow", NOON + 3)


def broken(folder: Path, rng: random.Random) -> str:
    file = folder / "one" / "record.json"
    text = broken_json(json.loads(file.read_text()), rng)
    file.write_bytes(text)
    return repr(text)


def read(folder: Path) -> object:
    record = read_record(folder / "one")
    return stop(record.folder, "", "a person", NOON + 4) if record.ended is None else record


@pytest.mark.slow
def test_a_broken_record_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_record", seconds=SECONDS)
