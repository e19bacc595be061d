"""A folder's list tells what OctoRec wrote from everything else."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from octorec.output import marker
from octorec.output.marker import MARKER, foreign, mark


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a list, in which `inner` has a list of its own and `empty` holds nothing."""
    out = tmp_path / "out"
    for name in ("a.json", "deep/b.bin", "inner/c.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    (out / "empty").mkdir()
    mark(out / "inner")
    mark(out)
    return out


def test_what_was_written_is_not_foreign(folder: Path) -> None:
    assert foreign(folder) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda out: (out / "notes.txt").write_text("mine"), ["notes.txt"]),
        (lambda out: (out / "deep/notes.txt").write_text("mine"), ["deep/notes.txt"]),
        (lambda out: (out / "inner/notes.txt").write_text("mine"), ["inner/notes.txt"]),
        (lambda out: (out / "empty/notes.txt").write_text("mine"), ["empty/notes.txt"]),
        (lambda out: (out / "mine").mkdir(), ["mine"]),
        (lambda out: os.makedirs(out / "mine/deeper"), ["mine"]),
        (lambda out: (out / ".hidden").write_text("mine"), [".hidden"]),
        (lambda out: (out / "a.json").write_text("A.json"), ["a.json"]),
        (lambda out: (out / "link").symlink_to(out / "a.json"), ["link"]),
        (lambda out: (out / "link").symlink_to(out / "inner"), ["link"]),
        (lambda out: os.mkfifo(out / "pipe"), ["pipe"]),
        (lambda out: (out / MARKER).write_text("{"), [MARKER]),
        (lambda out: (out / MARKER).write_text('{"files": []}'), [MARKER]),
        (lambda out: ((out / MARKER).unlink(), (out / MARKER).symlink_to("a.json")), [MARKER]),
        (lambda out: (out / "a.json").unlink(), []),  # nothing is lost with it
    ],
)
def test_whatever_else_is_there_is_named(folder: Path, change: Callable[[Path], object], found: list[str]) -> None:
    change(folder)
    assert foreign(folder) == found


def test_a_large_file_is_known_by_its_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marker, "HASHED", 10)
    (folder / "large").write_bytes(b"x" * 11)
    mark(folder)
    assert json.loads((folder / MARKER).read_text())["files"]["large"] == {"bytes": 11}
    assert foreign(folder) == []
    (folder / "large").write_bytes(b"x" * 12)
    assert foreign(folder) == ["large"]


CATALOG = {"catalog.json": '{"format_version": 1, "fingerprint": "x"}', "items.parquet": "x"}
OLDER = {
    "catalog": CATALOG,
    "state": {"state.json": '{"step": 1}', "state.safetensors": "x"},
    "analysis": {"report.html": "<head><title>Numbers of bf16</title>", "stats.parquet": "x", "recipe.yaml": "x"},
    "trained": {
        "config.json": "{}", "model-00001-of-00001.safetensors": "x", "model.safetensors.index.json": "{}",
        "training.json": '{"train_config": {}}', **{f"catalog/{name}": text for name, text in CATALOG.items()},
    },
    "quantized": {
        "config.json": "{}", "model-00001-of-00001.safetensors": "x", "model.safetensors.index.json": "{}",
        "quantization.json": '{"recipe": "fp8", "tensors": [{"sqnr_db": 31.0}]}', "tokenizer.json": "{}",
    },
}  # fmt: skip


@pytest.fixture(params=OLDER)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder as OctoRec wrote it when it left no list."""
    for name, text in OLDER[request.param].items():
        (tmp_path / "older" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "older" / name).write_text(text)
    return tmp_path / "older"


def test_folders_without_a_list_are_known_by_their_kind(older: Path) -> None:
    assert foreign(older) == []
    (older / "data.csv").write_text("mine")
    assert foreign(older) == ["data.csv"]


def test_a_folder_in_an_older_one_is_foreign_unless_it_is_its_catalog(older: Path) -> None:
    (older / "recipe.yaml").unlink(missing_ok=True)
    (older / "recipe.yaml").mkdir()
    assert foreign(older) == ["recipe.yaml"]
    if (older / "catalog").exists():
        (older / "catalog" / "data.csv").write_text("mine")
        assert foreign(older) == ["catalog", "recipe.yaml"]


def test_names_alone_make_no_folder_ours(older: Path) -> None:
    """Such as a checkpoint of somebody else's, or a report with statistics."""
    for name in ("catalog.json", "state.json", "report.html", "training.json", "quantization.json"):
        if (older / name).exists():
            (older / name).write_text("of somebody else")
    assert foreign(older) == sorted(path.name for path in older.iterdir())


def test_an_empty_folder_holds_nothing_foreign(tmp_path: Path) -> None:
    assert foreign(tmp_path) == []
