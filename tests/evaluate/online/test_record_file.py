"""A record.json that is broken, or that somebody wrote by hand, is refused by its name, and is never written over."""

import copy
import dataclasses
import json
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from octorec.errors import InputError
from octorec.evaluate.online.experiment import parse_experiment
from octorec.evaluate.online.plain import made, plain
from octorec.evaluate.online.record import add_look, end, read_record, start, stop
from octorec.evaluate.online.results import Effect, Look
from octorec.evaluate.online.written import duration, experiment_values
from tests.evaluate.online.recorded import SMALL

NOON = 1_800_000_000.0
VERSIONS = {"control": ("m", "c"), "b": ("m", "c")}
EFFECT = Effect("buyers", "b", 0.1, 0.1, 0.0, -math.inf, 0.5, -math.inf, 0.4, (5, 6), "inconclusive")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment of two stages and one look, that was stopped."""
    start(tmp_path, parse_experiment(SMALL), VERSIONS, NOON)
    made = start(tmp_path, parse_experiment(SMALL), {**VERSIONS, "b": ("m2", "c")}, NOON + 1)
    add_look(made.folder, Look(1, NOON + 2, 11, 0.1, 0.0, math.inf, False, (EFFECT,)))
    stop(made.folder, "b", "slow", NOON + 3)
    return made.folder


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        read_record(folder)
    before = (folder / "record.json").read_bytes()
    for change in (lambda: end(folder, NOON + 9), lambda: start(folder.parent, parse_experiment(SMALL), VERSIONS, 0)):
        with pytest.raises(InputError):
            change()
    assert (folder / "record.json").read_bytes() == before
    return str(error.value)


def test_a_record_cut_off_anywhere_is_refused_by_its_name(folder: Path) -> None:
    whole = (folder / "record.json").read_bytes()
    for length in range(0, len(whole), 97):
        (folder / "record.json").write_bytes(whole[:length])
        assert str(folder / "record.json") in refused(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"null", b'{"format": NaN}', b"[" * 100_000, b"\0" * 10])
def test_what_is_no_record_is_refused_by_its_name(folder: Path, content: bytes) -> None:
    (folder / "record.json").write_bytes(content)
    assert str(folder / "record.json") in refused(folder)


def test_a_broken_record_beside_it_is_named_when_another_experiment_starts(folder: Path) -> None:
    (folder / "record.json").write_text("{")
    other = parse_experiment({**SMALL, "name": "two", "salt": "s2"})
    with pytest.raises(InputError, match=str(folder / "record.json")):
        start(folder.parent, other, VERSIONS, NOON)
    assert not (folder.parent / "two").exists()


def test_a_link_out_of_the_folder_and_a_pipe_are_not_read(folder: Path) -> None:
    outside = folder.parent / "outside.json"
    (folder / "record.json").rename(outside)
    (folder / "record.json").symlink_to(outside)
    with pytest.raises(InputError, match="no link out of it is followed"):
        read_record(folder)
    (folder / "record.json").unlink()
    os.mkfifo(folder / "record.json")
    with pytest.raises(InputError, match="must be a regular file"):
        read_record(folder)


@pytest.mark.parametrize("where", ["no", "file", ""])
def test_what_is_no_experiments_folder_is_refused_and_left_as_it_is(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    for change in (lambda: read_record(tmp_path / where), lambda: end(tmp_path / where, NOON)):
        with pytest.raises(InputError, match=r"^folder: "):
            change()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


WRONG: list[tuple[str, Any]] = [
    ("format", 2),
    ("format", True),
    ("more", 1),
    ("hold_out_salt", None),
    ("experiment.name", "a/b"),
    ("experiment.variants.b.share", "1/3"),
    ("experiment.variants.control.share", 0.25),
    ("stages", []),
    ("stages.1.number", 2),
    ("stages.1.number", 1.0),
    ("stages.1.since", NOON - 1),
    ("stages.1.since", 1e300),
    ("stages.1.since", "inf"),
    ("stages.1.shares.b", "1/4"),
    ("stages.0.shares", {"b": "1/2", "control": "1/2"}),
    ("stages.0.versions", {"control": ["m", "c"]}),
    ("stages.0.versions.b", ["m"]),
    ("stages.0.versions.b", ["m", 1]),
    ("stages.0.more", 1),
    ("stop", {}),
    ("stop", False),
    ("stop.variant", "c"),
    ("stop.time", "nan"),
    ("ended", "never"),
    ("ended", NOON - 1),
    ("looks.0.number", "1"),
    ("looks.0.final", 0),
    ("looks.0.bound", None),
    ("looks.0.bound", 10**400),
    ("looks.0.effects.0.units", [1]),
    ("looks.0.effects.0.outcome", "good"),
    ("looks.0.effects.0.low", "-infinity"),
    ("lowest_ratio_p", 2),
    ("lowest_ratio_p", "nan"),
    ("lowest_ratio_p", True),
    ("notes", []),
    ("notes.0.time", 0),
    ("notes.0.text", None),
]


@pytest.mark.parametrize(("place", "value"), WRONG)
def test_a_record_written_by_hand_is_read_strictly(folder: Path, place: str, value: Any) -> None:
    tree = json.loads((folder / "record.json").read_text())
    *above, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    node: Any = tree
    for key in above:
        node = node[key]
    node[last] = value
    (folder / "record.json").write_text(json.dumps(tree))
    assert str(folder / "record.json") in refused(folder)


def test_looks_of_one_number_and_looks_after_the_final_one_are_refused(folder: Path) -> None:
    tree = json.loads((folder / "record.json").read_text())
    for number, final in ((1, False), (2, True)):
        twice = copy.deepcopy(tree)
        twice["looks"][0]["final"] = final
        twice["looks"].append({**twice["looks"][0], "number": number})
        (folder / "record.json").write_text(json.dumps(twice))
        assert "looks" in refused(folder)


def test_a_folder_that_was_copied_elsewhere_is_read(folder: Path, tmp_path: Path) -> None:
    away = tmp_path / "away" / "for analysis"
    away.mkdir(parents=True)
    (away / "record.json").write_bytes((folder / "record.json").read_bytes())
    assert read_record(away) == dataclasses.replace(read_record(folder), folder=away)


def test_a_copy_below_the_same_root_holds_the_salt(folder: Path) -> None:
    (folder.parent / "copy").mkdir()
    (folder.parent / "copy" / "record.json").write_bytes((folder / "record.json").read_bytes())
    with pytest.raises(InputError, match="was used by experiment copy before"):
        start(folder.parent, parse_experiment(SMALL), VERSIONS, NOON)


def test_every_experiment_is_read_back_from_the_values_that_say_it() -> None:
    metrics = {
        "a": {"kind": "mean", "event": "a", "window": "1.1d", "role": "guardrail", "margin": {"absolute": 0.3}},
        "b": {"kind": "ratio", "event": "b", "per": "c", "window": "0.000001s", "role": "goal", "direction": "down"},
        "c": {"kind": "mean", "event": "c", "window": "3649d", "role": "guardrail", "margin": 1e-6, "covariate": "90m"},
    }
    third = {"share": "1/3", "catalog": "c", "beam_width": 5}
    raw = {
        **SMALL,
        "variants": {"x": third, "control": third, "y": third},
        "metrics": metrics,
        "plan": {"units": 30, "days": 3650, "alpha": 0.1, "power": 0.9},
        "ramp": 0.123456789012,
        "hold_out": "1/7",
        "overrides": {"7": "x", "Ä": "control"},
        "guard": {"window": "1.5m", "requests": 50, "error_rate": 0.01},
    }
    experiment = parse_experiment(raw)
    text = json.dumps(experiment_values(experiment))
    assert parse_experiment(json.loads(text)) == experiment
    assert list(parse_experiment(json.loads(text)).variants) == ["x", "control", "y"]


@pytest.mark.parametrize(
    ("length", "text"),
    [(604800.0, "7d"), (90.0, "90s"), (5400.0, "90m"), (0.000001, "0.000001s"), (95040.0, "1584m"), (1.5, "1.5s")],
)
def test_a_duration_is_written_in_the_largest_whole_unit(length: float, text: str) -> None:
    assert duration(length) == text


def test_plain_values_keep_infinities_fractions_and_none() -> None:
    assert plain((math.inf, -math.inf, Fraction(1, 3), None, {"a": (1, True)})) == [
        "inf",
        "-inf",
        "1/3",
        None,
        {"a": [1, True]},
    ]
    assert math.isnan(made(float, plain(math.nan), "x"))
    assert made(Effect, json.loads(json.dumps(plain(EFFECT))), "x") == EFFECT
