"""One margin, under every verb and in Python."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import typer.main

from octorec.cli.app import app
from octorec.demo import run as demo
from octorec.evaluate.compare import compare, compare_predictions
from octorec.evaluate.margin import MARGIN
from octorec.prove.config import ProveConfig
from studies.quality.outcomes import Outcomes


@pytest.mark.parametrize("function", [compare, compare_predictions, Outcomes.judge, ProveConfig])
def test_python_has_the_default(function: Callable[..., Any]) -> None:
    assert inspect.signature(function).parameters["margin"].default == MARGIN


def test_every_verb_with_a_margin_has_the_default_and_says_what_it_means() -> None:
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {name: option for name, verb in verbs.items() for option in verb.params if option.name == "margin"}
    assert set(found) == {"evaluate", "prove"}
    for option in found.values():
        assert option.default == MARGIN
        assert option.help == "Relative loss of recall and NDCG that is accepted: 0.05 is 5 %."


def test_the_demo_is_judged_by_it() -> None:
    assert demo.MARGIN is MARGIN
