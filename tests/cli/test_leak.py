"""The way from data to verdict on the command line: targets that were seen are told, and none is seen by default."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main

from octorec.catalog.catalog import Catalog
from octorec.cli.app import app
from octorec.data.hold_out import HOLD_OUT
from octorec.data.interactions import read_interactions
from octorec.data.learned import learned_from, read_learned
from octorec.data.splits import training_part
from tests.cli.test_cli import CONFIG, Done, octorec

CLEAN = {"catalog": 0, "training": 0}
USERS = 24


def write_data(path: Path, lengths: Callable[[int], int], last: str = "") -> Path:
    """Users u0, u1, ... who walk round 20 items; `last` is everybody's newest."""
    rows = []
    for user in range(USERS):
        items = [str((user + step) % 20) for step in range(lengths(user))]
        rows += [f"u{user},{item},{time}" for time, item in enumerate([*items, *([last] if last else [])])]
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.csv, and a checkpoint in 16 bit and FP8 that was made from it with every default."""
    folder = tmp_path_factory.mktemp("leak")
    data = write_data(folder / "data.csv", lambda user: 6)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "user_fields": []}))
    octorec("catalog", "build", "--data", data, "--codebook-sizes", "5,4,4", "--out", folder / "catalog")
    octorec("train", "--data", data, "--catalog", folder / "catalog", "--config", folder / "config.json", "--out",
            folder / "bf16", "--steps", "1", "--batch-size", "8")  # fmt: skip
    octorec("quantize", folder / "bf16", "--out", folder / "fp8", "--recipe", "fp8-channel")
    return folder


def with_records(folder: Path, out: Path, catalog: int | None, training: int | None) -> Path:
    """A copy of the 16-bit checkpoint whose records say how many newest interactions were held out; None: nothing."""
    shutil.copytree(folder / "bf16", out)
    data = read_interactions(folder / "data.csv")
    for name, held in (("catalog/catalog.json", catalog), ("training.json", training)):
        about = json.loads((out / name).read_text())
        del about["learned"]
        if held is not None:
            about["learned"] = learned_from(training_part(data, held)).to_dict()
        (out / name).write_text(json.dumps(about))
    return out


def evaluated(folder: Path, *more: object, data: str = "data.csv", pair: Sequence[Path] = ()) -> tuple[Any, Done]:
    paths = pair or (folder / "bf16", folder / "fp8")
    done = octorec("evaluate", *paths, "--data", folder / data, "--beam-width", "16", *more, "--json", expect=None)
    return json.loads(done.stdout), done


def warnings_of(done: Done) -> list[str]:
    """The warnings among what a verb says on stderr."""
    return [line for line in done.stderr.splitlines() if line.startswith("warning: ")]


def test_by_default_no_target_was_seen_and_nothing_is_warned_of(folder: Path) -> None:
    found, done = evaluated(folder)
    assert found["targets_seen"] == {"baseline": CLEAN, "candidate": CLEAN}  # FP8 keeps its parent's record
    assert found["warnings"] == []
    assert (found["hold_out"], found["users_left_out"], found["targets"]) == (1, 0, USERS)
    assert warnings_of(done) == []


def test_train_and_build_record_what_they_held_out(folder: Path, tmp_path: Path) -> None:
    data = read_interactions(folder / "data.csv")
    default = learned_from(training_part(data, HOLD_OUT))
    assert read_learned(folder / "bf16") == read_learned(folder / "fp8") == Catalog.load(folder / "catalog").learned
    assert read_learned(folder / "bf16") == default
    arguments = ("train", "--data", folder / "data.csv", "--catalog", folder / "catalog", "--config",
                 folder / "config.json", "--steps", "1", "--batch-size", "8", "--out")  # fmt: skip
    for held in (0, 3):
        about = json.loads(octorec(*arguments, tmp_path / str(held), "--hold-out", held, "--json").stdout)
        assert about["learned"] == learned_from(training_part(data, held)).to_dict()


def test_the_report_warns_and_stderr_does_and_json_does(folder: Path, tmp_path: Path) -> None:
    leaky = with_records(folder, tmp_path / "leaky", catalog=0, training=1)
    found, done = evaluated(folder, pair=(leaky, leaky))
    assert found["targets_seen"]["baseline"] == {"catalog": USERS, "training": 0}
    (said,) = found["warnings"]
    assert said.startswith("the catalog of the baseline and the candidate learned from 24 of the 24 targets")
    assert said.endswith("build the catalog again with --hold-out 1")
    assert warnings_of(done) == [f"warning: {said}"]
    shown = octorec("evaluate", leaky, leaky, "--data", folder / "data.csv", "--beam-width", "16", expect=None).stdout
    assert f"warning: {said}\n" in shown
    found, done = evaluated(folder, "--last", "2")
    assert found["targets_seen"]["candidate"] == {"catalog": USERS, "training": USERS}
    assert len(warnings_of(done)) == 2


@pytest.mark.slow
def test_a_proof_warns_too(folder: Path, tmp_path: Path) -> None:
    leaky = with_records(folder, tmp_path / "leaky", catalog=1, training=0)
    proof = ("prove", leaky, "--data", folder / "data.csv", "--beam-width", "16", "--recipe", "fp8-channel")
    done = octorec(*proof, "--json", expect=None)
    found = json.loads(done.stdout)
    assert found["comparison"]["targets_seen"] == {"checkpoint": {"catalog": 0, "training": USERS}}
    (warned,) = warnings_of(done)
    assert warned.startswith("warning: the training of the checkpoint learned from 24 of the 24 targets")
    assert f"warning: {found['warnings'][0]}" in octorec(*proof, expect=None).stdout


def test_checkpoints_from_before_the_records_are_judged_and_what_cannot_be_told_is_said(
    folder: Path, tmp_path: Path
) -> None:
    old = with_records(folder, tmp_path / "old", catalog=None, training=None)
    found, done = evaluated(folder, pair=(old, folder / "fp8"))
    assert found["targets_seen"] == {"baseline": {"catalog": None, "training": None}, "candidate": CLEAN}
    for part in ("catalog", "training"):
        assert f"the {part} of the baseline keeps no record of what it learned from" in done.stderr


def test_users_without_a_target_are_counted(folder: Path) -> None:
    write_data(folder / "short.csv", lambda user: 1 if user < 5 else 6)
    found, _ = evaluated(folder, data="short.csv")
    assert (found["users_left_out"], found["users"]) == (5, USERS - 5)
    arguments = ("evaluate", folder / "bf16", folder / "fp8", "--beam-width", "16", "--data")
    done = octorec(*arguments, folder / "short.csv", expect=None)
    assert "Users left out, as a single interaction leaves nothing to predict: 5" in done.stdout
    write_data(folder / "single.csv", lambda user: 1)
    assert "histories long enough to split" in octorec(*arguments, folder / "single.csv", expect=2).stderr
    arguments = ("analyze", folder / "bf16", "--out", folder / "analysis", "--data")
    assert "histories long enough to split" in octorec(*arguments, folder / "single.csv", expect=2).stderr


@pytest.mark.parametrize("number", ["0", "-1"])
@pytest.mark.parametrize("verb", ["evaluate", "prove"])
def test_nothing_to_predict_is_refused(folder: Path, verb: str, number: str) -> None:
    paths = (folder / "bf16",) * (2 if verb == "evaluate" else 1)
    done = octorec(verb, *paths, "--data", folder / "data.csv", "--hold-out", number, expect=2)
    assert f"hold_out: got {number}; must be 1 or more" in done.stderr


@pytest.mark.parametrize("verb", [("train", "--catalog", "{f}/catalog"), ("catalog", "build")])
def test_less_than_nothing_is_held_out_by_none(folder: Path, tmp_path: Path, verb: tuple[str, ...]) -> None:
    words = [word.format(f=folder) for word in verb]
    done = octorec(*words, "--data", folder / "data.csv", "--out", tmp_path / "x", "--hold-out", "-1", expect=2)
    assert "hold_out: got -1; must be 0 or more" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_catalog_says_what_it_was_built_from(folder: Path, tmp_path: Path) -> None:
    write_data(folder / "new.csv", lambda user: 6, last="brand new")
    arguments = ("catalog", "build", "--data", folder / "new.csv", "--codebook-sizes", "5,4,4", "--out")
    found = json.loads(octorec(*arguments, tmp_path / "a", "--json").stdout)
    assert (found["items"], found["not_met"]) == (21, 1)
    assert (found["learned"]["hold_out"], found["learned"]["interactions"]) == (1, 6 * USERS)
    said = octorec(*arguments, tmp_path / "b").stdout
    assert "learned from 144 interactions, the newest 1 of each user held out" in said
    assert "1 items are met in none of them" in said


def test_one_number_has_one_name_and_one_default() -> None:
    group = typer.main.get_command(app)
    verbs = {**group.commands, **group.commands["catalog"].commands}  # type: ignore[attr-defined]
    found = {name: option for name, verb in verbs.items() for option in verb.params if "--hold-out" in option.opts}
    assert set(found) == {"train", "build", "evaluate", "parity", "prove"}
    assert {option.default for option in found.values()} == {HOLD_OUT}
