"""Experiments: YAML files of `octorec ab`, and what assigns and remembers them."""

import random
from pathlib import Path

import pytest
import yaml
from harness import fuzz
from mutate import broken_bytes, mutated

from octorec.evaluate.online.assign import BUCKETS, assign, variant_of
from octorec.evaluate.online.experiment import parse_experiment, read_experiment
from octorec.evaluate.online.written import experiment_values

FILE = """
name: fp8-spring
salt: spring-2026
unit: user_id
variants:
  control: {share: 0.45}
  fp8: {share: 0.45, checkpoint: models/fp8, beam_width: 64}
  fresh: {share: 1/10, catalog: catalogs/fresh}
ramp: 0.2
hold_out: 1/20
overrides: {"007": fp8, anna: control}
metrics:
  clicks: {kind: mean, event: click, window: 7d, role: guardrail, margin: 0.01, covariate: 28d}
  bought: {kind: proportion, event: buy, window: 36h, role: guardrail, margin: {absolute: 0.002}}
  complaints: {kind: mean, event: complaint, window: 7d, role: goal, direction: down}
plan: {units: 40000, days: 30, looks: [0.25, 0.5, 1], alpha: 0.05, power: 0.8}
guard: {window: 1m, requests: 500, latency_ms: 80, error_rate: 0.02}
"""


def make(folder: Path) -> None:
    (folder / "experiment.yaml").write_text(FILE)


def broken(folder: Path, rng: random.Random) -> str:
    text = FILE.encode()
    if rng.random() < 0.7:
        text = yaml.dump(mutated(yaml.safe_load(text), rng)).encode("utf-8", "surrogateescape")
    else:
        text = broken_bytes(text, rng)
    (folder / "experiment.yaml").write_bytes(text)
    return repr(text)


def read(folder: Path) -> object:
    found = read_experiment(folder / "experiment.yaml")
    assert parse_experiment(experiment_values(found)) == found
    assert {variant_of(found, number) for number in range(BUCKETS)} == set(found.variants)
    return [assign(found, unit, "shop") for unit in ("anna", 7, None)]


@pytest.mark.slow
def test_a_broken_experiment_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_experiment")
