"""Every format says its version, and every reader refuses one that it does not know, by its name and in one line."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from benchmarks import records
from benchmarks.rows import AblationFailure
from octorec import formats
from octorec.catalog.catalog import Catalog
from octorec.engine.policy import BeamStarts
from octorec.engine.starts_file import read_starts, write_starts
from octorec.errors import InputError
from octorec.evaluate.online.experiment import parse_experiment
from octorec.evaluate.online.record import read_record, start
from octorec.formats import Format
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.offline.manifest import check_manifest, write_manifest
from octorec.output.write import new_folder
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_model
from octorec.training.config import TrainConfig
from octorec.training.trainer import Trainer
from tests.evaluate.online.recorded import SMALL
from tests.training.test_train_input import Nothing

MADE = Path(__file__).parent / "263567f"
DOCS = Path(__file__).parents[2] / "docs"
NONE = "no version"
NO_VERSIONS = ['"1"', '"new"', "1.0", "[1]", "{}", "null", "true", "false", "0", "-1"]
NEWER = ["+1", "1" + "0" * 40]  # the next one, and a huge one


def trainer() -> Trainer:
    model = OneRecV2(preset("tiny"))
    initialize(model, 0)
    return Trainer(model, Nothing(), TrainConfig())  # type: ignore[arg-type]


def write_16_bit(folder: Path) -> None:
    with new_folder(folder) as scratch:
        save(load_model(MADE / "bf16"), scratch, torch.bfloat16)


def write_catalog(folder: Path) -> None:
    codes = pa.array([[0, 1], [1, 0]], pa.list_(pa.int32()))
    Catalog.of_items(pa.table({"item_id": ["a", "b"], "codes": codes}), (2, 2)).save(folder)


def write_experiment(folder: Path) -> None:
    folder.mkdir()
    start(folder, parse_experiment(SMALL), {"control": ("m", "c"), "b": ("m", "c")}, 1_800_000_000.0)


def write_contents(folder: Path) -> None:
    with new_folder(folder) as scratch:
        (scratch / "x").write_text("x")


def replace_contents(folder: Path) -> None:
    with new_folder(folder, force=True) as scratch:
        (scratch / "y").write_text("y")


def write_widths(folder: Path) -> None:
    folder.mkdir()
    write_starts(folder / "model", BeamStarts({10: 64}), {})


def write_answers(folder: Path) -> None:
    folder.mkdir()
    write_manifest(folder, {"k": 10})


@dataclass(frozen=True)
class Written:
    """A format as it is written and read. file: where the version stands, below what `write` is given."""

    format: Format
    file: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]


WRITTEN = {
    "16 bit": Written(formats.CHECKPOINT, "octorec.json", write_16_bit, load_model),
    "FP8": Written(
        formats.CHECKPOINT,
        "octorec.json",
        lambda folder: quantize_checkpoint(MADE / "bf16", folder, "fp8-channel"),
        load_model,
    ),
    "catalog": Written(formats.CATALOG, "catalog.json", write_catalog, Catalog.load),
    "training": Written(
        formats.TRAINING, "state.json", lambda folder: trainer().save(folder), lambda folder: trainer().restore(folder)
    ),
    "experiment": Written(
        formats.EXPERIMENT, "one/record.json", write_experiment, lambda folder: read_record(folder / "one")
    ),
    "contents": Written(formats.CONTENTS, ".octorec.json", write_contents, replace_contents),
    "answers": Written(
        formats.OFFLINE, "_manifest.json", write_answers, lambda folder: check_manifest(folder, {"k": 10})
    ),
    "widths": Written(formats.WIDTHS, "model.widths.json", write_widths, lambda folder: read_starts(folder / "model")),
    "rows": Written(
        formats.ROWS,
        "rows.jsonl",
        lambda folder: records.append(folder / "rows.jsonl", AblationFailure("a step", "no")),
        lambda folder: records.read(folder / "rows.jsonl", AblationFailure),
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each format, under its name."""
    root = tmp_path_factory.mktemp("formats")
    for name, written in WRITTEN.items():
        written.write(root / name)
    return root


@pytest.fixture(params=WRITTEN)
def folder(request: pytest.FixtureRequest, made: Path, tmp_path: Path) -> tuple[Written, Path]:
    return WRITTEN[request.param], Path(shutil.copytree(made / request.param, tmp_path / "folder"))


def say(written: Written, folder: Path, version: str) -> None:
    """Let the file say `version`, a piece of JSON, or NONE."""
    path = folder / written.file
    about = {**json.loads(path.read_text()), written.format.key: "@"}
    if version == NONE:
        del about[written.format.key]
    path.write_text(json.dumps(about).replace('"@"', version))


def refused(written: Written, folder: Path) -> str:
    with pytest.raises(InputError) as error:
        written.read(folder)
    said = str(error.value)
    assert "\n" not in said
    assert written.file in said
    return said


def test_what_is_written_says_its_version_and_is_read(folder: tuple[Written, Path]) -> None:
    written, path = folder
    assert json.loads((path / written.file).read_text())[written.format.key] == written.format.newest
    written.read(path)


def test_a_file_without_a_version_is_of_the_first(folder: tuple[Written, Path]) -> None:
    written, path = folder
    say(written, path, NONE)
    if written.format.oldest == formats.FIRST:
        written.read(path)
    else:
        assert f"got 1; was written by an older OctoRec: {written.format.instead}" in refused(written, path)


@pytest.mark.parametrize("version", NEWER)
def test_a_newer_version_is_refused_with_what_to_do(folder: tuple[Written, Path], version: str) -> None:
    written, path = folder
    number = str(written.format.newest + 1) if version == "+1" else version
    say(written, path, number)
    said = refused(written, path)
    assert f"{written.format.key}: got {number}; was written by a newer OctoRec: upgrade" in said


@pytest.mark.parametrize("version", NO_VERSIONS)
def test_what_is_no_version_is_refused(folder: tuple[Written, Path], version: str) -> None:
    written, path = folder
    say(written, path, version)
    assert f"{written.format.key}: got {json.loads(version)!r}; must be an integer from 1 on" in refused(written, path)


@pytest.mark.parametrize("version", ["9" * 5000, "1e999", "NaN"])
def test_what_is_no_number_of_ours_is_refused(folder: tuple[Written, Path], version: str) -> None:
    written, path = folder
    say(written, path, version)
    assert len(refused(written, path)) < 1000


def test_a_folder_of_another_program_has_no_version_and_is_read(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "16 bit", tmp_path / "theirs"))
    for name in ("octorec.json", ".octorec.json"):
        (folder / name).unlink()
    load_model(folder)
    quantize_checkpoint(folder, tmp_path / "fp8", "fp8-channel")
    assert json.loads((tmp_path / "fp8/octorec.json").read_text())["format"] == formats.CHECKPOINT.newest
    assert not (folder / "octorec.json").exists()


def test_the_files_of_a_checkpoint_are_known_as_ours_without_the_list(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "FP8", tmp_path / "copied"))
    (folder / ".octorec.json").unlink()
    replace_contents(folder)
    assert (folder / "y").exists()


def test_no_format_is_left_out_here() -> None:
    tested = {id(written.format) for written in WRITTEN.values()}
    assert tested == {id(value) for value in vars(formats).values() if isinstance(value, Format)}


def test_the_page_names_every_format_with_its_version() -> None:
    rows = re.findall(r"^\| .* \| `(\S+)` \| `(\w+)` \| (\d+) \|$", (DOCS / "files.md").read_text(), re.M)
    named = {Path(file).name: (key, int(version)) for file, key, version in rows}
    for written in WRITTEN.values():
        said = [about for file, about in named.items() if fnmatch(Path(written.file).name, file)]
        assert said == [(written.format.key, written.format.newest)], written.file
