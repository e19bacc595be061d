"""Whatever stands in a recipe or in a quantization_config, it is read or refused, and soon."""

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octorec.errors import InputError
from octorec.quant.format import from_quantization_config, to_quantization_config
from octorec.quant.recipe import Recipe, load_recipe

NAMES = [f"blocks.{b}.ffn.experts.{e}.{p}_proj" for b in range(4) for e in range(40) for p in ("up", "down")] + [
    "head.0"
]
FEW, MANY = 30, 1500  # examples of the fast and of the slow tests

expressions = st.one_of(
    st.text("abk.*+?|()[]^$\\{}!:=<>dw0", max_size=30),
    st.lists(st.sampled_from([".*", r"\d+", "(a|b)", "(?:", ")", "(?!", "[^.]", "+", "blocks", r"\.", "$"])).map(
        "".join
    ),
    st.sampled_from(["re:.*up", "Linear", "head.0", r"re:(\w+)+$!", "re:(?!(?:.*up)$)(?:.*_proj)$"]),
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | expressions,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
patterns = st.lists(expressions, max_size=4) | junk
group = st.fixed_dictionaries(
    {
        "targets": patterns,
        "weights": st.sampled_from(["channel", "block", "tensor"]) | junk,
        "activations": st.sampled_from(["token", "group", "tensor"]) | junk,
    },
    optional={"optional": st.booleans() | junk},
)
recipes = st.fixed_dictionaries(
    {"name": st.text(min_size=1, max_size=5) | junk, "groups": st.lists(group | junk, max_size=3) | junk},
    optional={"ignore": patterns, "more": junk},
)
arguments = st.fixed_dictionaries(
    {"num_bits": st.just(8) | junk, "type": st.just("float") | junk, "dynamic": st.booleans() | junk},
    optional={"strategy": st.sampled_from(["channel", "token", "block"]) | junk, "symmetric": st.booleans() | junk},
)
configs = st.fixed_dictionaries(
    {
        "quant_method": st.just("compressed-tensors") | junk,
        "format": st.just("float-quantized") | junk,
        "config_groups": st.dictionaries(
            st.text(max_size=3),
            st.fixed_dictionaries({"targets": patterns, "weights": arguments, "input_activations": arguments}) | junk,
            max_size=3,
        )
        | junk,
    },
    optional={"ignore": patterns, "recipe": junk, "sparsity_config": junk},
)


def use(recipe: Recipe) -> None:
    """Do with a recipe what `quantize` does, and read back what was written of it."""
    recipe.check_matches({f"{name}.weight": (16, 16) for name in NAMES})
    assigned = recipe.assign(NAMES)
    assert from_quantization_config(to_quantization_config(recipe, NAMES)).assign(NAMES).keys() == assigned.keys()


def tried(raw: Any, path: Path) -> None:
    start = time.process_time()
    with contextlib.suppress(InputError):
        path.write_text(yaml.safe_dump(raw))
        use(load_recipe(path))
    assert time.process_time() - start < 20


def read(raw: Any) -> None:
    with contextlib.suppress(InputError):
        from_quantization_config(raw).assign(NAMES)


def examples(count: int) -> Any:
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=quiet)


@examples(FEW)
@given(raw=recipes)
def test_a_recipe_is_used_or_refused(raw: Any, tmp_path: Path) -> None:
    tried(raw, tmp_path / "recipe.yaml")


@examples(FEW)
@given(raw=configs)
def test_a_quantization_config_is_read_or_refused(raw: Any) -> None:
    read(raw)


@pytest.mark.slow
@examples(MANY)
@given(raw=recipes)
def test_many_recipes_are_used_or_refused(raw: Any, tmp_path: Path) -> None:
    tried(raw, tmp_path / "recipe.yaml")


@pytest.mark.slow
@examples(MANY)
@given(raw=configs)
def test_many_quantization_configs_are_read_or_refused(raw: Any) -> None:
    read(raw)
