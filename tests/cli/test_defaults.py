"""A default is written once, in a dataclass of settings or as a named constant: flags and functions take it there."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from octorec.bench.config import BenchConfig
from octorec.cli import app as cli
from octorec.cli.flags import shown
from octorec.engine.engine import EngineConfig
from octorec.engine.limits import DEFAULT_BEAM_WIDTH, DEFAULT_EXCLUDE
from octorec.numerics.intensity import Workload
from octorec.offline.config import OfflineConfig
from octorec.prove.config import ProveConfig
from octorec.serve.config import ServeConfig
from octorec.settings import parts_of, settings_of
from octorec.training.config import TrainConfig

PACKAGE = Path(__file__).parents[2] / "src/octorec"
SETTINGS = {
    "train": TrainConfig, "analyze": Workload, "serve": ServeConfig, "bench serve": BenchConfig, "prove": ProveConfig,
    "recommend-all": OfflineConfig,
}  # fmt: skip
OFF = (None, True, False, 0, "", ())  # say nothing that could differ
SIGNATURES = {"device", "checkpoint"}  # of functions for Python, beside the settings of verbs
TILES = {"columns", "items"}  # of kernels, not the flags of one name


def verbs() -> dict[str, Any]:
    root: Any = typer.main.get_command(cli.app)
    found = {}
    for name, command in root.commands.items():
        inner = getattr(command, "commands", {"": command})
        found |= {f"{name} {verb}".strip(): one for verb, one in inner.items()}
    return found


def written(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """Each default that stands as a literal: of a parameter, of a dataclass's field, within `setting(...)`."""
    pairs: list[tuple[str, ast.expr]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            named = [*node.posonlyargs, *node.args]
            pairs += [(one.arg, value) for one, value in zip(named[::-1], node.defaults[::-1], strict=False)]
            pairs += [(one.arg, value) for one, value in zip(node.kwonlyargs, node.kw_defaults, strict=True) if value]
        elif isinstance(node, ast.ClassDef):
            fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
            pairs += [(one.target.id, one.value) for one in fields if one.value]  # type: ignore[attr-defined]
    for name, value in pairs:
        inner = value.args[0] if isinstance(value, ast.Call) and value.args else value
        try:
            yield name, ast.literal_eval(inner)
        except ValueError:
            continue  # a name of what is written elsewhere


def said_twice(sources: dict[str, str], flags: set[str]) -> dict[tuple[str, str], list[str]]:
    """Flags whose default is a literal at several places, with the places."""
    places = defaultdict(list)
    for path, text in sources.items():
        for name, value in written(ast.parse(text)):
            if name in flags and (value not in OFF or name == "seed"):
                places[name, repr(value)].append(path)
    return {key: found for key, found in places.items() if len(found) > 1}


def test_no_default_of_a_flag_is_written_twice() -> None:
    flags = {one.name for command in verbs().values() for one in command.params} - SIGNATURES - TILES
    assert {"k", "margin", "beam_width", "seed", "batch_size", "hold_out", "unknown_items"} <= flags
    sources = {str(path): path.read_text() for path in PACKAGE.rglob("*.py")}
    assert said_twice(sources, flags) == {}


def test_a_default_that_is_written_twice_is_found() -> None:
    sources = {
        "a": "class A:\n    k: Rows = setting(10, 'Items.')\n",
        "b": "def ask(what, k=10, *, seed: int = 0): ...\n",
        "c": "def other(k=K, seed=0): ...\n",
    }
    assert said_twice(sources, {"k", "seed"}) == {("k", "10"): ["a", "b"], ("seed", "0"): ["b", "c"]}


@pytest.mark.parametrize("verb", SETTINGS)
def test_a_verb_has_a_flag_for_every_setting_with_a_text_and_shows_its_default(verb: str) -> None:
    options = {one.name: one for one in verbs()[verb].params}
    made = {name: field for name, field in settings_of(SETTINGS[verb]).items() if "help" in field.metadata}
    assert made
    for name, field in made.items():
        assert options[name].default is None, "a flag that was not given must leave its setting alone"
        assert options[name].help == field.metadata["help"] + shown(field.default)


def test_a_default_of_none_is_left_to_the_text_of_the_flag() -> None:
    helped = {one.name: one.help for one in verbs()["serve"].params}
    assert helped["catalog"].endswith("the checkpoint's own if not given.")
    assert helped["max_queue_delay_ms"].endswith(" Default: 0.0.")
    assert shown(False) == " Default: False."
    assert shown((1.0, 2.5)) == " Default: 1,2.5."


def test_flags_that_verbs_share_have_the_default_of_the_settings() -> None:
    proved = {one.name: one.default for one in verbs()["prove"].params}
    asked = {one.name: one.default for one in verbs()["evaluate"].params}
    for name in ("recipe", "margin", "device", "unknown_items", "exclude_seen"):
        assert proved[name] == getattr(ProveConfig, name)
        assert asked.get(name, proved[name]) == proved[name]


def test_an_engine_has_the_defaults_that_settings_without_torch_name() -> None:
    assert EngineConfig.max_exclude == DEFAULT_EXCLUDE
    assert EngineConfig.default_beam_width == DEFAULT_BEAM_WIDTH
    assert EngineConfig.exclude_seen == settings_of(ServeConfig)["exclude_seen"].default


def test_no_setting_is_of_two_parts_of_the_server() -> None:
    names = [name for part in parts_of(ServeConfig).values() for name in settings_of(part)]
    assert len(names) == len(set(names))
