"""Every verb with --force against every input of it, however it is spelt: nothing but OctoRec's own is replaced.

The folders are such that the verb could read them and OctoRec wrote them, so that only the rule in question protects.
"""

import dataclasses
import io
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
import typer

from octorec import terminal
from octorec.catalog.build import build_catalog
from octorec.cli import app as cli
from octorec.cli.command import run
from octorec.data.items import read_items
from octorec.demo.claim import claimed_demo
from octorec.errors import InputError
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.output.marker import foreign, mark
from octorec.output.write import new_folder

COMMAND: Any = typer.main.get_command(cli.app)
INPUTS = {
    "data": "in-data/data.csv", "items": "in-items/items.parquet", "users": "in-users/users.parquet",
    "config": "in-config/config.json", "recipe": "in-recipe/recipe.yaml", "index": "in-index/x.index.json",
    "catalog": "in-catalog/catalog", "base": "in-base/catalog", "checkpoint": "in-checkpoint/bf16",
    "vectors": "in-vectors/v.npy", "ids": "in-ids/ids.csv",
}  # fmt: skip
VERBS = {
    "train": "train --data {data} --catalog {catalog} --config {config} --users {users} --steps 1 --hold-out 0",
    "analyze": "analyze {checkpoint} --data {data} --users {users} --catalog {catalog}",
    "quantize": "quantize {checkpoint} --recipe {recipe}",
    "import": "import {checkpoint} --map {recipe} --config {config} --catalog {catalog} --parity {data}",
    "prove": "prove {checkpoint} --data {data} --recipe {recipe} --users {users}",
    "catalog build": "catalog build --data {data} --items {items} --codebook-sizes 4,4,4",
    "catalog assign": "catalog assign --catalog {catalog} --items {items}",
    "catalog build of embeddings": "catalog build --embeddings {vectors} --embedding-ids {ids} --codebook-sizes 4,4,4",
    "catalog upsert": "catalog upsert {catalog} --items {items} --withdraw {ids} --restore {index}",
    "catalog withdraw": "catalog withdraw {catalog} --items {ids}",
    "catalog restore": "catalog restore {catalog} --items {ids}",
    "catalog import": "catalog import --index {index} --items {items} --base {base}",
}
RECIPE = "name: mine\ngroups: [{targets: ['.*'], weights: channel, activations: token}]"
READ = [(verb, name) for verb, line in VERBS.items() for name in INPUTS if f"{{{name}}}" in line]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a kind of input, each with a list as if OctoRec had written it; and older results of every verb."""
    work = tmp_path_factory.mktemp("made")
    for name in INPUTS.values():
        (work / name).parent.mkdir()
    ids = [f"i{n}" for n in range(8)]
    rows = {"user_id": ["u1", "u2"] * 8, "item_id": ids * 2, "timestamp": list(range(16))}
    pyarrow.csv.write_csv(pa.table(rows), work / INPUTS["data"])
    vectors = [[float(n), float(n % 3)] for n in range(8)]
    pyarrow.parquet.write_table(pa.table({"item_id": ids, "vector": vectors}), work / INPUTS["items"])
    pyarrow.parquet.write_table(pa.table({"user_id": ["u1", "u2"]}), work / INPUTS["users"])
    (work / INPUTS["config"]).write_text('{"d_model": 32}')
    (work / INPUTS["recipe"]).write_text(
        "name: mine\ngroups: [{targets: ['.*'], weights: channel, activations: token}]"
    )
    (work / INPUTS["index"]).write_text('{"i1": ["<a_0>", "<b_1>"]}')
    np.save(work / INPUTS["vectors"], np.array(vectors, np.float32))
    pyarrow.csv.write_csv(pa.table({"item_id": ids}), work / INPUTS["ids"])
    catalog = build_catalog(None, read_items(work / INPUTS["items"]), (4, 4, 4))
    catalog.save(work / INPUTS["catalog"])
    catalog.save(work / INPUTS["base"])
    model = OneRecV2(dataclasses.replace(preset("tiny"), codebook_sizes=(4, 4, 4)))
    initialize(model, 0)
    with new_folder(work / INPUTS["checkpoint"]) as scratch:
        save(model, scratch, torch.bfloat16)
        catalog.save(scratch / "catalog")
    for name in INPUTS.values():
        if (work / name).is_dir():
            shutil.copytree(work / INPUTS["catalog"], work / name / "inner")  # one that OctoRec wrote
        mark((work / name).parent)
        assert foreign((work / name).parent) == []
    return work


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


def octorec(*arguments: object, expect: int = 0) -> str:
    """Run the command line in this process; what it says on stderr. `cli.main` would build all verbs each time."""
    err = io.StringIO()
    with redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal.console, "_file", err)
        with pytest.raises(SystemExit) as end:
            run(COMMAND, [str(argument) for argument in arguments])
    assert end.value.code == expect, err.getvalue()
    assert not expect or out.getvalue() == ""
    return err.getvalue()


def snapshot(work: Path) -> dict[str, bytes | str]:
    """Everything below a folder: bytes of files, where links lead."""
    found: dict[str, bytes | str] = {}
    for path in sorted(work.rglob("*")):
        name = str(path.relative_to(work))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else "folder"
    return found


def line_of(work: Path, verb: str, **instead: Path) -> list[str]:
    """The command line of a verb, but for --out. instead: inputs by another path."""
    paths = {name: work / path for name, path in INPUTS.items()} | instead
    return [part.format(**paths) for part in VERBS[verb].split()]


def refused(work: Path, verb: str, out: Path, **instead: Path) -> str:
    """Run a verb with --force; it must end with one line about --out, and leave every byte as it is."""
    before = snapshot(work)
    said = octorec(*line_of(work, verb, **instead), "--out", out, "--force", expect=2)
    assert said.startswith(f"error: out: got '{out}"[:180]), said
    assert said.count("\n") == 1
    assert snapshot(work) == before
    return said


@pytest.mark.parametrize(("verb", "name"), READ)
def test_no_input_is_replaced(work: Path, verb: str, name: str) -> None:
    path = work / INPUTS[name]
    said = refused(work, verb, path)
    assert "is what is read" in said or "is a file" in said
    assert "holds what is read" in refused(work, verb, path.parent)
    if path.is_dir():
        assert "lies in what is read" in refused(work, verb, path / "inner")
    (work / "links").mkdir()
    link = work / "links" / path.name
    link.symlink_to(path)
    mark(work / "links")  # a link within it stays foreign
    assert "holds" in refused(work, verb, work / "links", **{name: link})
    assert "is a link" in refused(work, verb, link)
    assert "holds what is read" in refused(work, verb, path.parent, **{name: link})


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_foreign_is_replaced(work: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(work / INPUTS["catalog"], work / "older")  # with something of a person's in it
    (work / "older" / "notes.txt").write_text("mine")
    (work / "photos").mkdir()
    (work / "photos" / "1.jpg").write_text("mine")
    (work / "inter.csv").write_text("mine")
    (work / "broken").symlink_to("nothing")
    shutil.copytree(work / INPUTS["catalog"], work / "here")
    (work / "above").mkdir()
    shutil.copytree(work / INPUTS["catalog"], work / "above" / "home")
    mark(work / "above")
    monkeypatch.chdir(work / "here")
    monkeypatch.setenv("HOME", str(work / "above" / "home"))
    for name, said in {
        "older": "holds notes.txt, which OctoRec did not write", "photos": "holds 1.jpg", "inter.csv": "is a file",
        "broken": "is a link", "here": "is or holds the current folder", "above": "is or holds your home folder",
        "above/home": "is or holds your home folder", "photos/..": "must name a folder",
        "inter.csv/out": "Not a directory", "a" * 300: "File name too long", "no/" + "a" * 300: "File name too long",
    }.items():  # fmt: skip
        assert said in refused(work, verb, work / name)
    refused(work, verb, Path("/proc/octorec/out"))
    refused(work, verb, Path("/"))
    refused(work, verb, Path(".."))


@pytest.mark.parametrize("verb", ["catalog build", "catalog assign", "catalog import"])
def test_what_octorec_wrote_is_replaced(work: Path, verb: str) -> None:
    """Also what another verb wrote, and an empty folder."""
    line = line_of(work, verb)
    if verb == "catalog import":
        line = line[:4]
    if verb == "catalog assign":
        pyarrow.parquet.write_table(pa.table({"item_id": ["i9"], "vector": [[1.0, 2.0]]}), work / INPUTS["items"])
    (work / "empty").mkdir()
    shutil.copytree(work / INPUTS["checkpoint"], work / "older")
    for name in ("empty", "older", "older"):
        octorec(*line, "--out", work / name, "--force")
        assert (work / name / "catalog.json").exists()
        assert not (work / name / "config.json").exists()


def test_the_state_of_a_training_is_claimed_too(work: Path) -> None:
    (work / "model.training").mkdir()
    (work / "model.training" / "notes.txt").write_text("mine")
    before = snapshot(work)
    for more in (["--force"], ["--resume"]):
        said = octorec(*line_of(work, "train"), "--out", work / "model", *more, expect=2)
        assert "model.training'; holds notes.txt" in said
        assert snapshot(work) == before


DEMO: dict[str, Callable[[Path], object]] = {
    "a file": lambda out: out.write_text("mine"),
    "a folder of somebody's": lambda out: (out.mkdir(), (out / "notes.txt").write_text("mine")),
    "a checkpoint of somebody's": lambda out: (os.makedirs(out / "bf16"), (out / "bf16/config.json").write_text("{}")),
    "a report of somebody's": lambda out: (out.mkdir(), (out / "report.html").write_text("<title>Mine")),
    "a link": lambda out: (out.mkdir(), (out / "fp8").symlink_to("..")),
}


@pytest.mark.parametrize("there", DEMO)
def test_the_demo_replaces_only_its_own(tmp_path: Path, there: str) -> None:
    DEMO[there](tmp_path / "out")
    before = snapshot(tmp_path)
    said = octorec("demo", "--out", tmp_path / "out", "--cache", tmp_path / "cache", "--force", expect=2)
    assert said.startswith(f"error: out: got '{tmp_path / 'out'}")
    assert snapshot(tmp_path) == before


def test_the_demo_leaves_alone_what_lies_beside_an_older_one(tmp_path: Path) -> None:
    """An older OctoRec wrote no lists of its files."""
    out = tmp_path / "out"
    for name, text in {
        "bf16/config.json": "{}", "bf16/training.json": '{"train_config": {}}', "notes.txt": "mine",
        "fp8/config.json": "{}", "fp8/quantization.json": '{"tensors": [{"sqnr_db": 30}]}',
        "analysis/report.html": "<title>Numbers of bf16", "report.html": "<title>OctoRec on MovieLens-100K</title>",
    }.items():  # fmt: skip
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    before = snapshot(tmp_path)
    with claimed_demo(out, True, tmp_path / "cache"):
        pass
    assert snapshot(tmp_path) == before
    with pytest.raises(InputError, match="exists already"), claimed_demo(out, False, tmp_path / "cache"):
        pass


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("name", ["catalog", "new"])
def test_nothing_is_written_into_a_checkpoint(work: Path, name: str, force: list[str]) -> None:
    shutil.copytree(work / INPUTS["checkpoint"], work / "other")
    before = snapshot(work)
    said = octorec(*line_of(work, "catalog build"), "--out", work / "other" / name, *force, expect=2)
    assert "exists already" in said or "OctoRec wrote as a whole" in said
    assert not force or "OctoRec wrote as a whole" in said
    assert snapshot(work) == before
