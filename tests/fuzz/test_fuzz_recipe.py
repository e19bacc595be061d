"""Recipes: YAML files of `octorec quantize --recipe`."""

import random
from pathlib import Path

import pytest
import yaml
from harness import fuzz
from mutate import broken_bytes, mutated

from octorec.models.names import disk_tensors
from octorec.models.onerec import OneRecV2
from octorec.models.presets import preset
from octorec.quant.recipe import load_recipe, matrices
from octorec.quant.shipped import SHIPPED

SHAPES: dict[str, tuple[int, ...]] = {}


def make(folder: Path) -> None:
    for path in SHIPPED.glob("*.yaml"):
        (folder / path.name).write_bytes(path.read_bytes())
        (folder / "input.yaml").write_bytes(path.read_bytes())
    SHAPES.update({name: tuple(tensor.shape) for name, tensor in disk_tensors(OneRecV2(preset("tiny"))).items()})


def broken(folder: Path, rng: random.Random) -> str:
    text = rng.choice(sorted(folder.glob("fp8*.yaml"))).read_bytes()
    if rng.random() < 0.7:
        text = yaml.dump(mutated(yaml.safe_load(text), rng)).encode("utf-8", "surrogateescape")
    else:
        text = broken_bytes(text, rng)
    (folder / "input.yaml").write_bytes(text)
    return repr(text)


def read(folder: Path) -> object:
    recipe = load_recipe(folder / "input.yaml")
    recipe.check_matches(SHAPES)
    return recipe.assign(matrices(SHAPES))


@pytest.mark.slow
def test_a_broken_recipe_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_recipe")
